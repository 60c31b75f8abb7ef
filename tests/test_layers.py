"""Imports go down the layers of docs/design.md, and heavy packages are imported where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "qrft"
LAYERS = [
    {"errors", "schema"},
    {"recipe", "recipe_sections", "recipe_training", "recipe_pretrain", "recipe_study", "recipe_faults"}
    | {"yaml_lines", "sweep"}
    | {"store", "files", "prompts", "core", "models", "machine", "cost"},
    {"problems", "samples", "sampling", "training", "gguf", "stats", "votes", "report", "studies"},
    {"stages", "commands"},
    {"steps", "answering", "lane", "pipeline"},
    {"planning"},
    {"console", "run"},
    {"cli", "options", "__main__"},
]
HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "llama_cpp", "gguf", "huggingface_hub"}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.name != "__init__.py" or p.stat().st_size)


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def imports(path: Path) -> set[str]:
    """The names of all modules imported anywhere in a file, but for type checking."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    if own == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "qrft" and len(parts) > 1 and parts[1] != own:
            assert layer(parts[1]) <= layer(own), f"{own} imports {name}, which lies above it"
            assert not (own == "stages" and parts[1] == "stages")


def test_no_stage_imports_another() -> None:
    stages = {p.stem for p in (ROOT / "stages").glob("*.py")} - {"__init__"}
    for path in (ROOT / "stages").glob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[:2] == ["qrft", "stages"]} & {
            f"qrft.stages.{stage}" for stage in stages
        }


def test_the_command_line_starts_without_heavy_packages() -> None:
    code = f"import sys, qrft.cli, qrft.pipeline, qrft.run, qrft.console; print({HEAVY!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
