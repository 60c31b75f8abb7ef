"""Which paths are kept: the C core against the reference, distances, and the columns that curate takes."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections.abc import Callable
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from qrft import grading
from qrft.grading import reference, selection
from qrft.grading.rules import Keep, Rules, Selection

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
PAPER = Rules(mode="paper")
FIRST = Selection(keep="first")
Row = tuple[bytes, int]  # a text, and a small number that stands for its key

# ------------------------------------------------------------------------------------------------------ distance ----

PIECES = [
    b"so we add ",
    b"the apples",
    b"12",
    b"\n",
    "é".encode(),
    "😀".encode(),
    b"\xff",
    b"\xe2\x88",
    b"\0",
    b"ab",
    b"a",
]
TEXT = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    st.binary(max_size=20),
    st.text(max_size=20).map(reference.as_bytes),
)


@QUICK
@given(TEXT, TEXT, st.integers(0, 3))
def test_distance(a: bytes, b: bytes, repeat: int) -> None:
    """Repeated, the texts are longer than the 64 rows of a band."""
    middle = b"the same words " * repeat
    assert grading.distance(a + middle + b, b + middle + a) == reference.distance(a + middle + b, b + middle + a)


@pytest.mark.parametrize(("a_size", "b_size"), [(0, 70), (63, 64), (64, 65), (128, 129), (200, 300)])
def test_distance_at_band_edges(a_size: int, b_size: int) -> None:
    rng = random.Random(a_size)
    a, b = ("".join(rng.choices("abcé", k=size)) for size in (a_size, b_size))
    assert grading.distance(a, b) == reference.distance(a, b)


def test_distance_of_long_texts() -> None:
    assert grading.distance("é" * 100_000 + "b", "é" * 100_000) == 1
    assert grading.distance("a" * 100_000, "ba") == 99_999


def test_every_character_is_its_own() -> None:
    """All code points but the surrogates, and the bytes that are no part of valid UTF-8."""
    points = [*range(0xD800), *range(0xE000, 0x110000)]
    every = "".join(map(chr, points)).encode() + bytes(range(0x80, 0x100))
    assert grading.distance(every, b"") == len(points) + 128
    for first in (0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FF80, 0x10FFFF):
        assert grading.distance(every, chr(first)) == len(points) + 127
        assert grading.distance(chr(first), chr(first) + "a") == 1
        assert grading.distance(chr(first), b"\x80") == 1


def test_a_sample_that_was_cut_off_is_not_chosen_unless_asked() -> None:
    texts, cut_off = ["<<1+1=2>>#### 2", "<<2+0=2>>#### 2", "#### 3", "<<1+1=3>>#### 2"], [False, True, True, True]
    graded = grading.grade(texts, ["2"] * 4)
    found = [
        grading.verdicts(texts, [0] * 4, graded, cut_off=cut_off, selection=chosen).to_pylist()
        for chosen in (Selection(), Selection(cut_off="keep"))
    ]
    assert found == [["kept", "cut_off", "incorrect", "bad_equation"], ["kept", "kept", "incorrect", "bad_equation"]]
    assert grading.verdicts(texts, [0] * 4, graded).to_pylist() == found[1], "nothing is told of endings"
    with pytest.raises(ValueError, match="cut_off has 3 rows"):
        grading.verdicts(texts, [0] * 4, graded, cut_off=cut_off[:3])


def test_an_unsound_path_is_not_chosen_where_sound_ones_are_required() -> None:
    texts = ["<<1+1=2>>#### 2", "<<8/4=2>>#### 2", "#### 3", "<<1+1=3>>#### 2", "<<2*1=2>>#### 2"]
    graded = grading.grade(texts, ["2"] * 5, questions=["1 and 1"] * 5)
    assert graded["soundness"].to_pylist() == ["sound", "unknown_number", "not_judged", "not_judged", "sound"]
    cut_off, chosen = [False] * 4 + [True], Selection(sound="require")
    found = grading.verdicts(texts, [0] * 5, graded, cut_off=cut_off, selection=chosen).to_pylist()
    assert found == ["kept", "unsound", "incorrect", "bad_equation", "cut_off"]
    kept = grading.verdicts(texts, [0] * 5, graded, selection=Selection(sound="flag")).to_pylist()
    assert kept == ["kept", "kept", "incorrect", "bad_equation", "kept"]
    with pytest.raises(ValueError, match="the grades have no column soundness"):
        grading.verdicts(texts, [0] * 5, grading.grade(texts, ["2"] * 5), selection=chosen)


def test_only_required_soundness_is_in_a_digest() -> None:
    off, flag, require = (Selection(sound=choice).identity() for choice in ("off", "flag", "require"))
    assert off == flag and "sound" not in off and require == {**off, "sound": "require"}


def seconds(work: Callable[[], object]) -> float:
    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(3))


def test_distance_of_chosen_characters() -> None:
    """Such as would share their places in a hash table; and few of each page of the numbering."""
    chosen = sorted(range(0x10000, 0x110000), key=lambda point: point * 0x9E3779B1 % 2**19)[:60_000]
    spread = [0x10000 + i * 16 for i in range(60_000)]
    for points in (chosen, spread):
        text, plain = ("".join(map(chr, some)) for some in (points, range(0x10000, 0x10000 + 60_000)))
        assert grading.distance(text, "") == 60_000
        assert seconds(lambda text=text: grading.distance(text, "")) < 0.02 + 10 * seconds(
            lambda plain=plain: grading.distance(plain, "")
        )


# -------------------------------------------------------------------------------------------- C against the twin ----


def key_bytes(number: int) -> bytes:
    return bytes([number % 256, number // 256]) * 8


def graded_rows(rows: list[Row]) -> pa.Table:
    """As if all were correct, with these keys."""
    graded = grading.grade([text for text, _ in rows], ["1"] * len(rows))
    columns = {
        "is_correct": pa.array([True] * len(rows)),
        "equations_status": pa.array(["ok"] * len(rows)),
        "equation_key": pa.array([key_bytes(number) for _, number in rows], pa.binary(16)),
    }
    for name, column in columns.items():
        graded = graded.set_column(graded.schema.get_field_index(name), name, column)
    return graded


def check_rows(rows: list[Row], *, max_cells: int | None = reference.MAX_CELLS, **choice: Any) -> list[str]:
    """One problem, decided by both; returns the verdicts."""
    texts, keys = [text for text, _ in rows], [key_bytes(number) for _, number in rows]
    rules = PAPER if max_cells is None else Rules()
    settings = {"rules": rules, "selection": Selection(**choice)}
    found: list[str] = grading.verdicts(texts, [0] * len(rows), graded_rows(rows), **settings).to_pylist()
    assert found == reference.curate(texts, keys, max_cells=max_cells, **choice)
    return found


@st.composite
def similar_rows(draw: st.DrawFn) -> list[Row]:
    """Few keys; texts that are edits of a few, of lengths around the 64 rows of a word; many equal, many ties."""
    size = st.sampled_from([0, 1, 5, 62, 63, 64, 65, 66, 127, 128, 129, 190, 193])
    rng = draw(st.randoms(use_true_random=False))
    alphabet = draw(st.sampled_from([[b"a", b"b"], PIECES, [b"a", "é".encode(), b"\xff", b"\xc3"], [b"a"]]))
    bases = [[rng.choice(alphabet) for _ in range(length)] for length in draw(st.lists(size, min_size=1, max_size=4))]
    rows = []
    for _ in range(draw(st.integers(1, 30))):
        text = list(rng.choice(bases))
        for _ in range(rng.choice([0, 0, 1, 3, 20])):
            place = rng.randrange(len(text) + 1)
            text[place : place + rng.choice([0, 1])] = rng.choice([[], [rng.choice(alphabet)]])
        rows.append((b"".join(text), min(rng.randrange(12), draw(st.integers(1, 11)))))
    return rows


CHOICE = st.fixed_dictionaries(
    {
        "keep": st.sampled_from(["farthest", *get_args(Keep)]),
        "max_per_problem": st.sampled_from([None, None, 1, 2, 5]),
        "dedup": st.sampled_from([True, True, True, False]),
    }
)


@settings(QUICK, max_examples=25)
@given(similar_rows(), CHOICE)
@example([(b"", 0), (b"a", 1), (b"b", 1), (b"", 1)], {"keep": "farthest"})
def test_choice_is_the_twins(rows: list[Row], choice: dict[str, Any]) -> None:
    check_rows(rows, **choice)


@pytest.mark.slow
@settings(QUICK, max_examples=5_000)
@given(similar_rows(), CHOICE)
def test_choice_is_the_twins_at_length(rows: list[Row], choice: dict[str, Any]) -> None:
    check_rows(rows, **choice)


@QUICK
@given(st.lists(st.tuples(TEXT, st.integers(0, 9)), min_size=1, max_size=40))
def test_choice_among_short_texts(rows: list[Row]) -> None:
    check_rows(rows)


@QUICK
@given(st.lists(st.tuples(TEXT, st.integers(0, 5)), min_size=1, max_size=25), st.integers(1, 400_000))
def test_bound_of_the_work(rows: list[Row], max_cells: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "MAX_CELLS", max_cells)
        check_rows(rows, max_cells=max_cells)
        check_rows(rows, max_cells=None)


def test_bound_of_the_work_can_be_reached() -> None:
    """Of a million code points: in the default mode the long samples are not compared."""
    rows = [(b"short", 0), (b"a" * 800_000, 1), (b"b" * 900_000, 2), (b"c" * 900_001, 1), *[(b"other", 0)] * 7]
    assert check_rows(rows)[:4] == ["kept", "kept", "kept", "duplicate"]


def test_bound_of_short_texts() -> None:
    """They count as 64: two rows with new keys cost 64 * 64 and 64 * 128, the last one 128 * 128 for its two sums."""
    rows = [(b"a", 0), (b"", 1), (b"bc", 2), (b"bcd", 2)]
    needed = 64 * 64 + 64 * 128 + 128 * 128
    for max_cells, expected in [(needed - 1, ["kept", "duplicate"]), (needed, ["duplicate", "kept"])]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(selection, "MAX_CELLS", max_cells)
            assert check_rows(rows, max_cells=max_cells)[2:] == expected


@pytest.mark.parametrize("alphabet", [range(0x61, 0x7B), range(0x4E00, 0x4E00 + 9000)], ids=["latin", "thousands"])
def test_long_texts(alphabet: range) -> None:
    """Beyond 16,384 code points; with thousands of different ones, too many for the lanes' masks."""
    rng = random.Random(3)
    long = ["".join(map(chr, rng.choices(alphabet, k=size))).encode() for size in (16_400, 9_000, 16_500)]
    short = ["".join(map(chr, rng.choices(alphabet, k=size))).encode() for size in (3, 5, 8, 13)]
    rows = [(short[0], 0), (long[0], 1), (short[1], 0), (short[2], 0), (long[1], 1), (short[3], 0), (short[1], 2)]
    assert "duplicate" in check_rows(rows[:6])
    check_rows([*rows[:4], *rows[5:]])


