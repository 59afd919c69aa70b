"""Choice of the precision that ships, and of the layers of an int8 model that stay in float."""
