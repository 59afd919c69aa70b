"""Which channel is where, what must be cut together, cutting it in a copy, and how much a network computes."""
