"""The studies by name, each with what its recipe must vary.

To add one, give it a line here and a function in qrft.studies.claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from qrft.studies.finding import Finding


@dataclass(frozen=True)
class Study:
    """What a study's claims compare. It is checked first: otherwise a sweep could be trained that decides no claim."""

    claims: str  # the function of qrft.studies.claims
    swept: tuple[str, ...] = ()  # keys of the recipe that its sweep must have
    num_models: int = 1  # at least so many: two for a slope, three for an R²
    has_rft: bool = True


STUDIES = {
    "data-fraction": Study("data_fraction", swept=("problems.train_fraction",), has_rft=False),
    "num-samples": Study("num_samples", swept=("sample.num_samples", "curate.dedup")),
    "gain": Study("gain", num_models=2),
    "pooling": Study("pooling", swept=("curate.pool", "sample.num_samples")),
    "pretraining-loss": Study("pretraining_loss", num_models=3, has_rft=False),
    "selection": Study("selection", swept=("curate.keep", "grade.order")),
    "budget": Study("budget", swept=("sample.until",)),
    "rounds": Study("rounds", swept=("rounds",)),
}

if TYPE_CHECKING:
    StudyName = str
else:
    StudyName = Literal[tuple(STUDIES)]


def claims(study: str) -> Callable[[Sequence[Mapping[str, Any]]], Iterator[Finding]]:
    """Return the function that makes a study's findings from the rows of its sweep."""
    module = import_module("qrft.studies.claims")
    function: Callable[[Sequence[Mapping[str, Any]]], Iterator[Finding]] = getattr(module, STUDIES[study].claims)
    return function
