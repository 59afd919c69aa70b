"""Take a trained PyTorch model to a smaller, faster, verified artifact for the machine that will run it."""

from optimize.hardware.offline import REPORTING

__all__ = ("REPORTING",)
