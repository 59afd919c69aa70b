"""One file for each signal that says what a channel is worth."""
