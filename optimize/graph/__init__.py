"""Where each channel is, which channels must be cut together, cutting them in a copy, and counting operations."""
