"""summary.json and report.html of a run, from its artifacts alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from markupsafe import Markup

from qrft import grading
from qrft.pipeline import cost
from qrft.report import words
from qrft.report.run import browser, charts, profile
from qrft.report.run.explain import sentences
from qrft.report.run.measures import Run, tally
from qrft.report.run.settings import Settings

FOLDER = Path(__file__).parents[1]


def summary(inputs: Mapping[str, Path], settings: Settings) -> dict[str, Any]:
    """The run in numbers, JSON-ready; `inputs` are its artifact folders by step name.

    Accuracies and gain are shares (0.061 is 6.1 points), times are seconds, and `explained` says it all in sentences.
    Without RFT there are neither its accuracy and gain nor counts of samples.
    """
    run = Run(inputs, settings)
    evaluation = run.evaluation
    facts: dict[str, Any] = {
        "name": settings.name,
        **{model: accuracy(run, model) for model in run.models},
        "num_test": evaluation["num_test"],
        "num_train": run.problems.num_rows,
        **(rft_facts(run) if run.has_rft else {}),
        **profile.own_paths(run),
        "trained_tokens": {
            stage: run.manifests[run.step("train", phase=stage)]["report"].get("num_tokens") for stage in run.models[1:]
        },
        "paper": settings.paper.model_dump(exclude={"cells"}, exclude_none=True),
        "measures": evaluation["measures"],
        "by_steps": profile.by_steps(run),
        "base_model": profile.base_model(inputs["model"]),
        "seconds": {step: manifest["seconds"] for step, manifest in run.manifests.items()},
        "cost": {"steps": run.costs, "total": cost.total(run.costs), **of_models(run)},
        "parity": parity(run, "max_logit_difference", max),
        "parity_kl": parity(run, "mean_kl", max),
        "parity_top1": parity(run, "top1_agreement", min),
    }
    return {**facts, "explained": sentences(facts)}


def accuracy(run: Run, model: str) -> dict[str, Any]:
    """With its interval; of the base also how many worked examples it was shown."""
    found = {key: run.evaluation[model][key] for key in ("accuracy", "low", "high")}
    return {**found, "few_shot": run.headlines[model]["few_shot"]} if model == "base" else found


def rft_facts(run: Run) -> dict[str, Any]:
    gain = run.evaluation["gain"]
    facts = {"gain": gain["difference"], "gain_low": gain["low"], "gain_high": gain["high"]}
    facts |= {"p_value": run.evaluation["p_value"]}
    return {**facts, **sample_counts(run), **profile.paths(run, run.samples, run.graded)}


def sample_counts(run: Run) -> dict[str, Any]:
    """How the samples fared. A kept path is one beside the gold solution's."""
    num_train = run.problems.num_rows
    num_kept = count(pc.equal(run.verdicts, "kept"))
    with_equations = pc.and_(run.graded["is_correct"], pc.greater(run.graded["num_equations"], 0))
    gold_statuses = grading.parse_numbers(run.problems["answer"], rules=run.rules).statuses
    usable = pa.array(["ok", "expression"] if run.settings.judges_expressions else ["ok"])
    return {
        "num_samples": run.samples.num_rows,
        "samples_per_problem": run.samples_per_problem,
        "num_correct": count(run.graded["is_correct"]),
        "num_correct_with_equations": count(with_equations),
        "num_kept": num_kept,
        "num_rows": num_train + num_kept,
        "paths_per_problem": num_kept / max(num_train, 1),
        "sampled_tokens": run.num_tokens,
        "num_solved": int(np.count_nonzero(run.correct_per_problem)),
        "num_cut_off": count(pc.equal(run.samples["finish_reason"], "length")),
        "num_unusable_gold": count(pc.invert(pc.is_in(gold_statuses, value_set=usable))),
        "dedup": run.settings.dedup,
        "rounds": run.rounds,
        "overlap": profile.overlap(run),
    }


def count(flags: Any) -> int:
    """How many are true, of an Arrow column; it may be empty."""
    return int(pc.sum(flags, min_count=0).as_py())


def of_models(run: Run) -> dict[str, cost.Facts]:
    """What each trained model rests on, the answers to test problems apart."""
    found = {"sft": run.costs[run.step("train", phase="sft")]}
    return {**found, "rft": cost.total(run.costs_of_rft)} if run.has_rft else found


def parity(run: Run, measure: str, worst: Callable[[list[float]], float]) -> float | None:
    """How far llama.cpp is from transformers: the worst of all exports; None where none was measured."""
    reports = [run.manifests[step.name]["report"] for step in run.settings.steps if step.kind == "gguf"]
    measured = [report[measure] for report in reports if report.get(measure) is not None]
    return worst(measured) if measured else None