def test_many_keys() -> None:
    """Several vectors of kept paths, and after 2,896 keys no table of all distances between them."""
    rng = random.Random(5)
    check_rows([("".join(rng.choices("ab", k=rng.randrange(6))).encode(), rng.randrange(40)) for _ in range(300)])
    rows = [(b"%d" % number, number) for number in range(3_000)]
    found = grading.verdicts([text for text, _ in rows] + [b"0" * 9], [0] * 3_001, graded_rows([*rows, (b"0" * 9, 7)]))
    assert found.to_pylist() == ["kept"] * 7 + ["duplicate"] + ["kept"] * 2_993


def test_keys_that_share_their_beginning_or_end() -> None:
    num_rows = 40_000
    graded = graded_rows([(b"", 0)] * num_rows)
    column = graded.schema.get_field_index("equation_key")

    def time_of(keys: list[bytes]) -> float:
        table = graded.set_column(column, "equation_key", pa.array(keys, pa.binary(16)))
        assert len(grading.curate([""] * num_rows, [0] * num_rows, table, selection=FIRST)) == num_rows
        return seconds(lambda: grading.curate([""] * num_rows, [0] * num_rows, table, selection=FIRST))

    numbers = [number.to_bytes(8) for number in range(num_rows)]
    hashed = time_of([hashlib.md5(number).digest() for number in numbers])
    for keys in (
        [b"the same" + number for number in numbers],
        [b"the same" + number[::-1] for number in numbers],
        [number + b"the same" for number in numbers],
        [number[::-1] + b"the same" for number in numbers],
        [number + number for number in numbers],
    ):
        assert time_of(keys) < 0.02 + 10 * hashed


