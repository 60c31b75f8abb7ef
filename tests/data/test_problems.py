"""Problems of every form become one table: the question, the worked solution where there is one, and the answer."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import paths

from qrft import grading
from qrft.data import schema
from qrft.data.problems import formulas, registry, svamp
from qrft.data.problems.gold import read_gold
from qrft.data.problems.own_files import read_file
from qrft.data.problems.table import clusters_of, share
from qrft.data.worked import check_worked, gold_texts, is_worked
from qrft.errors import DataError
from qrft.grading import Rules, latex
from qrft.grading.batch import BatchGrader
from qrft.models.find import fingerprint

WORKED = "3+4=<<3+4=7>>7\n#### 7"
MATH = r"Since $3+4=7$, the answer is $\boxed{7}$."


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def turns(**texts: Any) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in texts.items()]


def only(path: Path) -> dict[str, str]:
    [row] = read_file(path).to_pylist()
    return dict(row)


# ---------------------------------------------------------------------------------------------------- gold answers ----


@pytest.mark.parametrize(
    ("text", "solution", "answer"),
    [
        (WORKED, WORKED, "7"),
        ("So 3 #### 4\n#### 7 ", "So 3 #### 4\n#### 7", "7"),
        ("72", "", "72"),
        (" 72\n", "", "72"),
        ("#### 72", "", "72"),
        ("Mrs. Hilt", "", "Mrs. Hilt"),
        (r"\frac{1}{2}", "", r"\frac{1}{2}"),
        (r"\boxed{5}", "", "5"),
        (r"$\boxed{5}$.", "", "5"),
        (r"\[ \fbox{5} \]", "", "5"),
        (r"#### \boxed{5}", "", "5"),
        (MATH, MATH, "7"),
        (r"First \boxed{3}, then \boxed{\frac{1}{2}}.", r"First \boxed{3}, then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"It is \boxed{x \text{ and } \{y\}} é", r"It is \boxed{x \text{ and } \{y\}} é", r"x \text{ and } \{y\}"),
        (r"So \boxed {4", r"So \boxed {4", "4"),
        ("#### Step 1\nAdd.\n#### Step 2\nSo \\boxed{7}", "#### Step 1\nAdd.\n#### Step 2\nSo \\boxed{7}", "7"),
        (r"In \boxed{3} we trust.\n#### 7", r"In \boxed{3} we trust.\n#### 7", "7"),
    ],
)
def test_a_text_holds_a_worked_solution_or_a_bare_answer(text: str, solution: str, answer: str) -> None:
    assert read_gold(text) == (solution, answer)


# ---------------------------------------------------------------------------------------------- people's own files ----


@pytest.mark.parametrize(
    ("row", "solution", "answer"),
    [
        ({"question": "3 and 4?", "answer": WORKED}, WORKED, "7"),
        ({"question": "3 and 4?", "answer": 7}, "", "7"),
        ({"question": "3 and 4?", "answer": MATH}, MATH, "7"),
        ({"question": "3 and 4?", "solution": "It is seven.", "answer": "7"}, "It is seven.", "7"),
        ({"question": "3 and 4?", "solution": WORKED, "answer": 7}, WORKED, "7"),
        ({"question": "3 and 4?", "solution": MATH, "answer": r"\boxed{7}"}, MATH, "7"),
        ({"question": "3 and 4?", "solution": None, "answer": "7"}, "", "7"),
        ({"question": "3 and 4?", "solution": "", "answer": "7"}, "", "7"),
        ({"question": "3 and 4?", "solution": "#### 7", "answer": "7"}, "", "7"),
        ({"question": "3 and 4?", "solution": "7", "answer": "7"}, "", "7"),
        ({"question": "3 and 4?", "solution": ["a", "b"], "answer": "7"}, "", "7"),
        ({"question": "3 and 4?", "solution": "other", "answer": WORKED}, WORKED, "7"),
        ({"problem": "3 and 4?", "solution": MATH}, MATH, "7"),
        ({"problem": "3 and 4?", "solution": MATH, "answer": "7", "level": 2}, MATH, "7"),
        ({"question": None, "problem": "3 and 4?", "answer": "7"}, "", "7"),
        ({"messages": turns(user="3 and 4?", assistant=WORKED)}, WORKED, "7"),
        ({"messages": turns(system="Be kind.", user="3 and 4?", assistant=MATH)}, MATH, "7"),
        ({"messages": turns(user="3 and 4?", assistant="It is seven."), "answer": "7"}, "It is seven.", "7"),
        ({"messages": turns(user="3 and 4?"), "answer": 7}, "", "7"),
        ({"messages": turns(user="other"), "question": "3 and 4?", "answer": WORKED}, WORKED, "7"),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_row_is_the_same_problem_in_jsonl_and_in_parquet(
    tmp_path: Path, row: dict[str, Any], solution: str, answer: str, suffix: str
) -> None:
    path = tmp_path / f"p.{suffix}"
    if suffix == "jsonl":
        write(path, row)
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    assert only(path) == {"problem_id": "0", "question": "3 and 4?", "solution": solution, "answer": answer}


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([*turns(user="a", assistant="1"), *turns(user="b")], "the roles user, assistant, user"),
        (turns(assistant="1"), "the roles assistant"),
        (turns(user=["a"]), "the roles user, with a content that is no text"),
        ([{"role": "user"}], "the roles user, with a content that is no text"),
        ([{"role": ["user"], "content": "a"}], "the roles ['user']"),
        (["a"], "the roles None"),
        ([], "[]"),
        ("a", "'a'"),
    ],
)
def test_a_conversation_is_one_question_and_its_solution(tmp_path: Path, messages: Any, found: str) -> None:
    with pytest.raises(DataError) as caught:
        read_file(write(tmp_path / "p.jsonl", {"messages": messages, "answer": 1}))
    expected = f'{tmp_path}/p.jsonl:1: found {found} under "messages". Expected turns of system (or none), user and'
    assert str(caught.value).startswith(expected)


def test_system_turns_in_the_data_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"messages": turns(system=told, user="a"), "answer": 1} for told in ("Be kind.", "Be kind.", "Be brief.")]
    read_file(write(tmp_path / "p.jsonl", *rows[:2], {"question": "b", "answer": 1}))
    read_file(write(tmp_path / "p.jsonl", *rows))
    one, several = (record.getMessage() for record in caplog.records)
    assert "2 rows have the system turn 'Be kind.', which is left out. The key `system` puts one into" in one
    assert "3 rows have one of 2 system turns, which is left out." in several


@pytest.mark.parametrize("key", ["problem_id", "id", "unique_id"])
def test_a_problem_has_the_id_of_its_row_or_its_number(tmp_path: Path, key: str) -> None:
    path = write(tmp_path / "p.jsonl", {"question": "a", "answer": 1, key: "x/1"}, {"question": "b", "answer": 1})
    assert read_file(path)["problem_id"].to_pylist() == ["x/1", "1"]


def test_a_cluster_names_what_problems_share(tmp_path: Path) -> None:
    rows = [{"question": name, "answer": 1, "cluster": name in "ab"} for name in "abc"]
    with pytest.raises(DataError, match=r"p.jsonl:1: cluster is True, expected a whole number or a text"):
        read_file(write(tmp_path / "p.jsonl", *rows))
    rows = [{**row, "cluster": "sum" if row["cluster"] else 7} for row in rows]
    problems = read_file(write(tmp_path / "p.jsonl", *rows))
    assert problems["cluster"].to_pylist() == ["sum", "sum", "7"] and clusters_of(problems).tolist() == [0, 0, 1]
    assert clusters_of(problems.drop_columns("cluster")) is None
    pq.write_table(problems, tmp_path / "p.parquet")
    assert read_file(tmp_path / "p.parquet") == problems
    del rows[1]["cluster"]
    with pytest.raises(DataError, match=r"p.jsonl:2: has no cluster, unlike the problems before\. Give one to each"):
        read_file(write(tmp_path / "p.jsonl", *rows))


def test_the_clusters_of_tiny_math_are_its_wordings() -> None:
    drawn = registry.draw("tiny-math/train", 0, 2000)
    first_words: dict[str, list[str]] = {}
    for cluster, question in zip(drawn["cluster"].to_pylist(), drawn["question"].to_pylist(), strict=True):
        first_words.setdefault(cluster, []).append(re.sub(r"[A-Z]\w+|\d+", "", question).split()[0])
    assert len(first_words) == 30 and {len(set(words)) for words in first_words.values()} == {1}


@pytest.mark.parametrize("is_parquet", [False, True])
def test_a_whole_float_is_a_whole_number(tmp_path: Path, is_parquet: bool) -> None:
    path = tmp_path / ("p.parquet" if is_parquet else "p.jsonl")
    rows = [{"id": 7.0, "question": "a", "answer": 3.0}, {"id": None, "question": "b", "answer": 2.5}]
    if is_parquet:
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        write(path, *rows)
    assert read_file(path).select(["problem_id", "answer"]).to_pylist() == [
        {"problem_id": "7", "answer": "3"},
        {"problem_id": "1", "answer": "2.5"},
    ]


@pytest.mark.parametrize("wrong", [True, 1.5, ["a"], {"a": 1}])
def test_an_id_is_a_whole_number_or_a_text(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(DataError, match=r"p.jsonl:1: id is .*, expected a whole number or a text\. Correct or remove"):
        read_file(write(tmp_path / "p.jsonl", {"id": wrong, "question": "a", "answer": 1}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "x", "answer": "so #### "}, "found nothing after ####, expected the answer. Correct or remove"),
        ({"question": "x", "answer": r"so \boxed{ }"}, "found an empty box, expected the answer. Correct or remove"),
        ({"question": "x", "answer": None, "solution": None}, 'found answer is None, expected a text under "answer".'),
    ],
)
def test_a_gold_answer_that_is_missing(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_file(write(tmp_path / "p.jsonl", row))
    assert str(caught.value).startswith(f"{tmp_path}/p.jsonl:1: {message}")


def test_only_the_first_problems_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"question": "a", "answer": 1}, {"question": "b", "answer": 2}, ["no problem"])
    assert read_file(path, 2)["question"].to_pylist() == ["a", "b"]


# ------------------------------------------------------------------------------------------------ worked solutions ----


def table(*golds: tuple[str, str]) -> pa.Table:
    rows = [
        {"problem_id": f"p{i}", "question": "?", "solution": solution, "answer": answer}
        for i, (solution, answer) in enumerate(golds)
    ]
    return pa.Table.from_pylist(rows, schema=schema.PROBLEMS)


def test_a_bare_answer_is_no_worked_solution() -> None:
    problems = table((WORKED, "7"), ("", "72"))
    assert is_worked(problems).tolist() == [True, False]
    assert gold_texts(problems).to_pylist() == [WORKED, "72"]
    check_worked(problems, "mine.jsonl")


def test_a_set_without_a_worked_solution_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError) as caught:
        check_worked(table(("", "72"), ("", "5")), "problems.train: mine.jsonl")
    assert str(caught.value) == (
        "problems.train: mine.jsonl: none of 2 problems has a worked solution, which SFT learns from; found bare "
        "answers, such as '72' of problem_id 'p0'. "
        'Give worked solutions: under "answer" with the answer at the end, after #### or in \\boxed{}, or under '
        '"solution" beside the answer. Or let a model that solves some of the problems write them: with `start: base` '
        "and a round or more, `qrft run` samples the base model itself."
    )


# ------------------------------------------------------------------------------------------------------ known sets ----


def test_every_set_is_named_by_itself_and_its_split() -> None:
    assert {"tiny-math/train", "tiny-math/test"} <= {*registry.GENERATED}
    gsm = ("gsm8k/train", "gsm8k/test", "gsm8k_platinum/test", "gsm-plus/test", "gsm-plus/testmini")
    hard = ("math/train", "math/test", "math-500/test", "aime/2024", "aime/2025")
    bare = ("svamp/test", "asdiv/test", "asdiv-split/train", "asdiv-split/test", "multiarith/test", "mawps/test")
    assert (*gsm, *hard, *bare) == registry.PUBLISHED
    assert all(bool(known.file) != bool(known.draw) for known in registry.SETS.values())
    places = [hub for known in registry.SETS.values() for hub in known.hub.values()]
    assert all(hub.revision is None or re.fullmatch("[0-9a-f]{40}", hub.revision) for hub in places)


def test_rules_take_the_answer_format_of_the_set_where_they_leave_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BY_NAME, "svamp/test", replace(svamp.SET, answer_format="boxed"))
    assert registry.rules_for("svamp/test", Rules()).answer_format == "boxed"
    assert registry.rules_for("gsm8k/test", Rules(order="commutative")) == Rules(
        answer_format="gsm8k", order="commutative"
    )
    assert registry.rules_for("mine.jsonl", Rules()).answer_format == "gsm8k"
    for asked in (Rules(answer_format="auto"), Rules(marker="answer:"), Rules(mode="paper")):
        assert registry.rules_for("svamp/test", asked) == asked


def test_a_file_of_a_sets_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(registry.BY_NAME, "svamp/test", replace(svamp.SET, answer_format="boxed"))
    published(tmp_path, "svamp/test", json.dumps({"question": "a", "answer": 1}))
    assert registry.rules_for("svamp/test", Rules()).answer_format == "gsm8k"
    assert registry.load("svamp/test")["question"].to_pylist() == ["a"]


def test_the_training_problems_of_a_set() -> None:
    assert registry.train_split("gsm8k/test") == registry.train_split("gsm8k/train") == "gsm8k/train"
    assert registry.train_split("svamp/test") is registry.train_split("gsm8k.jsonl") is None


MATH_500 = [
    {
        "problem": "What is $3+4$?",
        "solution": r"Adding, $3+4=\boxed{7}$.",
        "answer": "7",
        "subject": "Prealgebra",
        "level": 1,
        "unique_id": "test/prealgebra/1.json",
    },
    {
        "problem": r"Simplify $\sqrt{18}$.",
        "solution": r"As $18=9\cdot 2$, it is \[\boxed{3\sqrt{2}}.\]",
        "answer": r"3\sqrt{2}",
        "subject": "Algebra",
        "level": 2,
        "unique_id": "test/algebra/2.json",
    },
    {
        "problem": "Name the point two to the right of the origin.",
        "solution": r"It is $\boxed{(2,0)}$, not $(0,2)$.",
        "answer": "(2,0)",
        "subject": "Geometry",
        "level": 5,
        "unique_id": "test/geometry/3.json",
    },
]


def test_math_500_is_read_as_published_and_graded_in_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(registry.FOLDER, str(tmp_path))
    published(tmp_path, "math-500/test.jsonl", "".join(json.dumps(row) + "\n" for row in MATH_500))
    problems = registry.load("math-500/test")
    assert problems["problem_id"].to_pylist() == [row["unique_id"] for row in MATH_500]
    assert problems["question"].to_pylist() == [row["problem"] for row in MATH_500]
    assert problems["solution"].to_pylist() == [row["solution"] for row in MATH_500]
    assert problems["answer"].to_pylist() == [row["answer"] for row in MATH_500]
    rules = registry.rules_for("math-500/test", Rules())
    graded = grading.grade(problems["solution"], problems["answer"], rules=rules)
    assert graded["status"].to_pylist() == ["ok", "expression", "expression"]
    assert graded["is_correct"].to_pylist() == [True, False, False]  # expressions are for Math-Verify
    if latex.is_available():
        with BatchGrader(rules, num_threads=1) as grader:
            assert grader.grade(problems["solution"], problems["answer"])["is_correct"].to_pylist() == [True] * 3


SVAMP = {"ID": "c-1", "Body": "Ann has 3 pears", "Question": "She gets 4. How many?", "Answer": 7.0, "Type": "Addition"}
ASDIV = (
    '<?xml version="1.0"?><Corpus><ProblemSet><Problem ID="c-1"><Body>Ann has 3 pears.</Body><Question>She gets 4. How '
    "many?</Question><Answer>7 (pears)</Answer><Formula>3+4=7</Formula></Problem></ProblemSet></Corpus>"
)
EXPECTED = {"problem_id": "c-1", "question": "Ann has 3 pears. She gets 4. How many?", "solution": "", "answer": "7"}


def published(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("svamp/test", "svamp/SVAMP.json", json.dumps([SVAMP])),
        ("svamp/test", "svamp/SVAMP.json", "\ufeff" + json.dumps([SVAMP], indent=1)),
        ("svamp/test", "svamp/SVAMP.json", json.dumps(SVAMP) + "\n"),
        ("asdiv/test", "asdiv/ASDiv.xml", ASDIV),
    ],
)
def test_published_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, content: str) -> None:
    monkeypatch.setenv(registry.FOLDER, str(tmp_path))
    published(tmp_path, file, content)
    assert registry.load(name).to_pylist() == [EXPECTED]


def test_math_is_a_folder_of_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was published, a file a problem, and as the hub has it, a Parquet file a subject."""
    monkeypatch.setenv(registry.FOLDER, str(tmp_path))
    rows = [
        {"problem": f"{n}+{n}?", "level": "Level 1", "solution": rf"It is $\\boxed{{{2 * n}}}$."} for n in range(12)
    ]
    for number, row in enumerate(rows):
        published(tmp_path, f"math/train/algebra/{number}.json", json.dumps(row, indent=1))
    published(tmp_path, "math/train/geometry/7.json", json.dumps({**rows[0], "problem": "0?"}))
    found = registry.load("math/train")
    assert found["problem_id"].to_pylist() == [*(f"algebra/{n}" for n in range(12)), "geometry/7"]
    assert found["answer"].to_pylist() == [*(str(2 * n) for n in range(12)), "0"]
    assert registry.rules_for("math/train", Rules()).answer_format == "boxed"
    (tmp_path / "hub" / "algebra").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "hub" / "algebra" / "train-00000-of-00001.parquet")
    assert registry.read(tmp_path / "hub", "math/train")["question"].to_pylist() == [row["problem"] for row in rows]
    with pytest.raises(DataError, match=r"math/test.* could not be downloaded|Set QRFT_DATA"):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        registry.load("math/test")
    published(tmp_path, "math/test/README.txt", "")
    with pytest.raises(DataError, match="has no problems of algebra, counting_and_probability, "):
        registry.load("math/test")


