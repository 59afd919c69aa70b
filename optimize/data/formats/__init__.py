"""The formats in which data can be passed to `--data` or `load_data`: one module a format, found by looking into this folder.

A module defines what `optimize.data.sources.DataFormat` lists. `docs/extending/data_format.md` writes one.
"""
