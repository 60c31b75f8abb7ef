"""The report of a sweep: its points and intervals against direct computation, its page, its pictures, its table."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers.sweeps import SIZES, Row, rows

from qrft.evaluation import stats
from qrft.pipeline.stages import sweep as stage
from qrft.report.run import profile
from qrft.report.sweep import picture_files, table
from qrft.report.sweep.drawing import Plot
from qrft.report.sweep.plots import plots
from qrft.report.sweep.points import points
from qrft.report.sweep.upset import upset

KS = [1, 3, 6, 12, 25, 50, 100]
HOSTILE = "</script><img src=x onerror=alert(1)>|`"
SVG = "{http://www.w3.org/2000/svg}"


def by_k(seeds: int = 3) -> list[Row]:
    sweep_keys = {"num_samples": KS, "dedup": [True, False], "seed": list(range(seeds))}
    return rows(sweep_keys, ["small", "medium"], gain=lambda _, s: 0.01 * math.log2(s["num_samples"]))


def drawn(made: list[Row]) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots(made)}


def report(folder: Path, made: list[Row], name: str = "trial", png: bool = False, study: str | None = None) -> str:
    stage.write_report(folder, stage.Settings(name=name, rows=(), png=png, study=study), made)
    return (folder / "report.html").read_text()


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


# ---------------------------------------------------------------------------------------------------------- statistics


def test_students_quantiles_are_those_of_the_tables() -> None:
    known = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 10: 2.228, 29: 2.045, 30: 2.042, 120: 1.980}
    assert {df: round(stats.student_t(df), 3) for df in known} == known


def test_the_interval_of_a_mean_holds_it_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    held = [low < 5 < high for low, high in (stats.mean_interval(rng.normal(5, 2, 4).tolist()) for _ in range(4000))]
    assert 0.94 < np.mean(held) < 0.96
    assert stats.mean_interval([3.0]) == (-math.inf, math.inf)


def test_a_line_is_numpys() -> None:
    rng = np.random.default_rng(1)
    x = np.arange(8.0)
    y = 3 - 2 * x + rng.normal(0, 1, 8)
    line = stats.line_fit(x.tolist(), y.tolist())
    assert line is not None
    np.testing.assert_allclose((line.slope, line.intercept), np.polyfit(x, y, 1))
    assert line.r2 == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)
    assert stats.line_fit([1.0, 1.0], [2.0, 3.0]) is None and stats.line_fit([], []) is None


# -------------------------------------------------------------------------------------------------------------- points


def test_points_are_means_over_seeds_by_model_and_setting() -> None:
    made = by_k()
    found = points(made, "samples_per_problem", "rft.accuracy").listed
    assert len(found) == 2 * 2 * len(KS) and {point.num_seeds for point in found} == {3}
    assert {point.series for point in found} == {
        f"{m}, dedup {d}" for m in ("small", "medium") for d in ("true", "false")
    }
    one = next(point for point in found if point.series == "small, dedup true" and point.x == 25)
    values = [
        row["rft.accuracy"]
        for row in made
        if row["model"] == "small" and row["sweep.num_samples"] == 25 and row["sweep.dedup"]
    ]
    assert one.y == pytest.approx(np.mean(values))
    half = 4.3027 * np.std(values, ddof=1) / math.sqrt(3)
    assert (one.low, one.high) == pytest.approx((one.y - half, one.y + half), abs=1e-5)


def test_what_does_not_change_a_column_makes_no_series_of_it() -> None:
    """All runs of one seed share SFT, whatever they do later: one point, which counts once."""
    made = rows({"num_samples": KS, "train_fraction": [1, 0.5], "seed": [0, 1]})
    shared = {(row["sweep.train_fraction"], row["sweep.seed"]): row["sft.accuracy"] for row in made}
    made = [{**row, "sft.accuracy": shared[row["sweep.train_fraction"], row["sweep.seed"]]} for row in made]
    found = points(made, "sweep.train_fraction", "sft.accuracy").listed
    assert [(point.x, point.num_seeds, point.series) for point in found] == [(0.5, 2, ""), (1, 2, "")]
    assert found[1].y == pytest.approx((shared[1, 0] + shared[1, 1]) / 2)


def test_a_single_run_has_its_own_interval() -> None:
    made = rows({"num_samples": [1, 10]})
    found = points(made, "samples_per_problem", "rft.accuracy").listed
    assert [(point.low, point.high) for point in found] == [(row["rft.low"], row["rft.high"]) for row in made]


def test_no_interval_of_a_share_leaves_0_to_1() -> None:
    made = rows({"seed": [0, 1]})
    made[0]["rft.accuracy"], made[1]["rft.accuracy"] = 0.05, 0.6
    (found,) = points([{**row, "x": 1} for row in made], "x", "rft.accuracy").listed
    assert (found.low, found.high) == (0.0, 1.0)


def test_too_many_series_are_averaged_and_say_so() -> None:
    made = rows(
        {"keep": ["a", "b", "c"], "order": ["x", "y", "z"], "num_samples": [1, 10], "seed": [0, 1]}, ["small", "huge"]
    )
    found = points(made, "samples_per_problem", "rft.accuracy")
    assert len({point.series for point in found.listed}) <= 8 and found.averaged
    assert "Means over order." in drawn(made)["accuracy-k"].caption


# --------------------------------------------------------------------------------------------------------------- plots


def test_plots_appear_with_their_data() -> None:
    of_k = {"accuracy-k", "accuracy-paths", "gain-sft", "paths-k", "paths-overlap", "accuracy-cost", "pass-k"}
    of_k |= {"accuracy-steps", "accuracy-loss", "accuracy-size"}
    assert set(drawn(by_k())) == of_k
    of_fractions = drawn(rows({"train_fraction": [1, 1 / 2, 1 / 4], "seed": [0, 1]}))
    assert {"sft-fraction", "rft-fraction"} <= set(of_fractions) and "accuracy-k" not in of_fractions
    assert "accuracy-loss" not in of_fractions, "one base has no line"
    bare = {"variant": "a", "model": "m", "base.accuracy": 0.1, "sft.accuracy": 0.3, "seconds": 1.0}
    assert drawn([bare]) == {} and drawn([bare, {**bare, "variant": "b"}]) == {}


def test_fits_are_told_with_r2() -> None:
    made = rows(
        {"train_fraction": [1, 1 / 2, 1 / 4, 1 / 8], "seed": [0, 1, 2]},
        sft=lambda _, s: 0.5 + 0.05 * math.log2(s["train_fraction"]),
    )
    (note,) = drawn(made)["sft-fraction"].notes
    found = re.fullmatch(r"\+([\d.]+) points per doubling, R² ([\d.]+)", note)
    assert found
    slope, r2 = map(float, found.groups())
    assert abs(slope - 5) < 0.6 and r2 > 0.98


def marks(svg: str) -> list[str]:
    root = ET.fromstring(str(svg).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
    return [title.text or "" for title in root.iter(f"{SVG}title")]


def test_every_point_tells_its_figures() -> None:
    said = marks(drawn(by_k())["accuracy-k"].svg)
    assert len(said) == 2 * 2 * len(KS)
    settings = r"(small|medium), dedup (true|false), num_samples \d+"
    assert all(re.fullmatch(rf"{settings}: [\d.]+% \([\d.]+ to [\d.]+\), mean of 3 seeds", text) for text in said)


def test_upset_counts_are_shares_of_all() -> None:
    overlap = [{"sources": ["a"], "count": 30}, {"sources": ["b"], "count": 10}, {"sources": ["a", "b"], "count": 60}]
    svg, notes = upset([overlap])
    assert notes == ["a alone: 30.0%", "b alone: 10.0%"]
    assert marks(svg) == ["a and b alone: 60.0%", "a alone: 30.0%", "b alone: 10.0%"]
    assert "90.0%" in svg and "70.0%" in svg, "what each has in all"


def test_overlap_counts_a_path_once_for_each_set_of_finders() -> None:
    is_correct, statuses = [True] * 5 + [False], ["ok"] * 6
    pooled = SimpleNamespace(
        sources={"a/sft": None, "b/sft": None},
        problem_codes=np.array([0, 0, 0, 1, 1, 1]),
        may_be_kept=lambda samples, graded: np.array(is_correct),
        samples=pa.table({"model": ["a/sft", "b/sft", "b/sft", "a/sft", "a/sft", "b/sft"]}),
        graded=pa.table(
            {
                "equation_key": [b"p", b"p", b"q", b"p", b"p", b"r"],
                "is_correct": is_correct,
                "equations_status": statuses,
            }
        ),
    )
    found = profile.overlap(pooled)  # type: ignore[arg-type]
    assert {tuple(entry["sources"]): entry["count"] for entry in found} == {
        ("a/sft", "b/sft"): 1, ("b/sft",): 1, ("a/sft",): 1,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the page


def test_the_page_loads_nothing_and_its_table_sorts(tmp_path: Path) -> None:
    made = by_k()
    html = report(tmp_path, made, study="num-samples")
    page = Page(html)
    assert not page.all("img") and not page.all("link") and "http://" not in html and "https://" not in html
    policy = next(attrs["content"] for attrs in page.all("meta") if "http-equiv" in attrs)
    assert policy and policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
    assert len(page.all("script")) == 1 and len(page.all("svg")) == len(drawn(made))
    cells = page.all("td")
    assert all("data-value" in cell for cell in cells)
    numbers = [float(cell["data-value"] or "nan") for cell in cells if "num" in (cell.get("class") or "")]
    assert made[0]["rft.accuracy"] in numbers
    assert made[0]["report"] in [attrs["href"] for attrs in page.all("a")]
    assert html.count('class="agrees"') == 6, "three findings, on pass@1 and on greedy answers"


def test_published_figures_stand_beside_ours() -> None:
    made = rows({"seed": [0, 1]})
    made[1]["paper.rft"] = 41.7
    found = table.table(made)
    titles = [column.title for column in found.columns]
    at = titles.index("RFT")
    assert titles[at + 1] == "paper" and [row[at + 1].text for row in found.rows] == ["", "41.7%"]
    assert found.rows[0][titles.index("SFT")].note.count("%") == 2


def test_published_votes_and_paths_stand_beside_ours() -> None:
    made = rows({"seed": [0, 1]})
    measured = {"sft.maj@100": 0.487, "sft.maj@100.low": 0.46, "sft.maj@100.high": 0.514}
    made[1] |= {"paper.sft_maj100": 48.7, "paper.distinct_paths": 5.25, **measured}
    found = table.table(made)
    titles = [column.title for column in found.columns]
    for title, ours, theirs in (
        ("Paths", f"{made[1]['distinct_paths']:.2f}", "5.25"),
        ("SFT maj@100", "48.7%", "48.7%"),
    ):
        at = titles.index(title)
        assert titles[at + 1] == "paper" and [found.rows[1][at].text, found.rows[1][at + 1].text] == [ours, theirs]
    assert found.rows[1][titles.index("SFT maj@100")].note == "46.0% to 51.4%"


def test_answers_in_any_form_stand_beside_the_asked_one_where_they_differ() -> None:
    made = rows({"seed": [0, 1]})
    for row in made:
        row |= {"sft.flexible": row["sft.accuracy"], "rft.flexible": 0.75}
        row |= {"rft.flexible.low": 0.7, "rft.flexible.high": 0.8}
    for found in (table.table(made), table.means(made)):
        assert found is not None
        at = titles(found).index("RFT")
        assert titles(found)[at + 1] == "RFT, any form" and found.rows[0][at + 1].text == "75.0%"
        assert "SFT, any form" not in titles(found)
    assert table.table(made).rows[0][titles(table.table(made)).index("RFT, any form")].note == "70.0% to 80.0%"


def titles(made: table.Table) -> list[str]:
    return [column.title for column in made.columns]


def test_a_base_shown_examples_says_so_and_is_not_told_twice() -> None:
    made = [{**row, "base.few_shot": 8, "icl.few_shot": 8, "paper.icl": 11.0} for row in rows({"seed": [0, 1]})]
    for found in (table.table(made), table.means(made)):
        assert found and "Base, 8 examples" in titles(found) and "ICL" not in titles(found)
        assert titles(found)[titles(found).index("Base, 8 examples") + 1] == "paper"
    both = [{**row, "base.few_shot": 0, "icl.few_shot": 8} for row in made]
    assert {"Base", "ICL"} < set(titles(table.table(both)))


def test_a_model_without_rft_is_told_once() -> None:
    made = rows({"pool": [["small"], ["small", "large"]], "num_samples": [8, 16], "seed": [0, 1]}, ["small", "large"])
    sft = {(row["model"], row["sweep.seed"]): row for row in made}
    for row in made:
        if row["model"] == "large":
            row |= {key: value for key, value in sft["large", row["sweep.seed"]].items() if "sweep." not in key}
            for key in [key for key in row if key.startswith(("rft", "gain"))]:
                del row[key]
    found = table.table(made)
    large = [row for row in found.rows if row[0].text == "large"]
    assert len(found.rows) == 8 + 2 and len(large) == 2, "one a seed"
    at = [titles(found).index(name) for name in ("pool", "num_samples", "seed")]
    assert [[row[place].text for place in at] for row in large] == [["", "", "0"], ["", "", "1"]]
    assert found.columns[at[1]].is_number, "it sorts as numbers"
    means = table.means(made)
    assert means and [row[titles(means).index("runs")].text for row in means.rows if row[0].text == "large"] == ["2"]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    made = [{**row, "model": HOSTILE, "sweep.keep": HOSTILE} for row in rows({"num_samples": [1, 10]})]
    page = Page(report(tmp_path, made, name=HOSTILE))
    assert len(page.all("script")) == 1 and not page.all("img")
    assert "\\|" in (tmp_path / "report.md").read_text()


def test_markdown_and_pictures_lie_beside_the_page(tmp_path: Path) -> None:
    made = by_k()
    report(tmp_path, made, png=False)
    text = (tmp_path / "report.md").read_text()
    named = re.findall(r"\(plots/([\w-]+\.svg)\)", text)
    pictures = sorted((tmp_path / "plots").glob("*.svg"))
    assert sorted(named) == [path.name for path in pictures] and named
    for path in pictures:
        root = ET.parse(path).getroot()
        assert root.tag == f"{SVG}svg" and "var(" not in path.read_text() and "@media" not in path.read_text()
    rows_of_table = [line for line in text.splitlines() if line.startswith("| small") or line.startswith("| medium")]
    assert len(rows_of_table) == len(made) + len(made) // 3, "every run, and the means over seeds"


def plot_data(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "plots" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_picture_has_its_data_beside_it(tmp_path: Path) -> None:
    made = by_k()
    report(tmp_path, made)
    assert {p.stem for p in (tmp_path / "plots").glob("*.csv")} == {p.stem for p in (tmp_path / "plots").glob("*.svg")}
    found = plot_data(tmp_path, "accuracy-k")
    assert len(found) == 2 * 2 * len(KS)
    one = next(row for row in found if row["series"] == "medium, dedup false" and float(row["x"]) == 25)
    at_25 = [
        row for row in made if (row["model"], row["sweep.num_samples"], row["sweep.dedup"]) == ("medium", 25, False)
    ]
    assert float(one["y"]) == pytest.approx(100 * np.mean([row["rft.accuracy"] for row in at_25]))
    assert float(one["low"]) < float(one["y"]) < float(one["high"]) and one["num_seeds"] == "3"
    assert {row["kind"] for row in plot_data(tmp_path, "pass-k")} == {"SFT", "RFT"}
    overlap = plot_data(tmp_path, "paths-overlap")
    assert len(overlap) == len(made) * 7
    assert overlap[-1].items() > {"model": "medium", "sources": "small/sft medium/sft large/sft"}.items()


def test_pools_and_lenders_have_curves_under_their_names(tmp_path: Path) -> None:
    made = rows({"seed": [0, 1]}, ["small", "large"])
    for row in made:
        own = 1.5 if row["model"] == "small" else 1.8
        row["own_paths"] = {"samples_per_problem": 10, "distinct_paths": own, "distinct_paths_low": own - 0.1,
                            "distinct_paths_high": own + 0.1, "distinct_curve": [[1, 1.1], [10, own]]}  # fmt: skip
        if row["model"] == "large":  # no RFT, so no paths that it was chosen from
            del row["distinct_curve"], row["distinct_paths"], row["rft.accuracy"], row["samples_per_problem"]
    report(tmp_path, made)
    ends = {row["series"]: (float(row["x"]), float(row["y"])) for row in plot_data(tmp_path, "paths-k")}
    assert ends.keys() == {"small", "large", "pool"}
    assert ends["small"] == pytest.approx((10, 1.5)) and ends["large"] == pytest.approx((10, 1.8))
    assert ends["pool"][1] > 2


@pytest.mark.skipif(not picture_files.can_draw_png(), reason="needs pip install 'qrft[png]'")
def test_pictures_as_png(tmp_path: Path) -> None:
    report(tmp_path, rows({"num_samples": [1, 10]}), png=True)
    data = (tmp_path / "plots" / "accuracy-k.png").read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) > 5000


def test_png_is_asked_for_where_resvg_is() -> None:
    assert picture_files.can_draw_png() == (importlib.util.find_spec("resvg_py") is not None)


# --------------------------------------------------------------------------------------------------------- the columns


def summary(**more: Any) -> Row:
    names = ("model", "problems", "few_shot", "measure", "value", "low", "high")
    measures = [
        dict(zip(names, (model, problems, shots, measure, value, 0.1, 0.9), strict=True))
        for model, problems, shots, measure, value in (
            ("base", "gsm8k/test", 0, "greedy", 0.2), ("base", "gsm8k/test", 8, "greedy", 0.3),
            ("base", "gsm8k/test", 4, "greedy", 0.25), ("rft", "gsm8k/test", 0, "greedy", 0.5),
            ("rft", "gsm8k/test", 0, "pass@10", 0.8), ("rft", "svamp/test", 0, "greedy", 0.6),
        )
    ]  # fmt: skip
    cost = {"total": {"flops": 212.0}, "sft": {"flops": 3.0, "cpu_seconds": 1.0}, "rft": {"flops": 12.0}, "steps": {}}
    return {"name": "x", "measures": measures, "cost": cost, "seconds": {"a": 1.5, "b": 2.0},
            "rft": {"accuracy": 0.5}, "by_steps": [{"steps": 1}], **more}  # fmt: skip


def test_columns_of_measures_and_costs() -> None:
    found = stage.columns(summary())
    assert found["rft.pass@10"] == 0.8 and found["rft.svamp/test.greedy"] == 0.6 and found["base.8-shot.greedy"] == 0.3
    assert (found["icl.accuracy"], found["icl.few_shot"], found["icl.low"]) == (0.3, 8, 0.1)
    assert (found["cost.sft.flops"], found["cost.flops"], found["seconds"]) == (3.0, 212.0, 3.5)
    assert found["cost.rft.flops"] == 12.0
    forms = [
        {"model": model, "problems": problems, "few_shot": shots, "flexible": {"value": value, "low": 0.1, "high": 0.9}}
        for model, problems, shots, value in (
            ("base", "gsm8k/test", 0, 0.25), ("base", "gsm8k/test", 8, 0.35), ("rft", "svamp/test", 0, 0.7),
            ("rft", "gsm8k/test", 0, 0.6),
        )
    ]  # fmt: skip
    told = stage.columns(summary(forms=forms))
    assert (told["base.flexible"], told["icl.flexible"], told["rft.flexible"]) == (0.25, 0.35, 0.6)
    assert told["rft.flexible.high"] == 0.9
    assert not any(isinstance(value, list | dict) for value in found.values())
    assert json.loads(json.dumps(found)) == found
    assert stage.lists(summary())["by_steps"] == [{"steps": 1}]


def test_sizes_of_bases_are_told_apart() -> None:
    made = rows({"seed": [0, 1]}, list(SIZES))
    found = drawn(made)
    assert "R² " in found["accuracy-size"].notes[0] and "points per nat" in found["accuracy-loss"].notes[0]
    assert found["gain-sft"].svg.count("<g>") == len(SIZES)
