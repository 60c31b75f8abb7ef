"""How preference pairs are written: the settings alone, so that `qrft curate --help` need not import Arrow."""

from __future__ import annotations

from pydantic import Field

from qrft.config.section import Count
from qrft.models.wording import Wording


class Pairing(Wording):
    """How pairs are written."""

    pairs_per_problem: Count = Field(default=4, description="The most pairs to write per problem.")


DEFAULT_PAIRING = Pairing()
