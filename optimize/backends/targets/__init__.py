"""One module for each target. A module in this folder is found by its file name: nothing else lists it.

The file `some_target.py` is the target `some-target`. It offers the verbs of `optimize.backends.Backend`, the constant `NAME` and a
`DESCRIPTION`. Importing it must import neither its runtime nor torch: both are imported by the functions that need them.
"""
