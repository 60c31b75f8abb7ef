"""The summary of a run: what it counts, what a model costs, and what it says in sentences."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.runs import TRAINED, Made, Page, change, fail, solve

from qrft.data.problems.tiny_math import Story, write_solution
from qrft.data.schema import EVALUATION
from qrft.grading.paths import is_right_path, soundness
from qrft.pipeline.stages.evaluate import evaluate
from qrft.report.run import explain

NAMES = ("samples", "graded")


def test_summary_counts_what_the_tables_hold(made: Made) -> None:
    summary = made.summary()
    verdicts = pq.read_table(made.inputs["round-1/training"] / "verdicts.parquet")["verdict"].to_pylist()
    graded = pq.read_table(made.inputs["round-1/graded"] / "graded.parquet").to_pylist()
    solved = {index // 12 for index, row in enumerate(graded) if row["is_correct"]}
    assert summary["num_train"] == 40 and summary["num_samples"] == 480 and summary["samples_per_problem"] == 12
    assert summary["num_correct"] == sum(row["is_correct"] for row in graded)
    assert summary["num_kept"] == verdicts.count("kept") > 0
    assert summary["paths_per_problem"] == summary["num_kept"] / 40
    assert summary["num_solved"] == len(solved)
    assert summary["gain"] == pytest.approx(summary["rft"]["accuracy"] - summary["sft"]["accuracy"])
    assert summary["parity"] == pytest.approx(3e-5)
    assert summary["parity_kl"] == pytest.approx(3e-6) and summary["parity_top1"] == pytest.approx(0.98)
    assert summary["seconds"].keys() == made.inputs.keys() - {"model"}
    assert json.loads(json.dumps(summary)) == summary
    assert any(f"RFT added {summary['num_kept']} distinct correct paths" in line for line in summary["explained"])


def test_files_that_were_not_compared_are_counted_and_said(made: Made, tmp_path: Path) -> None:
    assert made.summary()["num_not_compared"] == 0 and "gguf.parity" not in made.html()
    other = Made(tmp_path, 8, 10, 4, solve)
    for model in ("sft", "rft"):
        change(other.inputs[f"{model}/gguf"] / "manifest.json", report={"parity": "off"})
    summary = other.summary()
    assert summary["num_not_compared"] == 2 and summary["parity"] == pytest.approx(1e-5)
    words = "2 GGUF files were made without comparing llama.cpp with transformers (gguf.parity off)."
    assert words in summary["explained"] and words in other.html()


def test_what_was_cut_off_or_too_long_stands_in_the_head(made: Made, tmp_path: Path) -> None:
    assert "samples cut off" in Page(made.html()).text and "too long" not in Page(made.html()).text
    other = Made(tmp_path, 8, 10, 4, solve, limit=60)
    for model, facts in (("sft", {"num_dropped": 3}), ("rft", {"num_dropped": 1, "num_cut": 20})):
        change(other.inputs[f"{model}/train"] / "manifest.json", report={"num_examples": 900, **facts})
    summary, text = other.summary(), "".join(Page(other.html()).text.split("\n"))
    samples, graded = (pq.read_table(other.inputs[f"round-1/{name}"] / f"{name}.parquet") for name in NAMES)
    is_cut = np.array([ending == "length" for ending in samples["finish_reason"].to_pylist()])
    right_ones = int((is_cut & is_right_path(graded)).sum())
    assert (summary["num_cut_off"], summary["num_right_cut_off"]) == (is_cut.sum(), right_ones) and right_ones > 1
    verdicts = pq.read_table(other.inputs["round-1/training"] / "verdicts.parquet")["verdict"].to_pylist()
    assert {verdict for verdict, cut in zip(verdicts, is_cut, strict=True) if cut} <= {
        "cut_off",
        "incorrect",
        "bad_equation",
    }
    assert f"samples cut off      {is_cut.sum()} ({right_ones} right)" in text
    assert "SFT examples too long      3 left out" in text and "RFT examples too long      1 left out, 20 cut" in text
    assert summary["examples"]["rft"] == {"num_examples": 900, "num_dropped": 1, "num_cut": 20}
    assert any(f"{right_ones} samples with the right answer were left out" in line for line in summary["explained"])


def test_unsound_paths_are_counted_shown_and_dropped(made: Made, tmp_path: Path) -> None:
    assert "unsound_share" not in made.summary() and "Right paths" not in Page(made.html()).text
    for choice in ("flag", "require"):
        other = Made(tmp_path / choice, 8, 10, 12, solve_in_circles, changes=[f"curate.sound={choice}"])
        summary, text = other.summary(), Page(other.html()).text
        graded = pq.read_table(other.inputs["round-1/graded"] / "graded.parquet")
        counts = soundness(graded)
        num_unsound = counts.total() - counts["sound"]
        assert counts["sound"] and counts["repeated"] == num_unsound
        assert summary["unsound"] == {"repeated": num_unsound}
        assert summary["unsound_share"] == num_unsound / counts.total()
        verdicts = pq.read_table(other.inputs["round-1/training"] / "verdicts.parquet")["verdict"].to_pylist()
        is_required = choice == "require"
        assert verdicts.count("unsound") == summary["num_unsound_dropped"] == (num_unsound if is_required else 0)
        assert ("dropped: right answer, but a step is repeated" in other.html()) == is_required
        fate = "were not kept" if is_required else "count as the others"
        assert "a step is repeated" in text and any(fate in line for line in summary["explained"])


def solve_in_circles(r: random.Random, problem: dict[str, str], story: Story) -> str:
    """Right, every other time with all its steps written twice."""
    body, _, answer = write_solution(r.choice(story.paths)).rpartition("####")
    return body * r.choice([1, 2]) + "####" + answer


def test_costs_are_summed_and_shown(made: Made) -> None:
    summary = made.summary()
    num_others = len(made.inputs) - 4  # two trainings, a sampling, and the base, which is no step
    assert summary["cost"]["steps"]["sft/train"] == TRAINED
    assert summary["cost"]["total"] == {
        "num_tokens": 9192,
        "flops": 4.5e12,
        "cpu_seconds": 150 + 0.5 * num_others,
        "gpu_joules": 3000.0,
    }
    text = "".join(Page(made.html()).text.split("\n"))
    assert "steptokensFLOPsCPU timeGPU energy" in text
    assert "rft/train4,0962.0e121 min 0 s1.5 kJ" in text and "in all9,1924.5e12" in text


def test_no_correct_sample_is_explained(tmp_path: Path) -> None:
    made = Made(tmp_path, 5, 20, 4, fail)
    summary = made.summary()
    assert summary["num_correct"] == summary["num_kept"] == summary["num_solved"] == 0
    assert summary["explained"][0].startswith("No model solved any of 20 test problems")
    assert any("RFT trained on the gold solutions alone" in line for line in summary["explained"])
    page = Page(made.html())
    assert (
        "None of 20 samples has the right answer, so RFT trained on the gold solutions alone, as SFT did" in page.text
        and "RFT won 0 that SFT got wrong, and lost 0" in page.text
    )


def test_all_that_was_measured_is_a_table(tmp_path: Path, made: Made) -> None:
    assert "All measures" not in Page(made.html()).text  # the cards say it all
    score = {"value": 0.123, "low": 0.1, "high": 0.15}
    more = [
        {"model": "base", "problems": "tiny-math/test", "few_shot": 8, "measure": "greedy", **score},
        {"model": "sft", "problems": "<b>mine</b>", "few_shot": 0, "measure": "maj@100", **score},
    ]
    page = Page(Made(tmp_path, 3, 6, 2, solve, measures=more).html())
    table = page.text.partition("All measures")[2].partition("Distinct paths")[0]
    assert table.count("12.3% [10.0%, 15.0%]") == 2 and "maj@100" in table and "<b>mine</b>" in table


@pytest.mark.parametrize(
    ("first_samples", "told"),
    [
        (None, [(4, 40, 160, 17), (12, 25, 200, 31)]),
        (4, [(4, 40, 160, 17)]),
        (2, [(2, 40, 80, None)]),
        (7, [(4, 40, 160, 17), (7, 25, 75, None)]),
    ],
)
def test_rounds_of_sampling_are_told_as_far_as_they_were_looked_at(
    tmp_path: Path, first_samples: int | None, told: list[tuple[int, ...]]
) -> None:
    """40 problems of 4 samples, 25 of which got 8 more: 8 tokens each."""
    changes = [f"curate.first_samples={first_samples}"] if first_samples else []
    made = Made(tmp_path, 40, 4, 12, solve, changes)
    samples = pq.read_table(made.inputs["round-1/samples"] / "samples.parquet")
    index = np.array(samples["sample_index"])
    drawn = (np.arange(480) < 300) | (index < 4)
    tokens = pa.array([8] * 480, samples.schema.field("num_tokens").type)
    samples = samples.set_column(samples.schema.get_field_index("num_tokens"), "num_tokens", tokens).filter(drawn)
    graded = pq.read_table(made.inputs["round-1/graded"] / "graded.parquet").filter(drawn)
    verdicts = pq.read_table(made.inputs["round-1/training"] / "verdicts.parquet").filter(drawn)
    pq.write_table(samples, made.inputs["round-1/samples"] / "samples.parquet")
    pq.write_table(graded, made.inputs["round-1/graded"] / "graded.parquet")
    looked_at = index[drawn] < (first_samples or 12)
    pq.write_table(verdicts.filter(looked_at), made.inputs["round-1/training"] / "verdicts.parquet")
    keys = ("samples_per_problem", "num_problems", "num_samples", "num_tokens", "num_satisfied")
    rounds = [dict(zip(keys, row, strict=True)) for row in ((4, 40, 160, 1280, 17), (12, 25, 200, 1600, 31))]
    change_manifest(made.inputs["round-1/samples"], report={"rounds": rounds})
    found = made.summary()
    assert [(*(row[key] for key in (*keys[:3], keys[4])),) for row in found["rounds"]] == told
    assert sum(row["num_tokens"] for row in found["rounds"]) == found["sampled_tokens"] == 8 * looked_at.sum()
    table = Page(made.html()).text.partition("Where the samples went")[2].partition("Correct samples")[0]
    assert f"{told[-1][2]}" in table and ("None" not in table)


def change_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_without_greedy_answers_the_gain_has_an_interval_and_no_p(tmp_path: Path) -> None:
    made = Made(tmp_path, 3, 20, 2, solve)
    sft, rft = np.linspace(0, 0.5, 20), np.linspace(0.2, 0.8, 20)
    found = evaluate(values := {"base": sft * 0, "sft": sft, "rft": rft}, values)
    found |= {"measures": made.summary()["measures"], "forms": []}
    (made.inputs["evaluation"] / "evaluation.json").write_text(json.dumps(found))
    for name in [name for name in made.inputs if "/test-" in name]:
        del made.inputs[name]
    summary = made.summary()
    assert summary["p_value"] is None and 0 < summary["gain_low"] < summary["gain"] < summary["gain_high"]
    assert summary["explained"][0].startswith("RFT gains 25.0 points over SFT (95% interval +2")
    page = Page(made.html())
    assert "points, paired bootstrap" in page.text and "Test problems won and lost" not in page.text


def test_one_problem_and_one_sample(tmp_path: Path) -> None:
    made = Made(tmp_path, 1, 1, 1, solve)
    assert "1 problem" in Page(made.html()).text
    for line in made.summary()["explained"]:
        assert "1 problems" not in line and "1 samples" not in line


def test_gold_answers_without_numbers_are_explained(tmp_path: Path) -> None:
    made = Made(tmp_path, 3, 3, 2, solve, answer="blue", solution="#### blue")
    assert any("gold answer of 3 training problems can't be compared" in line for line in made.summary()["explained"])
    assert "the gold answer blue is not a number" in Page(made.html()).data


FACTS: dict[str, Any] = {
    "base": {"accuracy": 0.01, "few_shot": 0}, "sft": {"accuracy": 0.658}, "rft": {"accuracy": 0.719},
    "gain_by": {"right": {"difference": 0.061}, "form": {"difference": 0.0004}},
    "gain": 0.061, "gain_low": 0.028, "gain_high": 0.094, "gain_over": "sft", "p_value": 0.0003, "num_test": 1000,
    "num_clusters": None, "num_train": 300, "num_gold": 300,
    "num_samples": 9000, "samples_per_problem": 30,
    "num_correct": 5000, "num_correct_with_equations": 5000, "num_told_by_running_text": 0,
    "num_told_by_text": 0, "num_kept": 512, "paths_per_problem": 512 / 300,
    "num_solved": 296, "num_cut_off": 0, "num_right_cut_off": 0, "num_unusable_gold": 0, "dedup": True,
}  # fmt: skip


def test_published_figures_are_told() -> None:
    paper = {"source": "Yuan", "rft": 41.7, "sft_maj100": 48.7, "distinct_paths": 5.25}
    told = explain.sentences({**FACTS, "paper": paper, "distinct_paths": 4.1})
    assert told[:-1] == explain.sentences(FACTS) and told[-1] == (
        "Published (Yuan): RFT 41.7%; maj@100 of SFT 48.7%; 5.25 distinct paths per problem, the gold one counted "
        "(here 4.10)."
    )


SEEN = "95% interval +2.8 to +9.4 points"
INDEPENDENT = "by exact McNemar if the problems are independent, on 1,000 problems"
OTHERS = "The interval is about other test problems; another seed would give other trainings."


def test_sentences_of_a_usual_run() -> None:
    assert explain.sentences(FACTS) == [
        f"RFT gains 6.1 points over SFT ({SEEN}, p = 0.0003 {INDEPENDENT}). {OTHERS}",
        "SFT on 300 gold solutions raised the base model's accuracy from 1.0% to 65.8%.",
        "RFT added 512 distinct correct paths to 300 gold solutions: 1.7 per problem; "
        "296 of 300 problems were solved at least once in 30 samples.",
    ]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"gain": -0.042, "p_value": 0.01},
            f"RFT loses 4.2 points against SFT ({SEEN}, p = 0.010 {INDEPENDENT}). {OTHERS}",
        ),
        (
            {"gain": 0.012, "p_value": 0.34},
            "RFT is 1.2 points above SFT, no more than other test problems may change "
            f"({SEEN}, p = 0.34 {INDEPENDENT}). {OTHERS}",
        ),
        (
            {"gain": -0.01, "p_value": 0.5},
            "RFT is 1.0 point below SFT, no more than other test problems may change "
            f"({SEEN}, p = 0.50 {INDEPENDENT}). {OTHERS}",
        ),
        (
            {"num_clusters": 30},
            f"RFT gains 6.1 points over SFT ({SEEN}, over 30 clusters of alike problems, on 1,000 problems). {OTHERS}",
        ),
        (
            {"gain": 0.0, "p_value": 1.0},
            f"RFT and SFT are equally accurate ({SEEN}, p = 1.00 {INDEPENDENT}).",
        ),
        (
            {"gain_by": {"right": {"difference": 0.071}, "form": {"difference": -0.01}}},
            "The difference is +7.1 points from more right answers, whatever their form, and \u22121.0 point from more "
            "of them in the form that was asked for.",
        ),
        ({"p_value": 1e-9}, f"RFT gains 6.1 points over SFT ({SEEN}, p < 0.0001 {INDEPENDENT}). {OTHERS}"),
        (
            {"num_kept": 0},
            "The right answer came at least once in 30 samples for 296 of 300 problems, but no correct sample contains "
            "a new path, so RFT trained on the gold solutions alone, as SFT did, and no gain is expected.",
        ),
        (
            {"num_correct": 0, "num_kept": 0},
            "None of 9,000 samples has the right answer, so RFT trained on the gold solutions alone, as SFT did, and "
            "no gain is expected.",
        ),
        (
            {"dedup": False},
            "RFT added 512 correct samples to 300 gold solutions: 1.7 per problem; 296 of 300 problems were solved at "
            "least once in 30 samples.",
        ),
        (
            {"num_correct_with_equations": 0},
            "No correct sample writes its steps as equations, so paths can't be told apart: at most one per problem "
            "was kept.",
        ),
        (
            {"num_told_by_running_text": 90, "num_told_by_text": 7},
            "97 right samples without marked equations: 90 told apart by the equations in the running text, 7 by the "
            "words.",
        ),
        (
            {"base": {"accuracy": 0.1, "few_shot": 8}},
            "SFT on 300 gold solutions reached 65.8%, the base model with 8 examples 10.0%.",
        ),
        (
            {"num_cut_off": 4500},
            "50.0% of the samples were cut off at the token limit: a larger sample.max_new_tokens may help.",
        ),
    ],
)
def test_sentences_of_other_outcomes(changed: dict[str, Any], sentence: str) -> None:
    assert sentence in explain.sentences({**FACTS, **changed})


def test_rft_costs_what_was_looked_at(tmp_path: Path) -> None:
    made = Made(tmp_path, 8, 5, 12, solve, ["sample.num_samples=12", "curate.first_samples=3"])
    tokens = pq.read_table(made.inputs["round-1/samples"] / "samples.parquet")
    num_tokens = np.array(tokens["num_tokens"].to_pylist())
    sampled = int(num_tokens.sum())
    looked_at = int(num_tokens[np.array(tokens["sample_index"].to_pylist()) < 3].sum())
    costs = {"num_tokens": sampled, "flops": 5e11, "cpu_seconds": 30.0}
    report = {"num_tokens": sampled, "num_prompt_tokens": 700, "num_samples": 96, "num_problems": 8}
    change(made.inputs["round-1/samples"] / "manifest.json", report=report, cost=costs)
    cost = made.summary()["cost"]
    share = (700 + looked_at) / (700 + sampled)
    assert 0.1 < share < 0.9
    assert cost["rft"]["flops"] == pytest.approx(2 * 2e12 + share * 5e11)
    assert cost["rft"]["num_tokens"] == 2 * 4096 + looked_at
    assert cost["total"]["flops"] == pytest.approx(2 * 2e12 + 5e11), "the run itself took all"
    assert cost["sft"] == TRAINED


def test_rft_does_not_cost_the_answers_to_test_problems(made: Made) -> None:
    cost = made.summary()["cost"]
    assert cost["total"]["cpu_seconds"] - cost["rft"]["cpu_seconds"] == pytest.approx(3 * 0.5), "of three models"
    assert cost["rft"]["flops"] == cost["total"]["flops"] == 4.5e12


def test_a_base_asked_with_examples_alone_hides_no_other_model(tmp_path: Path) -> None:
    made = Made(tmp_path, 3, 40, 2, solve)
    before = made.summary()["by_steps"]
    assert len(before) > 1
    out = made.inputs["evaluation"]
    told = json.loads((out / "evaluation.json").read_text())["measures"]
    shown = [{**entry, "few_shot": 8 if entry["model"] == "base" else 0} for entry in told]
    change(out / "evaluation.json", measures=shown)
    rows = pq.read_table(out / "evaluation.parquet").to_pylist()
    rows = [{**row, "few_shot": 8 if row["model"] == "base" else 0} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, EVALUATION), out / "evaluation.parquet")
    summary = made.summary()
    assert summary["by_steps"] == before and summary["base"]["few_shot"] == 8
    assert any("the base model with 8 examples" in line for line in summary["explained"])
    assert "before training, 8 examples" in Page(made.html()).text
