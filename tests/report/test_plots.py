"""What the plots of a sweep show: which runs, as which series, where, and how certain."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from helpers.sweeps import SIZES, Row, rows

from qrft.report.page import asset
from qrft.report.sweep import table
from qrft.report.sweep.drawing import Plot
from qrft.report.sweep.plane import NUM_STYLES, shape
from qrft.report.sweep.plots import plots
from qrft.report.sweep.points import points, word

SVG = "{http://www.w3.org/2000/svg}"
GOAL = {"correct": 8, "max_samples": 100}


def drawn(made: list[Row]) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots(made)}


def tree(svg: str) -> ET.Element:
    return ET.fromstring(str(svg).replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


def tips(plot: Plot) -> list[str]:
    return [title.text or "" for title in tree(plot.svg).iter(f"{SVG}title")]


def words(plot: Plot) -> list[str]:
    """All texts but the tips: the ticks, labels and the legend."""
    return [text.text or "" for text in tree(plot.svg).iter(f"{SVG}text")]


def by_goal(seeds: int = 2) -> list[Row]:
    """27 samples of each problem, against up to 100 of the hard ones and 20 on average."""
    made = rows({"sample.until": [{}, GOAL], "seed": list(range(seeds))})
    for row in made:
        most, total = (100, 300 * 20) if row["sweep.sample.until"] else (27, 300 * 27)
        row |= {"samples_per_problem": most, "num_samples": total, "num_train": 300}
        row["distinct_curve"] = [[k, (1.1 if most == 100 else 1) * value] for k, value in row["distinct_curve"]]
    return made


# ------------------------------------------------------------------------------------------------ which runs are drawn


def test_distinct_paths_have_a_series_for_each_setting_that_changes_them() -> None:
    found = drawn(by_goal())["paths-k"]
    assert {"until none", "until correct 8+max_samples 100"} <= set(words(found))


def test_of_runs_that_differ_in_k_the_largest_tells_the_distinct_paths() -> None:
    """Its curve holds those of the others, which must not count as runs of their own."""
    made = rows({"num_samples": [5, 20], "keep": ["first", "farthest"], "seed": [0, 1]})
    for row in made:
        more = 0.5 * (row["sweep.keep"] == "first") + 0.2 * (row["sweep.num_samples"] == 5)
        row["distinct_curve"] = [[k, value + more] for k, value in row["distinct_curve"]]
    said = tips(drawn(made)["paths-k"])
    assert sum(text.startswith("keep first: 2.40") for text in said) == 1  # at k = 1, 1.9 + 0.5
    assert not any("num_samples" in text for text in said)


def test_runs_without_a_curve_are_counted_in_the_caption() -> None:
    made = by_goal()
    assert "no such curve" not in drawn(made)["paths-k"].caption
    made = [{**row, "distinct_curve": []} if row["sweep.sample.until"] else row for row in made]
    assert drawn(made)["paths-k"].caption.endswith("2 of 4 runs have no such curve.")


def test_k_is_the_mean_where_some_problems_are_sampled_more() -> None:
    made = by_goal()
    assert {point.x for point in points([{**row, "k": 1} for row in made], "k", "gain").listed} == {1}
    plot = drawn(made)["accuracy-k"]
    assert {"20", "27"} <= set(words(plot)) and "100" not in words(plot)
    assert not [path for path in tree(plot.svg).iter(f"{SVG}path") if "L" in path.attrib["d"] and is_curve(path)]
    shown = table.table(made)
    at = [column.title for column in shown.columns].index("k")
    assert [row[at].text for row in shown.rows] == ["27", "27", "20.00", "20.00"]


def is_curve(path: ET.Element) -> bool:
    return path.attrib["class"].startswith("curve")


def test_a_setting_in_words_is_no_step_along_a_curve() -> None:
    """A pool of two models has twice the samples: no line leads from one model's own to it."""
    made = rows({"pool": [[], ["a", "b"]], "num_samples": [8, 16, 32], "seed": [0, 1]})
    made = [{**row, "samples_per_problem": row["samples_per_problem"] * (len(row["sweep.pool"]) or 1)} for row in made]
    found = points(made, "samples_per_problem", "rft.accuracy")
    assert {point.series for point in found.listed} == {"pool none", "pool a+b"}
    assert found.along == ["num_samples 8 to 32"]


