"""Which precision ships, and which layers of an int8 model stay in float."""
