"""How preference pairs are written: the settings alone, so that `qrft curate --help` need not import Arrow."""

from __future__ import annotations

from pydantic import Field

from qrft.config.section import Count, Section
from qrft.models.prompts import PROMPT, Prompt


class Pairing(Section):
    """How pairs are written."""

    pairs_per_problem: Count = Field(default=4, description="The most pairs to write per problem.")
    prompt: Prompt = PROMPT


DEFAULT_PAIRING = Pairing()
