"""The formats in which a model's weights can be read: one module a format, found by looking into this folder.

A module defines what `optimize.loading.model_formats.ModelFormat` lists. `docs/extending/model_format.md` writes one.
"""