def test_a_folder_of_problems_is_another_when_a_file_in_it_is(tmp_path: Path) -> None:
    published(tmp_path, "algebra/1.json", "{}")
    first = fingerprint(tmp_path)
    published(tmp_path, ".cache/notes.json", "{}")
    assert fingerprint(tmp_path) == first
    published(tmp_path, "algebra/1.json", "[]")
    assert fingerprint(tmp_path) != first


PEARS = {"sQuestion": " Ann has 3.0 pears . How many ? ", "lEquations": ["X=3+4"], "lSolutions": [7.0]}
PLACES = "Question,Numbers,Equation,Answer\nAnn has N_00 pears . She gets N_01 . How many ?,3.0 4.5,+ N_00 N_01,7.5\n"
PLUS = {"question": "Ann has pears. How many?", "solution": "Nobody knows.", "answer": None, "seed_answer": "7"}


@pytest.mark.parametrize(
    ("name", "file", "content", "question", "answer"),
    [
        ("mawps/test", "mawps/MAWPS.json", [PEARS], "Ann has 3.0 pears . How many ?", "7"),
        (
            "multiarith/test",
            "multiarith/MultiArith.json",
            [PEARS],
            "Ann has 3.0 pears . How many ?",
            "7",
        ),
        ("multiarith/test", "multiarith/MultiArith.json", [{"question": "a", "final_ans": "7"}], "a", "7"),
        ("gsm-plus/test", "gsm-plus/test.jsonl", PLUS, "Ann has pears. How many?", "None"),
        ("gsm-plus/testmini", "gsm-plus/testmini.jsonl", {**PLUS, "answer": "7.5"}, "Ann has pears. How many?", "7.5"),
        ("gsm8k_platinum/test", "gsm8k_platinum/test.jsonl", {"question": "a", "answer": WORKED}, "a", "7"),
        ("aime/2024", "aime/2024.jsonl", {"id": 60, "problem": "a", "solution": r"\boxed{204}"}, "a", "204"),
        ("aime/2025", "aime/2025.jsonl", {"id": "0", "problem": "a", "answer": "70"}, "a", "70"),
    ],
)
def test_further_sets_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, content: Any, question: str, answer: str
) -> None:
    monkeypatch.setenv(registry.FOLDER, str(tmp_path))
    published(tmp_path, file, json.dumps(content))
    [row] = registry.load(name).to_pylist()
    assert (row["question"], row["answer"]) == (question, answer)


