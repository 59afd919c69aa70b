"""A bundle's runner: checks the bundle it lies in, then answers images. It needs Python 3.11, numpy and one runtime.

    python -m bundle check [--key pub.pem]
    python -m bundle infer IMAGE... [--json] [--out FOLDER]
    python -m bundle serve [--port 8080]

    from bundle import Model
    with Model("path/of/the/bundle") as model:
        outputs = model.predict(images)

Nothing is imported here, not even from the standard library: `python -m bundle` runs this file first, while the current folder still comes
before the standard library, and a stray `json.py` beside `bundle/` would be taken for Python's own.
"""

_HOMES = {"Model": ".model", "Refused": ".errors", "WrongInput": ".errors"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name], __name__), name)
