"""The files of the C core include each other in one direction, so that none calls another in a circle.

Every function that crosses files is declared in its own file's header (the compiler's -Wmissing-prototypes sees to it),
so the include lines tell who may call whom.
"""

from __future__ import annotations

import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "csrc"
FOLDERS = {"answer", "equation", "pick", "select", "sound", "text"}
SOURCES = [p for p in ROOT.rglob("*") if p.suffix in (".c", ".h", ".inc") and p.parent.name not in ("tests", "fuzz")]


def includes(path: Path) -> list[str]:
    """The core's own headers that a file includes, by their paths below csrc."""
    return re.findall(r'^#include "(.+)"$', path.read_text(encoding="utf-8"), re.MULTILINE)


def unit(path: str) -> str:
    """A header, its source and what the source includes piecewise are one file cut into parts."""
    return path.rpartition(".")[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_uses_its_own_files_and_text_only(path: Path) -> None:
    folder = path.parent.name if path.parent != ROOT else None
    allowed = FOLDERS if folder is None else {folder, "text"}
    for name in includes(path):
        assert (ROOT / name).is_file(), f"{path.name} includes {name}, which is not in csrc/"
        assert "/" not in name or name.split("/")[0] in allowed, f"{path.relative_to(ROOT)} must not include {name}"
        assert name != "qrft_api.h" or path.name == "qrft.h", "C code includes qrft.h, which includes qrft_api.h"


def test_no_file_includes_another_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        own = unit(str(path.relative_to(ROOT)))
        graph.setdefault(own, set()).update(unit(name) for name in includes(path) if unit(name) != own)
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_a_source_includes_its_own_header() -> None:
    for path in SOURCES:
        header = str(path.relative_to(ROOT).with_suffix(".h"))
        if path.suffix == ".c" and (ROOT / header).is_file():
            assert header in includes(path), f"{path.relative_to(ROOT)} must include {header}"