def test_mawps_as_csv_has_its_numbers_filled_in(tmp_path: Path) -> None:
    path = published(tmp_path, "MAWPS.csv", PLACES)
    [row] = registry.read(path, "mawps/test").to_pylist()
    assert (row["question"], row["answer"]) == ("Ann has 3 pears . She gets 4.5 . How many ?", "7.5")
    published(tmp_path, "MAWPS.csv", PLACES.replace("3.0 4.5", "3.0"))
    with pytest.raises(DataError, match=r"MAWPS.csv:2: the question names more numbers than it has \(1\)."):
        registry.read(path, "mawps/test")


# ------------------------------------------------------------------------------------ files as people have them ----

ROWS = [{"question": "3 and 4?", "answer": "7"}, {"question": 'a, "b"\nor c?', "answer": "8"}]
FORMS = {
    "p.json": json.dumps(ROWS),
    "lines.json": "".join(json.dumps(row) + "\n" for row in ROWS),
    "p.csv": 'question,answer\n3 and 4?,7\n"a, ""b""\nor c?",8\n',
    "bom.csv": '\ufeffquestion,answer\r\n3 and 4?,7\r\n"a, ""b""\nor c?",8\r\n',
    "p.tsv": 'question\tanswer\n3 and 4?\t7\n"a, ""b""\nor c?"\t8\n',
    "p.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
}