def html(inputs: Mapping[str, Path], settings: Settings, summary: Mapping[str, Any]) -> str:
    """The whole report as one file that loads nothing."""
    run = Run(inputs, settings)
    problems = browser.sampled(run) if run.has_rft else []
    differences = browser.differences(run) if run.has_rft else browser.NO_DIFFERENCES
    style, script = asset("style.css"), asset("run/browser.js")
    return (
        environment()
        .get_template("run/template.html")
        .render(
            name=settings.name,
            summary=summary,
            has_rft=run.has_rft,
            starts_from_base=run.has_rft and starts_from_base(run),
            created=max((manifest.get("created", "") for manifest in run.manifests.values()), default=""),
            charts=pictures(run, summary),
            verdicts=shares(tally(run.verdicts), words.VERDICTS) if run.has_rft else [],
            tallies=tallies(run) if run.has_rft else [],
            scores=scores(summary["measures"]),
            recipe=yaml.safe_dump(settings.recipe, sort_keys=False, allow_unicode=True),
            steps=steps(run),
            costs=costs(run),
            versions=versions(run),
            num_shown=len(problems),
            differences=differences,
            data=browser.script_json({"problems": problems, **differences}),
            limits=browser,
            style=style,
            script=script,
            policy=f"default-src 'none'; style-src '{content_hash(style)}'; script-src '{content_hash(script)}'",
        )
    )


def starts_from_base(run: Run) -> bool:
    """Whether RFT trained a new adapter, instead of the last one further."""
    return "start" not in run.manifests[run.step("train", phase="rft")]["inputs"]


def environment() -> jinja2.Environment:
    """Escapes everything: model text reaches the page."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {
        "percent": words.percent,
        "plural": words.plural,
        "evidence": words.evidence,
        "duration": words.duration,
        "short": words.short,
    }
    return found


def asset(name: str) -> Markup:
    """A file of ours that goes into the page as it is."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


def content_hash(text: str) -> str:
    """For the content security policy: nothing but this very style or script is obeyed, whatever a model wrote."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# ---------------------------------------------------------------------------------------------- parts of the page ----


def pictures(run: Run, summary: Mapping[str, Any]) -> dict[str, Markup]:
    return {
        "intervals": charts.intervals(summary),
        "losses": charts.losses({stage: run.losses(run.step("train", phase=stage)) for stage in run.models[1:]}),
        "seconds": charts.seconds(summary["seconds"]),
        **(sample_pictures(run) if run.has_rft else {}),
    }


def sample_pictures(run: Run) -> dict[str, Markup]:
    beside, found = (run.curve(run.samples, run.graded, beside_gold) for beside_gold in (True, False))
    return {
        "paths": charts.distinct_paths(beside, found),
        "histogram": charts.histogram(run.correct_per_problem, run.samples_per_problem),
        "verdicts": charts.verdict_bar(tally(run.verdicts)),
    }


def shares(counts: Mapping[str, int], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of a table: every named entry that occurred, in the order of `names`; then what has no name."""
    total = max(sum(counts.values()), 1)
    order = [key for key in (*names, *(key for key in counts if key not in names)) if counts.get(key)]
    return [
        {"key": key, "words": names.get(key, key), "count": counts[key], "share": counts[key] / total} for key in order
    ]


def tallies(run: Run) -> list[tuple[str, list[dict[str, Any]]]]:
    return [
        ("Answers", shares(tally(run.graded["status"]), words.ANSWERS)),
        ("Equations", shares(tally(run.graded["equations_status"]), words.EQUATIONS)),
        ("Endings", shares(tally(run.samples["finish_reason"]), words.ENDINGS)),
    ]


def scores(measures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A table: a row a test set, model and number of examples, a column a measure; None where one was not taken."""
    names = list(dict.fromkeys(row["measure"] for row in measures))
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for row in measures:
        found.setdefault((row["problems"], row["model"], row["few_shot"]), {})[row["measure"]] = row
    by_set = sorted(found.items(), key=lambda row: [*dict.fromkeys(key[0] for key in found)].index(row[0][0]))
    return {"names": names, "rows": [(*key, [cells.get(name) for name in names]) for key, cells in by_set]}


def steps(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "artifact": f"{manifest['stage']}-{manifest['digest']}",
            "seconds": manifest["seconds"],
            "memory": manifest["peak_memory_bytes"],
        }
        for name, manifest in run.manifests.items()
    ]


COSTS = {"num_tokens": "tokens", "flops": "FLOPs", "cpu_seconds": "CPU time", "gpu_seconds": "GPU time"}
ENERGY = {"cpu_joules": "CPU energy", "gpu_joules": "GPU energy"}


def costs(run: Run) -> dict[str, Any]:
    """The table of costs: its columns by name, those that no step knows left out, and its rows, the sum last.

    Trainings and samplings have a row each; the others, which compute little, one together.
    """
    known = cost.total(run.costs)
    large = {name: row for name, row in run.costs.items() if "flops" in row}
    rest = cost.total({name: row for name, row in run.costs.items() if name not in large})
    rows = {**large, "all other steps": rest, "in all": known}
    return {"columns": {name: title for name, title in (COSTS | ENERGY).items() if name in known}, "rows": rows}


def versions(run: Run) -> dict[str, str]:
    """Of Python, the packages and the platform; where steps were made with several, all of them."""
    found: dict[str, list[str]] = {}
    for manifest in run.manifests.values():
        for name, version in manifest.get("versions", {}).items():
            known = found.setdefault(name, [])
            if str(version) not in known:
                known.append(str(version))
    return {name: ", ".join(known) for name, known in found.items()}
