"""`python -m optimize`: the command, for launchers that start a module."""

from __future__ import annotations

from optimize.cli import main

if __name__ == "__main__":
    main(prog_name="optimize")