@pytest.mark.parametrize("name", FORMS)
def test_the_same_rows_in_every_form(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FORMS[name], newline="")
    expected = [(row["question"], row["answer"]) for row in ROWS]
    assert [(row["question"], row["answer"]) for row in read_file(tmp_path / name).to_pylist()] == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", '[{"question": "a"', "p.json: is not JSON in UTF-8 (Expecting "),
        ("p.json", "[1]", "p.json:1: found a int, expected a list of objects."),
        ("p.json", '{"data": []}', 'p.json:1: found the keys data, expected a text under "question"'),
        ("p.csv", "question,answer\na,1,2\n", "p.csv:2: has more cells than the first line."),
        ("p.csv", "question,answer\na,\n", 'p.csv:2: found the keys question, expected a text under "answer"'),
        ("p.csv", "question,answer\n\udce4,1\n", "p.csv:"),
        ("p.csv", "", "p.csv: found no problems."),
        (
            "p.jsonl",
            '{"question": "a", "solution": "It is seven."}',
            "p.jsonl:1: the solution gives no answer after ####",
        ),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DataError) as caught:
        read_file(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


def test_columns_under_other_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "p.jsonl", {"Prompt": "3 and 4?", "Steps": "It is seven.", "Target": 7, "key": "x", "id": 1}
    )
    columns = {"question": "Prompt", "answer": "Target", "solution": "Steps", "problem_id": "key"}
    [row] = read_file(path, None, columns).to_pylist()
    assert row == {"problem_id": "x", "question": "3 and 4?", "solution": "It is seven.", "answer": "7"}
    pq.write_table(pa.Table.from_pylist([{"Prompt": "a", "Target": 7, "more": [1]}]), tmp_path / "p.parquet")
    [row] = read_file(tmp_path / "p.parquet", None, {"question": "Prompt", "answer": "Target"}).to_pylist()
    assert (row["question"], row["answer"]) == ("a", "7")
    with pytest.raises(DataError, match=r"p.jsonl:1: has no column 'Q', which question names. It has Prompt, Steps, "):
        read_file(path, None, {"question": "Q"})


