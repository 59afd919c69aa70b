"""The jobs behind the commands, each from its checked settings to its report."""