def test_the_papers_rule() -> None:
    """Both samples with key 1 are as far from the one with key 0; the next is farther; then the others change."""
    rows = [(b"aaaa", 0), (b"aabb", 1), (b"bbaa", 1), (b"bbbb", 1), (b"bbba", 0), (b"aaab", 1)]
    kept, duplicate = "kept", "duplicate"
    assert check_rows(rows[:2]) == [kept, kept]
    assert check_rows(rows[:3]) == [kept, kept, duplicate]
    assert check_rows(rows[:4]) == [kept, duplicate, duplicate, kept]
    assert check_rows(rows[:5]) == [kept, duplicate, duplicate, kept, duplicate]
    assert check_rows([*rows[:3], rows[4]]) == [duplicate, kept, duplicate, kept]


def test_order_of_the_kept_rows() -> None:
    rows = [(b"aaaa", 0), (b"aaab", 1), (b"bbbb", 0)]
    texts, graded = [text for text, _ in rows], graded_rows(rows)
    assert grading.curate(texts, [0] * 3, graded).tolist() == [1, 2]
    assert grading.curate(texts, [0] * 3, graded, rules=PAPER).tolist() == [2, 1]
    assert grading.curate(texts, [0] * 3, graded, rules=PAPER, selection=Selection(dedup=False)).tolist() == [0, 1, 2]


