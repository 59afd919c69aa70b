"""Latency, memory, MACs and the machine they were taken on."""