@pytest.mark.parametrize(
    ("formula", "answer", "expected"),
    [
        ("7+2=9", "9", "7+2=<<7+2=9>>9\n#### 9"),
        ("(14-8)*2=12", "12", "14-8=<<14-8=6>>6\n6*2=<<6*2=12>>12\n#### 12"),
        ("2+3*4 = 14; 14/8=1.75", "1.75", "3*4=<<3*4=12>>12\n2+12=<<2+12=14>>14\n14/8=<<14/8=1.75>>1.75\n#### 1.75"),
        ("3 (quarter)*25 (cent/quarter) = 75 (cent)", "75", "3*25=<<3*25=75>>75\n#### 75"),
        ("0.5*0.1=0.05", "0.05", "0.5*0.1=<<0.5*0.1=0.05>>0.05\n#### 0.05"),
        *((formula, "9", "") for formula in ("7+1=8", "9", "47/6=7 r5", "LCM[3,9]=9", "x:Age; x+1=10", "", "9=9")),
        *((formula, "3", "") for formula in ("9/0=3", "10/3=3", "2-5+6=3", "3**1=3", "03+0=3", "3:1=9:3", "(((")),
        ("(" * 5000 + "1+2" + ")" * 5000 + "=3", "3", ""),
        ("1+2=3", "Mrs. Hilt", ""),
    ],
)
def test_formulas_give_worked_solutions(formula: str, answer: str, expected: str) -> None:
    assert formulas.solution(formula, answer) == expected


