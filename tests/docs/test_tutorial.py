"""The tutorial's commands, one after another, on fewer problems."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from helpers.commands import run_qrft
from helpers.paths import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
FEWER = {"num_train: 200": "num_train: 8", "num_test: 300": "num_test: 6", "num_epochs: 16": "num_epochs: 4"}
STAYS = "qrft browse"  # until Ctrl-C; it has tests of its own


@pytest.mark.slow
def test_the_tutorial_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]
    for many, few in FEWER.items():
        assert many in recipe
        recipe = recipe.replace(many, few)
    Path("first.yaml").write_text(recipe)
    ran = []
    for line in re.findall(r"^qrft .*$", PAGE, re.MULTILINE):
        if not line.startswith(STAYS):
            run_qrft(*shlex.split(line, comments=True)[1:])
            ran.append(line.split()[1])
    assert ran == ["--version", "plan", "run", "run", "evaluate", "ask", "export"]
    assert Path("runs/first/report.html").is_file() and Path("first-model/config.json").is_file()