def test_the_settings_of_the_most_values_are_averaged_over_first() -> None:
    made = rows({"num_samples": [1, 3, 6, 12, 25], "dedup": [True, False], "seed": [0, 1]})
    found = drawn(made)["pass-k"]
    assert found.caption.endswith("Means over num_samples.")
    assert {"RFT, dedup true", "RFT, dedup false"} <= set(words(found))


def test_a_base_has_one_point_whatever_else_was_swept() -> None:
    made = rows({"dedup": [True, False], "seed": [0, 1]}, list(SIZES))
    found = drawn(made)["accuracy-loss"]
    said = [text for text in tips(found) if "mean of 2 seeds" in text]
    assert len(said) == len(tips(found)) == 3 * len(SIZES) and found.caption.endswith("Means over dedup.")


def test_steps_are_of_the_largest_k_and_say_where_longer_ones_are() -> None:
    made = rows({"num_samples": [1, 3, 6, 12, 25], "dedup": [True, False], "seed": [0, 1]})
    found = drawn(made)["accuracy-steps"]
    assert {"RFT, dedup true", "RFT, dedup false"} <= set(words(found)) and "largest k" in found.caption
    assert "longer" not in found.caption, "none had 8 steps"
    for row in made:
        row["by_steps"] = [{**entry, "steps": entry["steps"] + 4} for entry in row["by_steps"]]
    assert "8 also stands for all longer ones." in drawn(made)["accuracy-steps"].caption


def test_steps_of_two_models_stand_side_by_side() -> None:
    svg = tree(drawn(rows({"dedup": [True, False], "seed": [0, 1]}))["accuracy-steps"].svg)
    dots = [p for g in svg.iter(f"{SVG}g") for p in g.iter(f"{SVG}path") if "dot" in p.attrib["class"]]
    at = [re.findall(r"translate\(([\d.]+) ", dot.attrib["transform"])[0] for dot in dots]
    assert len(set(at)) == len(at) == 2 * 2 * 4


def test_the_cost_plot_tells_settings_apart() -> None:
    made = rows({"num_samples": [1, 10, 30], "dedup": [True, False], "seed": [0, 1]})
    made = [{**row, "cost.rft.flops": row["cost.rft.flops"] * (1 + (not row["sweep.dedup"]))} for row in made]
    found = drawn(made)["accuracy-cost"]
    assert {"RFT, dedup true", "RFT, dedup false"} <= set(words(found))
    assert "Along a series: num_samples 1 to 30." in found.caption


def test_sixteen_models_look_different() -> None:
    assert len({str(shape(style, 0, 0)) for style in range(NUM_STYLES)}) == NUM_STYLES == 16
    nine = [f"{size}-{tokens}" for size in ("small", "medium", "large") for tokens in ("1M", "2M", "5M")]
    made = [{**row, "model": f"{row['model']}-{row['sweep.data']}"} for row in
            rows({"data": ["1M", "2M", "5M"], "num_samples": [1, 10]}, ["small", "medium", "large"])]  # fmt: skip
    svg = tree(drawn([{k: v for k, v in row.items() if k != "sweep.data"} for row in made])["accuracy-k"].svg)
    lines = {path.attrib["class"] for path in svg.iter(f"{SVG}path") if is_curve(path)}
    marks = {(p.attrib["class"], p.attrib["d"]) for g in svg.iter(f"{SVG}g") for p in g.iter(f"{SVG}path")}
    assert len(lines) == len(marks) == len(nine)


def test_an_empty_setting_is_none() -> None:
    assert [word({}), word([]), word({"correct": None}), word(None)] == ["none", "none", "none", "null"]
    assert word(GOAL) == "correct 8+max_samples 100"


# ------------------------------------------------------------------------------------------------------------ intervals


def overlaps(shares: list[float], **more: Any) -> list[Row]:
    """A row a share: of 100 paths so many are a's alone, the others both's."""
    made = rows({"seed": list(range(len(shares)))})
    for row, share in zip(made, shares, strict=True):
        alone = {"sources": ["a"], "count": round(100 * share)}
        row |= {"overlap": [alone, {"sources": ["a", "b"], "count": 100 - alone["count"]}], **more}
    return made


