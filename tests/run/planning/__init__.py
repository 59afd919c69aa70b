"""Tests of what is known of a run before it starts."""
