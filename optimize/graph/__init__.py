"""The channels of a network: where each is, which must be cut together, cutting them in a copy, and counting operations."""