def test_keeps() -> None:
    rows = [(b"ccc", 0), (b"bb", 0), ("éé".encode(), 0), (b"dd", 0), (b"eeee", 0), (b"x", 1)]
    assert check_rows(rows, keep="shortest").index("kept") == 1
    assert check_rows(rows, keep="longest").index("kept") == 2
    assert check_rows(rows, keep="first").index("kept") == 0
    assert check_rows(rows, keep="first", max_per_problem=1) == ["kept", *["duplicate"] * 4, "over_limit"]
    assert check_rows(rows, dedup=False, max_per_problem=4) == ["kept"] * 4 + ["over_limit"] * 2


@QUICK
@given(similar_rows(), st.randoms(use_true_random=False))
def test_a_random_text_is_kept_in_whatever_order(rows: list[Row], rng: random.Random) -> None:
    def kept(made: list[Row]) -> list[Row]:
        return sorted(
            row for row, verdict in zip(made, check_rows(made, keep="random"), strict=True) if verdict == "kept"
        )

    assert kept(rng.sample(rows, len(rows))) == kept(rows)


def test_a_random_text_is_any_of_them() -> None:
    """Of 4,000 pairs of texts the first and shorter one is kept half of the time, within 4 standard deviations."""
    rows = [(f"{number} {'long ' * part}".encode(), number) for number in range(4000) for part in range(2)]
    num_first = check_rows(rows, keep="random")[::2].count("kept")
    assert abs(num_first - 2000) < 4 * math.sqrt(4000 / 4)


def test_gold_texts_count_only_in_the_default_mode() -> None:
    text = "<<1+1=2>>2\n#### 2"
    for rules, dedup, expected in [
        (Rules(), True, "duplicate_of_gold"),
        (Rules(), False, "kept"),
        (PAPER, True, "kept"),
    ]:
        graded = grading.grade([text], ["2"], rules=rules)
        found = grading.verdicts([text], [0], graded, gold_texts=[text], rules=rules, selection=Selection(dedup=dedup))
        assert found.to_pylist() == [expected]


def test_mistakes() -> None:
    graded = grading.grade(["#### 2"] * 3, ["2"] * 3)
    with pytest.raises(ValueError, match="problem_ids has 2 rows"):
        grading.curate(["x"] * 3, [1, 2], graded)
    with pytest.raises(ValueError, match="gold_texts has 1 rows"):
        grading.curate(["x"] * 3, [1] * 3, graded, gold_texts=["x"])
    choices = "Input should be 'farthest', 'first', 'random', 'shortest' or 'longest'"
    with pytest.raises(ValueError, match=rf"keep\n  {choices} .*input_value='best'"):
        Selection(keep="best")  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"max_per_problem\n  Input should be greater than or equal to 1 .*input_value=0"
    ):
        Selection(max_per_problem=0)


# ----------------------------------------------------------------------------------------------- whole tables ----

FILLER = ["so", "we", "add", "the", "apples", "é", "and", "then"]


def made_problem(rng: random.Random, num_rows: int) -> list[bytes]:
    """Solutions with few different equation lists, some wrong, some equal, of different lengths."""
    texts = []
    for _ in range(num_rows):
        filler = " ".join(rng.choices(FILLER, k=rng.randrange(12)))
        equations = " ".join(rng.choices(["<<1+2=3>>", "<<2+1=3>>", "<<3*1=3>>", "<<1+1=3>>"], (4, 4, 4, 1), k=2))
        texts.append(f"{filler} {equations} #### {rng.choice('33333334')}".encode())
    return texts


