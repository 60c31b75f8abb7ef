"""summary.json of a run: its figures, from its artifacts alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from qrft import grading
from qrft.data.schema import JUDGED_BY_FIELD
from qrft.data.worked import has_answer, is_worked
from qrft.evaluation.overlap import overlap
from qrft.grading.paths import is_cut_off, path_sources, soundness
from qrft.pipeline import cost
from qrft.report.run import profile
from qrft.report.run.explain import sentences
from qrft.report.run.measures import Run
from qrft.report.run.settings import Settings


def summary(inputs: Mapping[str, Path], settings: Settings) -> dict[str, Any]:
    """Return the run in numbers, JSON-ready; `inputs` are its artifact folders by step name.

    Accuracies and gain are shares (0.061 is 6.1 points), times are seconds, and `explained` says the same in sentences.
    Without RFT there are neither its accuracy and gain nor counts of samples.
    """
    run = Run(inputs, settings)
    evaluation = run.evaluation
    facts: dict[str, Any] = {
        "name": settings.name,
        **{model: accuracy(run, model) for model in run.models},
        "num_test": evaluation["num_test"],
        "num_clusters": evaluation["num_clusters"],
        "num_train": run.problems.num_rows,
        "num_gold": int(is_worked(run.problems).sum()),
        **(rft_facts(run) if run.has_rft else {}),
        **profile.own_paths(run),
        "trained_tokens": {
            stage: run.manifests[run.step("train", phase=stage)]["report"].get("num_tokens") for stage in run.models[1:]
        },
        "question_overlap": question_overlap(run),
        "examples": {stage: examples(run, stage) for stage in run.models[1:]},
        "paper": settings.paper.model_dump(exclude={"cells"}, exclude_none=True),
        "measures": evaluation["measures"],
        "forms": evaluation["forms"],
        "by_steps": profile.by_steps(run),
        "by_cluster": profile.by_cluster(run),
        "hashes": hashes(run),
        "base_model": profile.base_model(inputs["model"]),
        "seconds": {step: manifest["seconds"] for step, manifest in run.manifests.items()},
        "cost": {"steps": run.costs, "total": cost.total(run.costs), **of_models(run)},
        "parity": parity(run, "max_logit_difference", max),
        "parity_kl": parity(run, "mean_kl", max),
        "parity_top1": parity(run, "top1_agreement", min),
        "num_not_compared": sum(report.get("parity") == "off" for report in gguf_reports(run)),
    }
    return {**facts, "explained": sentences(facts)}


def question_overlap(run: Run) -> dict[str, dict[str, int]]:
    """Return for each test set, by its part of the run, how many of its questions share words with training's."""
    asked = {step.part: step.name for step in run.settings.steps if step.kind == "problems" and not step.model}
    texts = {
        part: run.table(name, "problems.parquet", ["question"])["question"].to_pylist() for part, name in asked.items()
    }
    train = texts.pop("train")
    return {part: overlap(train, test) for part, test in texts.items()}


def hashes(run: Run) -> dict[str, str | None]:
    """Return what tells whether two runs have the same training problems, and the same rows for RFT."""
    steps = {"problems": run.step("problems", part="train"), **({"training": run.training} if run.has_rft else {})}
    files = {name: run.manifests[step]["files"].get(f"{name}.parquet", {}) for name, step in steps.items()}
    return {name: entry.get("blake2b") for name, entry in files.items()}


def examples(run: Run, stage: str) -> dict[str, int]:
    """Count what a training was on, and the rows longer than train.sequence_len: left out, or cut."""
    report = run.manifests[run.step("train", phase=stage)]["report"]
    return {key: report.get(key, 0) for key in ("num_examples", "num_dropped", "num_cut")}


def accuracy(run: Run, model: str) -> dict[str, Any]:
    """Return a model's accuracy with its interval, and for the base how many worked examples it was shown."""
    found = {key: run.evaluation[model][key] for key in ("accuracy", "low", "high")}
    return {**found, "few_shot": run.headlines[model]["few_shot"]} if model == "base" else found


