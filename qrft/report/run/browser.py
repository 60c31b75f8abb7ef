"""The data behind the report's browser: samples grouped into paths, each with its verdict and the reason for it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from qrft.grading import Rules, reference
from qrft.grading.reference import paper
from qrft.grading.rules import DEFAULT_FORMAT
from qrft.report.run.measures import Run
from qrft.report.words import BEFORE, EQUATION_TROUBLE, SOUNDNESS

# A page of 500 problems is a few megabytes, which any browser opens at once. Nobody reads more of them one by one.
MAX_PROBLEMS = 500
MAX_PATHS = 30  # per problem
MAX_WORDINGS = 3  # per path, beside the one that represents it
MAX_TEXT = 2000  # characters
MAX_DIFFERENCES = 200  # test problems won, and at most as many lost

Row = dict[str, Any]  # a sample with its grade and its verdict

# The path that a verdict belongs to, in the order in which paths are shown.
GROUPS = {
    "kept": 0,
    "over_limit": 0,
    "duplicate": 0,
    "duplicate_of_gold": 1,
    "cut_off": 2,
    "unsound": 3,
    "bad_equation": 4,
    "incorrect": 5,
}
RIGHT_BY = {"vote": "the answer that won the vote", "verdict": "right by its verdict"}
SHOWN_FIRST = {"kept": 0, "over_limit": 1}  # within a path


def script_json(value: Any) -> Markup:
    """Return JSON that is safe inside a script element: no character of it can end the element or open a comment.

    Non-ASCII characters, U+2028 among them, also become escapes.
    """
    text = json.dumps(value, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]} … (the first {MAX_TEXT:,} of {len(text):,} characters)"


# ---------------------------------------------------------------------------------------------------- reasons ----


def answer_of(row: Row) -> str:
    """Return the answer's text; spans are in bytes."""
    if row["answer_start"] < 0:
        return ""
    found: str = row["completion"].encode()[row["answer_start"] : row["answer_end"]].decode(errors="replace")
    return found if len(found) <= 60 else found[:60] + "…"


def bad_equations(completion: str, rules: Rules) -> list[tuple[str, str]]:
    """Return the text and the status of every equation that is not right."""
    data = completion.encode()
    if rules.mode == "paper":
        texts = [text.decode(errors="surrogateescape") for text in paper.find_equations(data)]
        return [(text, "wrong") for text in texts if not paper.check_equation(text)]
    return [
        (data[e.start : e.end].decode(errors="replace"), e.status)
        for e in reference.find_equations(data, rules.equations, rules.traces)
        if e.status != "ok"
    ]


def trouble(row: Row, rules: Rules) -> str:
    """Return what is wrong with the first bad equation, such as "equation 3*4=13 is wrong"; empty without one."""
    if row["equations_status"] == "ok":
        return ""
    for found, status in bad_equations(row["completion"], rules):
        if not found.strip():
            return "an equation is empty"
        shown = found.strip() if len(found) <= 80 else found[:80] + "…"
        return f"equation {shown} {EQUATION_TROUBLE.get(status, status)}"
    # Another version of the grader wrote the table.
    return f"an equation {EQUATION_TROUBLE.get(row['equations_status'], row['equations_status'])}"


def is_number(gold_answer: str, rules: Rules) -> bool:
    if rules.mode == "paper":
        return paper.parse_number(gold_answer).status == "ok"
    return reference.parse_number(gold_answer, rules.answer_format or DEFAULT_FORMAT, rules.marker).status == "ok"


def answer_trouble(row: Row, gold_answer: str, rules: Rules) -> str:
    """Return why the answer does not count."""
    status, answer = row["status"], answer_of(row)
    if status == "no_marker":
        return "no answer" + (", cut off at the token limit" if row["finish_reason"] == "length" else "")
    if status == "open_trace":
        return "no answer: the trace never closes" + (
            ", cut off at the token limit" if row["finish_reason"] == "length" else ""
        )
    if status == "not_a_number":
        return f"the answer is not a number: {answer}" if answer else "nothing stands where the answer should be"
    if status == "expression":
        return f"answer {answer} is an expression, which was not compared"
    if status == "too_big":
        return f"answer {answer} is too big to compare"
    if status == "latex_timeout":
        return f"comparing answer {answer} with {gold_answer} took too long"
    if status == "latex_undecided":
        return f"answer {answer} may equal {gold_answer}, but parts of one of them can't be read"
    if status == "latex_error":
        return f"answer {answer} can't be compared with {gold_answer}"
    if row.get("judged_by") == "verdict":
        return f"answer {answer} is wrong by its verdict"
    if not gold_answer:
        return "the problem has no answer to compare with"
    if status == "ok" and not is_number(gold_answer, rules):
        return f"the gold answer {gold_answer} is not a number to compare with"
    return f"answer {answer} is not {gold_answer}"


