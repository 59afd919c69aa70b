"""`python -m bundle`: compares the runner's own sources with the manifest before it imports any of them, then runs the command.

Only `sys` is imported at the top, since it is built into the interpreter: no file in the current folder can stand in for it.
"""

import sys


def start() -> int:
    """Return the exit code: 0 done, 2 wrong call or image, 4 refused."""
    if sys.version_info < (3, 11):  # noqa: UP036  an older Python reads this file too
        print(f"bundle: refused: Python is {sys.version.split()[0]}, required is 3.11: install a later one.", file=sys.stderr)
        return 4
    # `python FOLDER/bundle` and `python bundle/__main__.py` start this file as no part of a package
    if not __package__:
        print("bundle: it was started by the path of a file or folder: call `python -m bundle` in the bundle's folder.", file=sys.stderr)
        return 2
    folder = __file__.replace("\\", "/").rpartition("/")[0]
    root = folder.rpartition("/")[0]
    # `python -m` puts the current folder first. In a bundle that folder holds data, and no module may come from it.
    current = [] if sys.flags.safe_path else sys.path[:1]
    sys.path[:] = [path for path in sys.path if path not in (*current, "", root)]
    try:
        from .sources import altered

        line = altered(folder)
    except Exception as problem:  # a damaged byte in that file may raise anything
        line = f"`sources.py` of the runner is damaged ({type(problem).__name__}): copy the bundle again."
    if line is not None:
        print(f"bundle: refused: {line}", file=sys.stderr)
        return 4
    from .command import main

    return main(sys.argv[1:])


# There is no `if __name__ == "__main__"`: with one damaged byte in it this file would do nothing, and end with exit code 0.
raise SystemExit(start())
