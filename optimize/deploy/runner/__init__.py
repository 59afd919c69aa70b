"""The package that is copied into every bundle as `bundle/`: it needs numpy and the runtime, and imports nothing of optimize."""
