"""Imports go down the layers of docs/design.md, and heavy packages are imported where they are used."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest
from helpers.commands import python, run_process
from helpers.paths import ROOT

PACKAGE = ROOT / "qrft"
LAYERS = [
    {
        "errors",
        "machine",
        "processes",
        "progress",
        "data.schema",
        "data.disk",
        "config.section",
        "grading.traces",
        "studies.registry",
    },
    {
        "grading.rules",
        "models.wording",
        "models.gguf.quant",
        "sampling.api",
        "sampling.budget",
        "sampling.backends.registry",
    },  # settings
    {"config", "pipeline.store", "pipeline.cost", "data", "grading", "models"},
    {"models.gguf", "models.find", "sampling", "evaluation"},
    {"training", "report"},
    {"studies"},
    {"pipeline.stages", "commands"},
    {"browse"},
    {"pipeline"},
    {"planning"},
    {"cli"},
    {"__main__"},
]
HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "llama_cpp", "gguf", "huggingface_hub"}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.stat().st_size)


def layer(module: str) -> int:
    """Of the longest listed name that the module's begins with."""
    layers = {name: number for number, names in enumerate(LAYERS) for name in names}
    return layers[max((name for name in layers if f"{module}.".startswith(f"{name}.")), key=len)]


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


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("qrft."):
            other = name.removeprefix("qrft.")
            assert layer(other) <= layer(own), f"{own} imports {name}, which lies above it"


def modules() -> dict[str, Path]:
    """Each file by the name of its module."""
    names = {path: path.relative_to(ROOT).with_suffix("").parts for path in PACKAGE.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): path for path, parts in names.items()}


def circles(imported: Mapping[str, set[str]]) -> list[list[str]]:
    """The imports that come back to where they start, each once: a list of modules that import one after the other."""
    found, done = [], set[str]()

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for other in sorted(imported[module]):
                visit(other, [*way, module])
            done.add(module)

    for module in sorted(imported):
        visit(module, [])
    return found


def test_the_layers_name_what_there_is() -> None:
    names = {module.removeprefix("qrft.") for module in modules()}
    assert set().union(*LAYERS) <= names, "a layer names a file or package that is gone"


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports inside functions count too: where they hide a circle, something lies in the wrong file."""
    files = modules()
    imported = {
        module: {name if name in files else name.rpartition(".")[0] for name in imports(path)} & files.keys() - {module}
        for module, path in files.items()
    }
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
    assert sum(map(len, imported.values())) > 500, "the imports are seen"
    assert circles(imported) == []


def test_no_stage_imports_another() -> None:
    stages = {p.stem for p in (PACKAGE / "pipeline" / "stages").glob("*.py")} - {"__init__"}
    for path in (PACKAGE / "pipeline" / "stages").glob("*.py"):
        assert not {name for name in imports(path) if name.startswith("qrft.pipeline.stages.")} & {
            f"qrft.pipeline.stages.{stage}" for stage in stages
        }


def test_the_command_line_starts_without_heavy_packages() -> None:
    modules = "qrft.cli.main, qrft.cli.actions, qrft.cli.console, qrft.pipeline.flow"
    code = f"import sys, {modules}; print({HEAVY!r} & set(sys.modules))"
    done = run_process(python(code))
    assert done.stdout.strip() == "set()"
