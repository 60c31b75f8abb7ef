"""To add a sampler is to write a file and to give it a line: the recipe's keys, the options and the run follow."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.commands import python, run_process
from helpers.paths import TINY

TOY = """
from pydantic import Field

from qrft.config.section import Section
from qrft.sampling.api import Completion, Stats


class Settings(Section):
    word: str = Field(default="7", description="What it always says.")


RUNTIME_KEYS, REQUIRED_KEYS, READS = frozenset(), (), "folder"


class Toy:
    def __init__(self, word):
        self.word, self.stats = word, Stats()

    def generate(self, requests, params, eos_ids):
        for request in requests:
            for i in range(request.num_samples):
                name = request.problem_id, request.first_sample + i
                yield Completion(*name, [], "stop", float("nan"), f"#### {self.word}", 1)

    def close(self):
        pass


def open_model(model, settings, *, work=None, n_threads=None):
    return Toy(settings.word)
"""
# Read the registry with the line that a person would add to it, before anything else imports it.
WITH_THE_LINE = """
import importlib.util, sys
import qrft.sampling.backends
spec = importlib.util.find_spec("qrft.sampling.backends.registry")
source = spec.loader.get_source(spec.name).replace("SAMPLERS = {", "SAMPLERS = {'toy': 'toy',")
registry = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = qrft.sampling.backends.registry = registry
exec(compile(source, spec.origin, "exec"), registry.__dict__)
"""


def test_a_file_and_a_line_add_a_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.py").write_text(TOY)
    Path("p.jsonl").write_text('{"question": "How many are 3 and 4?", "answer": "7"}\n')
    script = f"""{WITH_THE_LINE}
from qrft.cli.main import main
from qrft.config.load import load
sample = load({str(TINY)!r}, ["gguf={{}}", "sample.sampler=toy", "sample.word=eight"]).sample
assert (sample.sampler, sample.word) == ("toy", "eight")
main("sample tiny-base --problems p.jsonl -k 2 --sampler toy --word seven --json".split(), standalone_mode=False)
"""
    facts = json.loads(run_process(python(script)).stdout)
    assert facts["num_samples"] == 2
    made = pq.read_table("samples/shard-000000.parquet")
    assert made["completion"].to_pylist() == ["#### seven"] * 2
