"""`python -m tinyllm` is the command `tinyllm`."""

from .cli import main

main()