def reason(rows: Sequence[Row], problem: Row, run: Run) -> str:
    """Return why the path of these samples was kept or dropped; the first sample represents all."""
    verdict = rows[0]["verdict"]
    if verdict == "kept":
        others = sum(row["verdict"] != "kept" for row in rows)
        rest = f"; {others} more with the same equations {'was' if others == 1 else 'were'} dropped" if others else ""
        return f"kept: {RIGHT_BY.get(str(rows[0].get('judged_by')), 'right answer')}, {why_kept(problem, run)}{rest}"
    if verdict == "duplicate_of_gold":
        return "dropped: same equations as the gold solution"
    if verdict == "over_limit":
        return "dropped: the problem already has as many kept paths as allowed"
    if verdict == "duplicate":
        return "dropped: the same equations as a kept path"
    if verdict == "cut_off":
        return "dropped: right answer, but the text was cut off at the token limit"
    if verdict == "unsound":
        return f"dropped: right answer, but {SOUNDNESS[rows[0]['soundness']]}"
    if verdict == "bad_equation":
        return f"dropped: {trouble(rows[0], run.rules)}"
    troubles = [answer_trouble(rows[0], problem["answer"], run.rules), trouble(rows[0], run.rules)]
    return "dropped: " + "; ".join(filter(None, troubles))


def why_kept(problem: Row, run: Run) -> str:
    has_gold_path = bool(problem["solution"]) and run.rules.mode != "paper"
    if not has_gold_path or not run.settings.dedup:  # no path is excluded beforehand
        return "and every equation is right"
    return "every equation is right, and the equations differ from the gold solution's"


# ------------------------------------------------------------------------------------------------------ paths ----


def path_of(row: Row) -> tuple[Any, ...]:
    """Return what groups samples under one heading: their equations, and for wrong ones also their answer."""
    group = GROUPS.get(row["verdict"], len(GROUPS))
    wrong = (row["status"], answer_of(row), row["equations_status"]) if row["verdict"] == "incorrect" else ()
    return group, row["equation_key"], wrong


