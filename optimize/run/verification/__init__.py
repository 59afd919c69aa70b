"""Check that a folder is what its report says, who signed it, and that its model still computes the same."""
