"""Read the JSON files of a model's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qrft.errors import ModelError


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file. Raises ModelError when the file is missing or is not a JSON object."""
    if not path.is_file():
        raise ModelError(f"{path}: not found. Expected a Hugging Face folder that holds {path.name}; check the path.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not JSON ({error}). Copy or download the folder again.") from error
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror}). Copy or download the folder again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}, expected an object. Download the folder again.")
    return content
