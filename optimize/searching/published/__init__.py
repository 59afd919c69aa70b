"""The founding study's two searches, stepwise and local, and the rules that they go by."""
