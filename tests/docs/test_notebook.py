"""The notebook runs from its first cell to its last, without a GPU, on fewer problems."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.paths import ROOT


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient, nbformat and ipykernel are not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient, nbformat and ipykernel are not installed")
    pytest.importorskip("ipykernel", reason="nbclient, nbformat and ipykernel are not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / "first-rft.ipynb", as_version=4)
    sources = [cell.source for cell in notebook.cells]
    assert any("NUM_PROBLEMS = 200" in source for source in sources)
    for cell in notebook.cells:
        cell.source = cell.source.replace("NUM_PROBLEMS = 200", "NUM_PROBLEMS = 8").replace("epochs: 16", "epochs: 4")
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "base " in shown and "rft " in shown and (tmp_path / "runs/first/report.html").is_file()
