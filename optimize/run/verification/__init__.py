"""Whether a folder is what its report says, who signed it, and whether the model in it still computes the same."""
