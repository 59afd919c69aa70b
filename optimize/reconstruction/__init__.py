"""A layer as a ridge regression: what it reads, what it should give, and the weights that give it best."""