def test_asdiv_has_two_parts_that_share_no_problem() -> None:
    path = paths.published("asdiv/ASDiv.xml")
    train, test = (registry.read(path, f"asdiv-split/{split}") for split in ("train", "test"))
    assert (train.num_rows, test.num_rows) == (1735, 570)
    assert (is_worked(train).sum(), is_worked(test).sum()) == (1193, 382)
    whole = registry.read(path, "asdiv/test")
    for column in ("problem_id", "question"):
        parts = [set(part[column].to_pylist()) for part in (train, test)]
        assert not parts[0] & parts[1] and parts[0] | parts[1] == set(whole[column].to_pylist())
    with BatchGrader(Rules(), num_threads=1) as grader:
        graded = grader.grade(train.filter(is_worked(train))["solution"], train.filter(is_worked(train))["answer"])
    assert all(graded["is_correct"].to_pylist()) and set(graded["equations_status"].to_pylist()) == {"ok"}


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        (
            "svamp/test",
            "svamp/SVAMP.json",
            json.dumps([SVAMP])[:70],
            ": is not JSON in UTF-8 (Unterminated string starting ",
        ),
        (
            "svamp/test",
            "svamp/SVAMP.json",
            '[{"id": 1}]',
            ":1: found the keys id, expected ID, Body, Question, Answer. ",
        ),
        (
            "svamp/test",
            "svamp/SVAMP.json",
            "<html>",
            ":1: not JSON in UTF-8 (Expecting value: line 1 column 1 (char 0));",
        ),
        (
            "asdiv/test",
            "asdiv/ASDiv.xml",
            ASDIV[:90],
            ": is not XML (unclosed token: line 1, column 88). Put ASDiv.xml ",
        ),
        (
            "asdiv/test",
            "asdiv/ASDiv.xml",
            "<html></html>",
            ": found no <Problem> in it. Put ASDiv.xml there as it was published.",
        ),
    ],
)
def test_a_published_file_that_is_not_as_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, file: str, content: str, message: str
) -> None:
    monkeypatch.setenv(registry.FOLDER, str(tmp_path))
    path = published(tmp_path, file, content)
    with pytest.raises(DataError) as caught:
        registry.load(name)
    assert str(caught.value).startswith(f"{path}{message}")


def test_shares_lie_within_each_other() -> None:
    problems = registry.draw("tiny-math/train", 3, 40)
    small, large = (set(share(problems, part, 1)["problem_id"].to_pylist()) for part in (1 / 8, 1 / 2))
    assert len(small) == 5 and len(large) == 20 and small < large
