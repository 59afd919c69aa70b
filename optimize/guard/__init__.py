"""Limits, scores and verdicts."""
