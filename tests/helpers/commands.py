"""Run qrft as people do: its commands in this process, or in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from helpers.paths import ROOT

from qrft.cli.main import main


def run_qrft(*words: object) -> Result:
    """Run a command, which must succeed, and return what it printed."""
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def facts_of(*words: object) -> Any:
    """Return what a command prints with --json."""
    return json.loads(run_qrft(*words, "--json").stdout)


def fails(code: int, *words: object, has_begun: bool = False) -> str:
    """Run a command, which must end with the exit code and one message; return the message.

    A command that has begun its work may have printed before.
    """
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert isinstance(done.exception, SystemExit), done.exception  # and so no traceback
    assert done.exit_code == code, done.output
    assert has_begun or done.stdout == ""
    assert done.stderr.count("Error: ") == 1 and "Traceback" not in done.output
    return done.stderr.partition("Error: ")[2].strip()


def fails_at_once(code: int, *words: object) -> str:
    """Do as `fails`; the command must not have written anything to the working folder."""
    before = sorted(Path().rglob("*"))
    message = fails(code, *words)
    assert sorted(Path().rglob("*")) == before
    return message


def environment(**changes: str) -> dict[str, str]:
    """Return the variables of a process that finds qrft from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def command_line(*words: object) -> list[str]:
    """Return what starts a command in a process of its own."""
    return [sys.executable, "-m", "qrft", *map(str, words)]


def python(code: str, *words: object) -> list[str]:
    """Return what starts code in a process of its own; the words are its arguments."""
    return [sys.executable, "-c", textwrap.dedent(code), *map(str, words)]


def run_process(command: list[str], code: int = 0, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a process, with changes to its variables; it must end with the exit code. Return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**changes))
    assert done.returncode == code, done.stdout + done.stderr
    return done


def start_process(command: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a process in a group of its own."""
    return subprocess.Popen(command, text=True, env=environment(), start_new_session=True, **options)
