"""One dict, rendered as JSON and as HTML."""
