"""Whether a recipe varies what the claims of its study compare; otherwise all its training would be for nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from qrft.config import sweep
from qrft.config.yaml_lines import KeyPath
from qrft.studies.registry import STUDIES, Study


def study_faults(values: Mapping[str, Any], keys: Sequence[str]) -> Iterator[tuple[KeyPath, str]]:
    """Yield why the study could say nothing about a claim. The recipe's other values need not be valid."""
    name, given = values.get("study"), values.get("sweep")
    if not isinstance(name, str) or name not in STUDIES:
        return
    swept = {path for key in (given if isinstance(given, dict) else ()) for path in sweep.matches(str(key), keys)}
    for lack, remedy in _lacks(STUDIES[name], swept, values):
        yield ("study",), f"found {name}{lack}. Allowed: {remedy}, or study null"


def _lacks(study: Study, swept: Collection[str], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the recipe lacks, and what would be enough."""
    if missing := [path for path in study.swept if path not in swept]:
        yield f" without a sweep of {' and of '.join(missing)}", f"a sweep with {' and '.join(missing)}"
    num_models = _num_models(values, study.has_rft)
    if num_models < study.num_models:
        gets_rft = f" that {'gets' if num_models == 1 else 'get'} RFT" if study.has_rft else ""
        yield f" with {num_models} model{'s' * (num_models > 1)}{gets_rft}", f"{study.num_models} models or more"
    if study.has_rft and "rounds" not in swept and values.get("rounds") == 0:
        yield " with rounds 0, which leaves RFT out", "rounds 1 or more"


def _num_models(values: Mapping[str, Any], with_rft: bool) -> int:
    models, rft = values.get("models"), values.get("rft")
    tuned = rft.get("models") if isinstance(rft, dict) and with_rft else None
    chosen = tuned if isinstance(tuned, list) else models
    return len(chosen) if isinstance(chosen, dict | list) and chosen else 1