def test_an_overlap_counts_a_seed_once() -> None:
    """Runs with and without dedup, or of several models, look at one pool: they are no more seeds."""
    three = overlaps([0.2, 0.3, 0.4])
    doubled = [{**row, "sweep.dedup": dedup} for row in three for dedup in (True, False)]
    once, twice = drawn(three)["paths-overlap"], drawn(doubled)["paths-overlap"]
    assert once.svg == twice.svg and "dedup" not in twice.caption
    half = 4.3027 * 0.1 / math.sqrt(3)
    (note,) = once.notes
    assert note == f"a alone: 30.0% ({100 * (0.3 - half):.1f}% to {100 * (0.3 + half):.1f}%)"
    assert all("mean of 3 seeds" in text for text in tips(once))


def test_an_overlap_is_of_the_largest_k() -> None:
    made = [{**row, "sweep.num_samples": k, "samples_per_problem": k, "overlap": row["overlap"] if k == 32 else
             [{"sources": ["a", "b"], "count": 1}]} for row in overlaps([0.2, 0.3]) for k in (8, 32)]  # fmt: skip
    found = drawn(made)["paths-overlap"]
    assert found.notes[0].startswith("a alone: 25.0%") and "the largest k" in found.caption


def test_settings_that_change_the_overlap_are_named() -> None:
    made = [
        {**row, "sweep.temperature": t, "overlap": row["overlap"] if t == 1 else [{"sources": ["a", "b"], "count": 1}]}
        for row, t in itertools.product(overlaps([0.2, 0.4]), (0.5, 1))
    ]
    found = drawn(made)["paths-overlap"]
    assert found.notes[0].startswith("a alone: 15.0%") and found.caption.endswith("Means over temperature.")


def test_the_bars_of_an_overlap_are_whole_and_end_within_the_picture() -> None:
    """The upper bound lies above every seed's own share."""
    svg = tree(drawn(overlaps([0.45, 0.5, 0.55]))["paths-overlap"].svg)
    half = 4.3027 * 0.05 / math.sqrt(3)
    columns = [g for g in svg.iter(f"{SVG}g") if g.find(f"{SVG}rect") is not None]
    assert len(columns) == 2
    for column in columns:
        (bar,), (rect,) = column.findall(f"{SVG}line"), column.findall(f"{SVG}rect")
        top, bottom = sorted(float(bar.attrib[key]) for key in ("y1", "y2"))
        assert (bottom - top) / float(rect.attrib["height"]) == pytest.approx(2 * half / 0.5, abs=0.01)
        assert top > 20


def test_no_interval_of_zero_width_is_shown() -> None:
    made = [{**row, "gain": 0.0, "gain_low": 0.0, "gain_high": 0.0, "base.accuracy": 0.0} for row in
            rows({"num_samples": [1, 10], "seed": [0, 1]})]  # fmt: skip
    for shown in (table.table(made), table.means(made)):
        assert shown is not None
        at = [column.title for column in shown.columns].index("Gain")
        assert [(row[at].text, row[at].note) for row in shown.rows] == [("+0.0", "")] * len(shown.rows)
    for plot in drawn(made).values():
        assert not any(
            low == high for text in tips(plot) for low, high in re.findall(r"\(([−\d.]+) to ([−\d.]+)", text)
        )


def test_no_line_is_fitted_where_chance_alone_slopes() -> None:
    """Of equal bases those whose SFT was lucky gain less."""
    found = drawn(rows({"seed": [0, 1, 2]}, list(SIZES), sft=lambda *_: 0.4))["gain-sft"]
    assert found.notes == [] and 'class="fit' not in found.svg and "lucky" in found.caption


@pytest.mark.parametrize(("k", "tick"), [(7, "7"), (26.7, "26.7"), (25.788, "25.8")])
def test_ticks_have_no_more_digits_than_they_need(k: float, tick: str) -> None:
    made = rows({"keep": ["a", "b"]})
    for row, total in zip(made, (1000 * k, 1000), strict=True):
        row |= {"num_samples": total, "num_train": 1000}
    assert {tick, "1"} <= set(words(drawn(made)["accuracy-k"]))


def test_plots_are_printed_side_by_side() -> None:
    """A page of paper is narrower than the screens that have one column."""
    printed = str(asset("charts.css")).rpartition("@media print")[2]
    assert re.search(r"\.sweep \.grid \{ grid-template-columns: 1fr 1fr;", printed)
