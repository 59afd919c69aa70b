"""One module a subcommand of `python -m bundle`; the name of the file is its name."""
