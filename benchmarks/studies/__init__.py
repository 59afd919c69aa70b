"""One study per file; each runs as `python -m benchmarks.studies.NAME`."""
