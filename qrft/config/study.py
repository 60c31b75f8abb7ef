"""What a study's claims compare and its recipe must vary: else all is trained before it shows that nothing is told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from qrft.config import sweep
from qrft.config.yaml_lines import KeyPath

# The keys whose values the claims of qrft.studies.claims compare.
SWEPT = {
    "data-fraction": ("problems.train_fraction",),
    "num-samples": ("sample.num_samples", "curate.dedup"),
    "pooling": ("curate.pool", "sample.num_samples"),
    "selection": ("curate.keep", "grade.order"),
    "budget": ("sample.until",),
    "rounds": ("rounds",),
}
NUM_MODELS = {"gain": 2, "pretraining-loss": 3}  # of a slope, and of an R²
WITHOUT_RFT = ("data-fraction", "pretraining-loss")


def study_faults(values: Mapping[str, Any], keys: Sequence[str]) -> Iterator[tuple[KeyPath, str]]:
    """Why the study among a recipe's values, which need not be valid otherwise, could tell nothing of a claim."""
    study, given = values.get("study"), values.get("sweep")
    if study not in (*SWEPT, *NUM_MODELS):
        return
    swept = {path for key in (given if isinstance(given, dict) else ()) for path in sweep.matches(str(key), keys)}
    for found, allowed in _lacks(study, swept, values):
        yield ("study",), f"found {study}{found}. Allowed: with {allowed}, or no study"


def _lacks(study: str, swept: Collection[str], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was found, and what would do."""
    if missing := [path for path in SWEPT.get(study, ()) if path not in swept]:
        yield f", but no sweep of {' and of '.join(missing)}", f"{' and '.join(missing)} in sweep"
    is_of_rft = study not in WITHOUT_RFT
    least, num_models = NUM_MODELS.get(study, 0), _num_models(values, is_of_rft)
    if num_models < least:
        gets_rft = f" that {'gets' if num_models == 1 else 'get'} RFT" if is_of_rft else ""
        yield f" with {num_models} model{'s' * (num_models > 1)}{gets_rft}", f"{least} or more"
    if is_of_rft and "rounds" not in swept and values.get("rounds") == 0:
        yield " with rounds 0, which leaves RFT out", "rounds from 1 on"


def _num_models(values: Mapping[str, Any], with_rft: bool) -> int:
    models, rft = values.get("models"), values.get("rft")
    tuned = rft.get("models") if isinstance(rft, dict) and with_rft else None
    chosen = tuned if isinstance(tuned, list) else models
    return len(chosen) if isinstance(chosen, dict | list) and chosen else 1
