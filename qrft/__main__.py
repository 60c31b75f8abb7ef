"""`python -m qrft`."""

from qrft.cli.main import main

main(prog_name="qrft")
