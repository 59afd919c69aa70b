"""A layer as a ridge regression: the rows it reads, the outputs it should give, and the weights that give them best."""
