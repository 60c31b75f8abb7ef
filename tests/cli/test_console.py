"""The bar of a run and of a training."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from qrft.cli.console import Terminal
from qrft.training.watch import Watch


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_all_that_training_tells(width: int) -> None:
    out = io.StringIO()
    terminal = Terminal(Console(file=out, force_terminal=True, width=width))
    with terminal.bar("sft/train") as progress:
        assert "None" not in out.getvalue()
        told = Watch(progress, [4000] * 12345)
        told.last_loss, told.num_real, told.num_computed = 14.604, 97, 100
        told._start -= 4000
        told.report(12000)
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", out.getvalue())
    last = next(line for line in reversed(shown.splitlines()) if "12000/12345" in line)
    for part in ("sft/train", "loss 14.6, ", "12,0", " tokens/s", "3% padding", "GiB"):
        assert part in last
    assert len(last) <= width
