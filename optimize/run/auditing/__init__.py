"""What is redundant in a network, layer by layer, and which method suits each layer: the parts of `optimize audit`."""