def paths(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the samples of a problem by path: kept paths first, then frequent ones; in each the kept sample first."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(path_of(row), []).append(row)
    for members in found.values():
        members.sort(key=lambda row: SHOWN_FIRST.get(row["verdict"], len(SHOWN_FIRST)))
    return sorted(found.values(), key=lambda members: (path_of(members[0])[0], -len(members)))


def path_entry(rows: Sequence[Row], problem: Row, run: Run) -> dict[str, Any]:
    shown = rows[0]["completion"]
    wordings = dict.fromkeys(row["completion"] for row in rows[1:] if row["completion"] != shown)
    return {
        "verdict": rows[0]["verdict"],
        "count": len(rows),
        "why": reason(rows, problem, run),
        **marked(rows[0], run.rules),
        "wordings": [cut(wording) for wording in list(wordings)[:MAX_WORDINGS]],
        "num_wordings": len(wordings) + 1,
    }


def problem_entry(problem: Row, rows: Sequence[Row], run: Run) -> dict[str, Any]:
    groups = paths(rows)
    return {
        "id": problem["problem_id"],
        "question": cut(problem["question"]),
        "gold": cut(gold_of(problem, rows)),
        "num_samples": len(rows),
        "num_correct": sum(bool(row["is_correct"]) for row in rows),
        "paths": [path_entry(group, problem, run) for group in groups[:MAX_PATHS]],
        "num_paths": len(groups),
    }


def gold_of(problem: Row, rows: Sequence[Row]) -> str:
    """Return the gold solution or answer; one that samples voted for says so."""
    told: str = problem["solution"] or problem["answer"] or "(no answer)"
    return f"{told} (by the vote of its samples)" if rows and rows[0].get("judged_by") == "vote" else told


def sampled(run: Run) -> list[dict[str, Any]]:
    """Return the first problems of the training set with what was sampled for them."""
    problems = run.problems.slice(0, MAX_PROBLEMS)
    texts, graded = run.sampled(["problem_id", "sample_index", "completion", "finish_reason"])
    whole = join(texts, graded).append_column("verdict", run.verdicts)
    rows = whole.filter(pc.is_in(texts["problem_id"], value_set=problems["problem_id"].combine_chunks())).to_pylist()
    by_problem = {name: list(members) for name, members in groupby(sorted(rows, key=_id), key=_id)}
    return [problem_entry(problem, by_problem.get(problem["problem_id"], []), run) for problem in problems.to_pylist()]


def _id(row: Row) -> str:
    return str(row["problem_id"])


def join(samples: pa.Table, graded: pa.Table) -> pa.Table:
    """Return the samples beside their grades; the tables are row-aligned."""
    for name in graded.column_names:
        samples = samples.append_column(name, graded[name])
    return samples


# ---------------------------------------------------------------------------------------------- test problems ----


GREEDY = "test"  # the part of the one greedy answer to each problem of problems.test
NO_DIFFERENCES: dict[str, Any] = {"won": [], "lost": [], "num_won": 0, "num_lost": 0}


def differences(run: Run) -> dict[str, Any]:
    """Return the test problems that only RFT solved ("won"), and those that only the model before it solved ("lost"),
    with both answers."""
    if not run.steps("samples", phase=run.before_rft, part=GREEDY):
        return NO_DIFFERENCES
    asked = run.table(run.step("problems", part="test"), "problems.parquet")
    problems = {row["problem_id"]: row for row in asked.to_pylist()}
    before, rft = (greedy(run, model) for model in (run.before_rft, "rft"))
    shared = [name for name in problems if name in before and name in rft]
    won = [name for name in shared if rft[name]["is_correct"] and not before[name]["is_correct"]]
    lost = [name for name in shared if before[name]["is_correct"] and not rft[name]["is_correct"]]

    def entries(names: list[str]) -> list[dict[str, Any]]:
        answered = [(problems[name], before[name], rft[name]) for name in names[:MAX_DIFFERENCES]]
        return [difference_entry(*rows, BEFORE[run.before_rft], run.settings.test_rules) for rows in answered]

    return {
        "won": entries(won),
        "lost": entries(lost),
        "num_won": len(won),
        "num_lost": len(lost),
    }


def greedy(run: Run, model: str) -> dict[str, Row]:
    """Return the one greedy answer of a model to each test problem."""
    samples, graded = (run.step(kind, phase=model, part=GREEDY) for kind in ("samples", "graded"))
    texts = run.table(samples, "samples.parquet", ["problem_id", "completion", "finish_reason"])
    rows = join(texts, run.table(graded, "graded.parquet")).to_pylist()
    return {row["problem_id"]: row for row in rows}


def difference_entry(problem: Row, before: Row, rft: Row, name_before: str, rules: Rules) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": problem["problem_id"],
        "question": cut(problem["question"]),
        "gold": cut(problem["solution"] or problem["answer"]),
    }
    for key, name, row in (("before", name_before, before), ("rft", "RFT", rft)):
        entry[key] = {
            "name": name,
            "is_correct": bool(row["is_correct"]),
            "why": greedy_reason(row, problem["answer"], rules),
            **marked(row, rules),
        }
    return entry


def greedy_reason(row: Row, gold_answer: str, rules: Rules) -> str:
    verdict = f"right: {answer_of(row)}" if row["is_correct"] else f"wrong: {answer_trouble(row, gold_answer, rules)}"
    return "; ".join(filter(None, [verdict, trouble(row, rules)]))


def marked(row: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """Return a completion with the texts of its bad equations; the page marks those between << and >>."""
    bad = [found for found, _ in bad_equations(row["completion"], rules)] if row["equations_status"] != "ok" else []
    return {"text": cut(row["completion"]), "bad": bad}