def reference_verdicts(texts: list[bytes], gold: bytes | None, **choice: Any) -> list[str]:
    grades = [reference.grade(text, "3") for text in texts]
    result = ["bad_equation" if grade.is_correct else "incorrect" for grade in grades]
    rows = [i for i, grade in enumerate(grades) if grade.is_correct and grade.equations_status == "ok"]
    gold_key = None if gold is None else reference.equation_key(gold)
    chosen = reference.curate([texts[i] for i in rows], [grades[i].equation_key for i in rows], gold_key, **choice)
    for row, verdict in zip(rows, chosen, strict=True):
        result[row] = verdict
    return result


@pytest.mark.parametrize("keep", get_args(Keep))
@pytest.mark.parametrize("gold", [None, b"<<1+2=3>> <<2+1=3>>\n#### 3"])
def test_verdicts(keep: Keep, gold: bytes | None) -> None:
    """Problems whose rows are mixed in the table, each decided as if it were alone."""
    rng = random.Random(7)
    problems = [made_problem(rng, rng.randrange(1, 25)) for _ in range(30)]
    table = [(number, text) for number, texts in enumerate(problems) for text in texts]
    places = sorted(range(len(table)), key=lambda i: (table[i][0] % 7, i))  # keeps each problem's own order
    mixed = [table[i] for i in places]
    texts = [text for _, text in mixed]
    ids = [f"p{number}" for number, _ in mixed]
    graded = grading.grade(texts, ["3"] * len(texts))
    golds = None if gold is None else [gold] * len(texts)
    found = grading.verdicts(texts, ids, graded, gold_texts=golds, selection=Selection(keep=keep)).to_pylist()
    for number, problem in enumerate(problems):
        rows = [i for i, (owner, _) in enumerate(mixed) if owner == number]
        assert [found[i] for i in rows] == reference_verdicts(problem, gold, keep=keep)
    kept = grading.curate(texts, ids, graded, gold_texts=golds, selection=Selection(keep=keep))
    assert kept.tolist() == [i for i, verdict in enumerate(found) if verdict == "kept"]
    first = grading.verdicts(texts, ids, graded, gold_texts=golds, selection=FIRST).to_pylist()
    assert keep == "first" or found != first


def test_problems_in_many_scripts() -> None:
    """Characters are numbered anew for each problem, in memory that the thread uses again."""
    rng = random.Random(9)
    scripts = [b"ab", bytes(range(0x80, 0x88)), *("".join(map(chr, rng.choices(range(0xD800), k=6))) for _ in range(9))]
    scripts += ["".join(map(chr, rng.choices(range(0x10000, 0x110000), k=9))) for _ in range(9)]
    rows = []
    for problem in range(60):
        script = rng.choice(scripts)
        letters = [script[i : i + 1] for i in range(len(script))]
        rows += [
            (
                problem,
                reference.as_bytes(type(script)().join(rng.choices(letters, k=rng.randrange(9)))),
                rng.randrange(3),
            )
            for _ in range(12)
        ]
    texts, graded = [text for _, text, _ in rows], graded_rows([(text, key) for _, text, key in rows])
    found = grading.verdicts(texts, [problem for problem, _, _ in rows], graded, num_threads=1).to_pylist()
    for first in range(0, len(rows), 12):
        keys = [key_bytes(key) for _, _, key in rows[first : first + 12]]
        assert found[first : first + 12] == reference.curate(texts[first : first + 12], keys)


def test_curate_any_column() -> None:
    rng = random.Random(1)
    texts = made_problem(rng, 60)
    ids = [i % 3 for i in range(60)]
    graded = grading.grade(texts, ["3"] * 60)
    expected = grading.curate(texts, ids, graded).tolist()
    column = pa.array([b"x", *texts], pa.binary())[1:]
    halves = pa.chunked_array([column[:25], column[25:25], column[25:]])
    chunked = pa.concat_tables([graded[:10], graded[10:]])
    encoded = pa.chunked_array([pa.array(ids[:30]), pa.array(ids[30:])]).dictionary_encode()
    for threads in (1, 3):
        assert grading.curate(halves, encoded, chunked, num_threads=threads).tolist() == expected
        assert grading.curate(column, pa.array(ids), graded, num_threads=threads).tolist() == expected


def test_curate_nothing() -> None:
    graded = grading.grade([], [])
    assert grading.curate([], [], graded).tolist() == []
    assert (
        grading.verdicts(
            pa.chunked_array([], pa.string()), pa.array([], pa.string()), graded, gold_texts=[]
        ).to_pylist()
        == []
    )
