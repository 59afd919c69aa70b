"""Merge operators: what is left in the place of channels that go."""
