"""Prompts that open a reasoning trace: what samples count as, what is refused, and which settings reach the sampler."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.paths import ROOT

from qrft.config.load import load
from qrft.config.training import Training
from qrft.data.schema import PROBLEMS, SAMPLES
from qrft.data.training_rows import Row
from qrft.errors import DataError, UsageError
from qrft.grading.rules import KeepOrDrop, Rules
from qrft.grading.traces import TRACES, Traces
from qrft.models import prompts
from qrft.models.find import BUILTIN
from qrft.models.wording import Prompt, Wording
from qrft.pipeline.flow import plan
from qrft.pipeline.stages.sample import _check_traces
from qrft.sampling.api import SamplingParams
from qrft.sampling.backends import registry
from qrft.sampling.budget import Until
from qrft.sampling.passes import Passes
from qrft.sampling.shards import SamplerSetup
from qrft.sampling.spec import SampledModel, SampleSpec, begin
from qrft.training.finetune import make_examples

TURNS = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}\n{% endfor %}"
THINKS = TURNS + "{% if add_generation_prompt %}[assistant] <think>\n{% endif %}"
ANSWERS = TURNS + "{% if add_generation_prompt %}[assistant] {% endif %}"
PROBLEM = {"problem_id": "p", "question": "5+3?", "solution": "5+3=8\n#### 8", "answer": "8"}


def model(folder: Path, template: str) -> Path:
    shutil.copytree(BUILTIN["tiny-base"], folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def begun(folder: Path, rules: Rules, prompt: Prompt = "chat", **spec: Any) -> tuple[SamplerSetup, Passes]:
    own = registry.own_settings("transformers", {})
    sampled = SampledModel("transformers", own, "m", folder, lambda requests: None, 1)  # type: ignore[arg-type,return-value]
    problems = pa.Table.from_pylist([PROBLEM], PROBLEMS)
    return begin(SampleSpec(problems, 4, SamplingParams(), Wording(prompt=prompt), rules=rules, **spec), sampled)


def test_a_prompt_that_opens_a_trace(tmp_path: Path) -> None:
    thinks, answers = model(tmp_path / "thinks", THINKS), model(tmp_path / "answers", ANSWERS)
    assert begun(thinks, Rules())[0].params.stops_outside == TRACES._replace(is_open=True)
    assert begun(answers, Rules())[0].params.stops_outside == TRACES
    assert begun(thinks, Rules(), prompt="plain")[0].params.stops_outside == TRACES
    assert begun(thinks, Rules(trace_tags="none"))[0].params.stops_outside is None
    assert begun(thinks, Rules(trace_tags="[T] [/T]"))[0].params.stops_outside == Traces("[T]", "[/T]")


def test_until_counts_by_the_prompt_that_opens_a_trace(tmp_path: Path) -> None:
    texts = ["Is it #### 8? Let me", "So #### 7?\n</think>\n#### 8", "5+3 is 8.\n</think>", "#### 9</think>#### 8"]
    row = {"problem_id": "p", "model": "m", "finish_reason": "stop", "num_tokens": 9}
    rows = [{**row, "sample_index": i, "completion": text} for i, text in enumerate(texts)]
    _, passes = begun(model(tmp_path / "thinks", THINKS), Rules(), until=Until(correct=4))
    assert passes.tally is not None
    passes.tally.add(pa.Table.from_pylist(rows, SAMPLES))
    assert passes.tally.count("p", "correct") == 2


@pytest.mark.parametrize(("cut_off", "expected"), [("drop", (1, 0)), ("keep", (3, 2))])
def test_a_goal_counts_what_may_be_trained_on(cut_off: KeepOrDrop, expected: tuple[int, int], tmp_path: Path) -> None:
    texts = [("5+3=8\n#### 8", "stop"), ("3+5=<<3+5=8>>8\n#### 8", "length"), ("#### 8", "length")]
    row = {"problem_id": "p", "model": "m", "num_tokens": 9}
    rows = [{**row, "sample_index": i, "completion": text, "finish_reason": end} for i, (text, end) in enumerate(texts)]
    _, passes = begun(BUILTIN["tiny-base"], Rules(), prompt="plain", until=Until(correct=3), cut_off=cut_off)
    assert passes.tally is not None
    passes.tally.add(pa.Table.from_pylist(rows, SAMPLES))
    assert (passes.tally.count("p", "correct"), passes.tally.count("p", "distinct")) == expected


def test_a_run_must_know_that_its_prompt_opens_a_trace(tmp_path: Path) -> None:
    setup, _ = begun(model(tmp_path / "thinks", THINKS), Rules())
    with pytest.raises(UsageError, match=r"opens a trace with <think>.*Set grade\.trace_is_open: true"):
        _check_traces(setup, Rules())
    _check_traces(setup, Rules(trace_is_open=True))


def test_a_solution_behind_a_prompt_that_opens_a_trace_is_refused(tmp_path: Path) -> None:
    tokenizer = prompts.load_tokenizer(model(tmp_path / "thinks", THINKS))
    bare, thought = Row("rows:1", "5+3?", "5+3=8\n#### 8"), Row("rows:2", "5+3?", "It is 8.\n</think>\n#### 8")
    with pytest.raises(DataError, match=r"rows:1: its completion does not close the trace.* Choose prompt plain"):
        make_examples([thought, bare], tokenizer, Training(prompt="chat"))
    assert len(make_examples([thought], tokenizer, Training(prompt="chat")).kept) == 1
    assert len(make_examples([bare], tokenizer, Training(prompt="plain")).kept) == 1


def settings_of(stage: str, *overrides: str) -> list[Any]:
    steps = plan(load(ROOT / "recipes" / "tiny.yaml", overrides), BUILTIN["tiny-base"])
    return [step.settings for step in steps if step.stage == stage]


def test_a_recipe_tells_the_sampler_and_the_training_table_of_its_tags() -> None:
    assert all(settings.rules is None for settings in settings_of("sample"))
    told = settings_of("sample", "grade.trace_tags='[T] [/T]'", "grade.trace_is_open=true")
    assert told and {settings.rules.traces for settings in told} == {Traces("[T]", "[/T]", is_open=True)}
    gold, chosen = settings_of("curate", "curate.traces=drop")
    assert gold.traces == chosen.traces == "drop" and gold.rules == Rules()
    assert settings_of("curate")[0].model_dump() == type(gold)().model_dump()
