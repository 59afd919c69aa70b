"""Compressed by `optimize`, and by what is usually put together instead: same models, data, guard-rails and machine; see `__main__.py`."""
