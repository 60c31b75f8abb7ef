"""`python -m qrft`."""

from qrft.cli import main

main(prog_name="qrft")
