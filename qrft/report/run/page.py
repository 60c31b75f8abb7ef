"""report.html of a run, from its artifacts and its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from qrft.data.schema import JUDGED_BY_FIELD
from qrft.grading.paths import soundness
from qrft.pipeline import cost
from qrft.report import page, words
from qrft.report.run import browser, charts
from qrft.report.run.measures import Run, tally
from qrft.report.run.settings import Settings


def html(inputs: Mapping[str, Path], settings: Settings, summary: Mapping[str, Any]) -> str:
    """Return the whole report as one file that loads nothing."""
    run = Run(inputs, settings)
    problems = browser.sampled(run) if run.has_rft else []
    differences = browser.differences(run) if run.has_rft else browser.NO_DIFFERENCES
    return page.html(
        "run/template.html",
        style=page.asset("style.css"),
        script=page.asset("run/browser.js"),
        name=settings.name,
        summary=summary,
        has_rft=run.has_rft,
        before=words.BEFORE[run.before_rft],
        starts_from_base=run.has_rft and starts_from_base(run),
        created=max((manifest.get("created", "") for manifest in run.manifests.values()), default=""),
        charts=pictures(run, summary),
        verdicts=shares(tally(run.verdicts), words.VERDICTS) if run.has_rft else [],
        tallies=tallies(run) if run.has_rft else [],
        scores=scores(summary["measures"]),
        forms=words.FORMS,
        recipe=yaml.safe_dump(settings.recipe, sort_keys=False, allow_unicode=True),
        steps=steps(run),
        costs=costs(run),
        versions=versions(run),
        models=words.MODELS,
        num_shown=len(problems),
        differences=differences,
        data=browser.script_json({"problems": problems, **differences}),
        limits=browser,
    )


def starts_from_base(run: Run) -> bool:
    """Return whether RFT trained a new adapter, instead of the last one further."""
    return "start" not in run.manifests[run.step("train", phase="rft")]["inputs"]


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
    """Return the rows of a table: every named entry that occurred, in the order of `names`; then the others."""
    total = max(sum(counts.values()), 1)
    order = [key for key in (*names, *(key for key in counts if key not in names)) if counts.get(key)]
    return [
        {"key": key, "words": names.get(key, key), "count": counts[key], "share": counts[key] / total} for key in order
    ]


def tallies(run: Run) -> list[tuple[str, list[dict[str, Any]]]]:
    paths, judged_by = soundness(run.graded), JUDGED_BY_FIELD.name
    is_told = judged_by in run.graded.column_names
    return [
        *([("Judged by", shares(tally(run.graded[judged_by].fill_null("answer")), words.JUDGES))] if is_told else []),
        *([("Right paths", shares(paths, words.SOUNDNESS))] if paths else []),
        ("Answers", shares(tally(run.graded["status"]), words.ANSWERS)),
        ("Equations", shares(tally(run.graded["equations_status"]), words.EQUATIONS)),
        ("Endings", shares(tally(run.samples["finish_reason"].fill_null(words.UNTOLD)), words.ENDINGS)),
    ]


def scores(measures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a table: a row per test set, model and number of examples, a column per measure; None where not taken."""
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
    """Return the table of costs: its columns by name, without those that no step has, and its rows, the sum last.

    Trainings and samplings have a row each; the others, which compute little, share one.
    """
    known = cost.total(run.costs)
    large = {name: row for name, row in run.costs.items() if "flops" in row}
    rest = cost.total({name: row for name, row in run.costs.items() if name not in large})
    rows = {**large, "all other steps": rest, "in all": known}
    return {"columns": {name: title for name, title in (COSTS | ENERGY).items() if name in known}, "rows": rows}


def versions(run: Run) -> dict[str, str]:
    """Return the versions of Python, the packages and the platform; if steps were made with several, all of them."""
    found: dict[str, list[str]] = {}
    for manifest in run.manifests.values():
        for name, version in manifest.get("versions", {}).items():
            known = found.setdefault(name, [])
            if str(version) not in known:
                known.append(str(version))
    return {name: ", ".join(known) for name, known in found.items()}
