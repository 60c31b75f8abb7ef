"""The pages say what is so: every command on them is one, every link leads somewhere, and the tutorial's are run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from helpers.paths import ROOT

from qrft.cli.main import main

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "recipes").rglob("*.md")])
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def commands(page: Path) -> list[str]:
    """Return the lines of a page's blocks that start qrft, a line that goes on put together."""
    blocks = "\n".join(FENCE.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
    return re.findall(r"^(?:\w+=\S+ )*(qrft .*)$", blocks, re.MULTILINE)


ALL = [(page, command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(("page", "command"), ALL, ids=[f"{page.name}: {command[:50]}" for page, command in ALL])
def test_a_command_on_a_page_is_one(page: Path, command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    words = words[: words.index("|")] if "|" in words else words
    if not words or words[0] in ("--version", "--help"):
        return
    name, arguments = words[0], words[1:]
    found = main.commands.get(name)
    assert found is not None, f"there is no command {name}"
    if {"--help", "-h"} & set(arguments):
        return
    try:
        found.make_context(name, arguments)
    except click.UsageError as error:
        pytest.fail(error.format_message())


def test_there_are_commands() -> None:
    assert len(ALL) > 40 and {page.name for page, _ in ALL} >= {"README.md", "tutorial.md", "commands.md", "export.md"}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_a_link_leads_to_a_file(page: Path) -> None:
    links = LINK.findall(re.sub(FENCE, "", page.read_text(encoding="utf-8")))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "<h1" in (tmp_path / "tutorial" / "index.html").read_text()
