"""Take a trained PyTorch model to a smaller, faster, verified artifact for the machine that will run it."""

from optimize.offline import go_offline

REPORTING = go_offline()
"""Libraries that a program imported before this package, with their telemetry on; empty where this package came first."""