def rft_facts(run: Run) -> dict[str, Any]:
    gain = run.evaluation["gain"]
    facts = {"gain": gain["difference"], "gain_low": gain["low"], "gain_high": gain["high"]}
    facts["gain_by"] = run.evaluation["gain_by"]
    facts |= {"p_value": run.evaluation["p_value"], "gain_over": run.before_rft}
    if control := run.evaluation.get("gain_over_control"):
        facts |= {"gain_over_control": control["difference"], "p_value_over_control": control["p_value"]}
        facts |= {f"gain_over_control_{end}": control[end] for end in ("low", "high")}
    return {**facts, **sample_counts(run), **profile.paths(run, run.samples, run.graded)}


def sample_counts(run: Run) -> dict[str, Any]:
    """Count the samples by their fate. A kept path is one beside the gold solution's."""
    num_train = run.problems.num_rows
    num_kept = count(pc.equal(run.verdicts, "kept"))
    with_equations = pc.and_(run.graded["is_correct"], pc.greater(run.graded["num_equations"], 0))
    sources = path_sources(run.graded)
    gold_statuses = grading.parse_numbers(run.problems["answer"], rules=run.rules).statuses
    usable = pa.array(["ok", "expression"] if run.settings.judges_expressions else ["ok"])
    return {
        "num_samples": run.samples.num_rows,
        "samples_per_problem": run.samples_per_problem,
        "num_correct": count(run.graded["is_correct"]),
        "num_correct_with_equations": count(with_equations),
        "num_told_by_running_text": sources["running_text"],
        "num_told_by_text": sources["text"],
        "num_kept": num_kept,
        "num_rows": int(is_worked(run.problems).sum()) + num_kept,
        "paths_per_problem": num_kept / max(num_train, 1),
        "sampled_tokens": run.num_tokens,
        "num_solved": int(np.count_nonzero(run.correct_per_problem)),
        "num_cut_off": int(np.count_nonzero(is_cut_off(run.samples))),
        "num_right_cut_off": count(pc.equal(run.verdicts, "cut_off")),
        "num_unusable_gold": count(
            pc.and_(pa.array(has_answer(run.problems)), pc.invert(pc.is_in(gold_statuses, value_set=usable)))
        ),
        **without_answers(run),
        **sound_paths(run),
        "dedup": run.settings.dedup,
        "rounds": run.passes,
        "overlap": profile.overlap(run),
        "sources": profile.by_source(run),
    }


def without_answers(run: Run) -> dict[str, Any]:
    """Count the problems that have no answer, and what a vote or verdicts made of that; {} where all have one."""
    nothing, facts = int((~has_answer(run.problems)).sum()), {}
    if run.voted:
        manifest = run.manifests[run.voted]
        facts = {"vote": manifest["config"]["share"], "num_voted": manifest["report"]["num_voted"]}
    if not nothing and not facts:
        return {}
    kept = run.table(run.training, "training.parquet")
    by = kept[JUDGED_BY_FIELD.name].to_pylist() if JUDGED_BY_FIELD.name in kept.column_names else []
    counts = {f"num_kept_by_{name}": by.count(name) for name in ("vote", "verdict")}
    return {**facts, "num_without_answer": nothing, **counts}


def sound_paths(run: Run) -> dict[str, Any]:
    """Return the share of the right paths that is not sound, and their number by reason; {} where nobody asked."""
    found = soundness(run.graded)
    if not found:
        return {}
    unsound = {reason: number for reason, number in found.most_common() if reason != "sound"}
    return {
        "unsound_share": sum(unsound.values()) / found.total(),
        "unsound": unsound,
        "num_unsound_dropped": count(pc.equal(run.verdicts, "unsound")),
    }


def count(flags: Any) -> int:
    """Count the true values of an Arrow column, which may be empty."""
    return int(pc.sum(flags, min_count=0).as_py())


def of_models(run: Run) -> dict[str, cost.Facts]:
    """Return what each trained model cost, without the answers to test problems."""
    found = {model: run.costs[step] for model in run.models for step in run.steps("train", phase=model)}
    return {**found, "rft": cost.total(run.costs_of_rft)} if run.has_rft else found


def parity(run: Run, measure: str, worst: Callable[[list[float]], float]) -> float | None:
    """Return how far llama.cpp is from transformers: the worst of all exports; None where none was measured."""
    measured = [report[measure] for report in gguf_reports(run) if report.get(measure) is not None]
    return worst(measured) if measured else None


def gguf_reports(run: Run) -> list[dict[str, Any]]:
    """Return what each export reported."""
    return [run.manifests[step.name]["report"] for step in run.settings.steps if step.kind == "gguf"]
