"""What is installed: versions, builds and requirements, read from the packages' files without importing them."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

TESTED = "constraints.txt"  # beside the code in a wheel, above it in a checkout

Version = tuple[int, ...]


class Build(NamedTuple):
    """An installed package: its version, and the CUDA that it was built for; None for the processor alone."""

    version: str
    cuda: Version | None


def torch_build() -> Build | None:
    """Return the installed torch, read from its version.py: to import it takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = (Path(spec.origin).parent / "version.py").read_text()
    named = re.search(r"^__version__ = '(.+)'", text, re.M)
    cuda = re.search(r"^cuda.*= '(.+)'", text, re.M)
    return Build(named[1] if named else "", numbers(cuda[1]) if cuda else None)


def bitsandbytes_libraries() -> list[Version]:
    """Return the versions of CUDA that bitsandbytes has a library for."""
    spec = importlib.util.find_spec("bitsandbytes")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    names = [file.stem for file in folder.glob("libbitsandbytes_cuda*.so")] if folder else []
    found = (re.search(r"cuda(\d\d)(\d+)$", name) for name in names)
    return sorted((int(match[1]), int(match[2])) for match in found if match)


def required() -> dict[str, str]:
    """Return what qrft itself requires, such as torch>=2.6, by the names of the packages."""
    from packaging.requirements import Requirement

    found = [Requirement(line) for line in requires("qrft") or ()]
    return {wanted.name: str(wanted) for wanted in found if wanted.marker is None}


def tested() -> dict[str, str]:
    """Return the versions that were tested, by the names of the packages."""
    file = tested_file()
    lines = file.read_text().splitlines() if file else []
    pinned = [line.partition("==") for line in lines if "==" in line]
    return {name.lower().replace("_", "-"): found for name, _, found in pinned}


def tested_file() -> Path | None:
    """Return the file of the tested versions."""
    package = Path(__file__).parents[1]
    return next((folder / TESTED for folder in (package, package.parent) if (folder / TESTED).is_file()), None)


def requirement(name: str) -> str:
    """Return what qrft requires of a package, or just its name."""
    return required().get(name, name)


def installed(name: str) -> str | None:
    """Return the version of a package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pip() -> str:
    """Return how pip is called for the Python that runs qrft."""
    found = shutil.which("pip")
    is_own = found is not None and Path(found).parent == Path(sys.executable).parent
    return "pip" if is_own else f"{shlex.quote(sys.executable)} -m pip"


def numbers(text: str) -> Version:
    """Return 12.4 as (12, 4)."""
    return tuple(int(word) for word in re.findall(r"\d+", text)[:2])
