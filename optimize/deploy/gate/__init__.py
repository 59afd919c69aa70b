"""Decide whether a candidate may replace a baseline: a sequential test of latency with known error rates."""
