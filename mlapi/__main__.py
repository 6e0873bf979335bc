"""`python -m mlapi` is `mlapi`."""

from mlapi.cli import main

main()
