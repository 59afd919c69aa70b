"""Recovery training: which items, on which device, in how many processes, towards what, by which rule."""
