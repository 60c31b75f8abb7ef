"""The stages: one file each, a plain function `(inputs, out, config, progress) -> report`.

`inputs` maps names to artifact folders (or a person's own files), `out` is an empty folder to fill; `out / "partial"`
outlives a crash and is dropped at the end. No stage imports another.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Config = Mapping[str, Any]
Inputs = Mapping[str, Path]
Progress = Callable[[int, int, str], None]  # done, total, a note such as "loss 0.312"
Report = dict[str, Any]  # small facts for the manifest
