"""`qrft browse`: what its pages show, to whom, and in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, Request, build_opener

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.commands import command_line, fails, start_process

from qrft import grading
from qrft.browse.bank import VERDICTS, Bank, of_files, of_run
from qrft.browse.query import PAGE, Query, find
from qrft.browse.server import Server
from qrft.commands.grading import task
from qrft.data.schema import PROBLEMS, SAMPLES
from qrft.errors import DamagedError, DataError
from qrft.grading.marks import MOST, compared, pieces
from qrft.grading.rules import DEFAULT_RULES, Rules
from qrft.pipeline.store import Store
from qrft.progress import unwatched

QUESTIONS = {"a": "Tom has 3 bags of 4 figs. How many figs?", "b": "What is 7 plus 5?"}
HOSTILE = "</pre><script>document.title='owned'</script><img src=x onerror=alert(1)>"
RIGHT = "Tom: <<3*4=12>>12 figs.\n#### 12"
WRITTEN = {  # a completion of problem a, how it ended, and what became of it
    "right": (RIGHT, "stop"),
    "right, but unsound": ("Tom: <<5+7=12>>12 figs.\n#### 12", "stop"),
    "right answer, wrong equation": ("Tom: <<3*4=13>>13 figs.\n#### 12", "stop"),
    "wrong": ("Tom: <<3+4=7>>7 figs.\n#### 7", "stop"),
    "no answer": (HOSTILE, "stop"),
    "cut off": ("Tom: <<3*", "length"),
}


def write_problems(path: Path) -> Path:
    rows = [{"problem_id": name, "question": QUESTIONS[name], "answer": "12", "solution": ""} for name in QUESTIONS]
    pq.write_table(pa.Table.from_pylist(rows, PROBLEMS), path)
    return path


def write_samples(path: Path) -> Path:
    rows = [
        {"problem_id": name, "model": f"of {name}", "completion": text, "finish_reason": end}
        for name in QUESTIONS
        for text, end in WRITTEN.values()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    folder = tmp_path_factory.mktemp("files")
    samples, problems = write_samples(folder / "s.jsonl"), write_problems(folder / "p.parquet")
    return of_files(task([samples], str(problems), judges_paths=True, progress=unwatched, warn=pytest.fail))


def test_what_nothing_judges_is_not_called_wrong(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"id": n, "question": q}) + "\n" for n, q in QUESTIONS.items())
    )
    samples = write_samples(tmp_path / "s.jsonl")
    asked = task([samples], str(tmp_path / "p.jsonl"), vote=0.9, progress=unwatched, warn=lambda message: None)
    told = [VERDICTS[number] for number in of_files(asked).rows.verdict[: len(WRITTEN)]]
    assert told == ["nothing to compare with"] * 4 + ["no answer", "cut off"]


@pytest.fixture(scope="module")
def server(bank: Bank) -> Iterator[Server]:
    with Server(bank, "trial", 0) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def browser(server: Server) -> OpenerDirector:
    opener = build_opener(HTTPCookieProcessor())
    opener.open(server.address).close()
    return opener


def get(browser: OpenerDirector, server: Server, path: str = "/", **asked: object) -> str:
    query = f"?{urlencode(asked)}" if asked else ""
    with browser.open(f"http://127.0.0.1:{server.server_port}{path}{query}") as answer:
        text: str = answer.read().decode()
    return text


def refused(opener: OpenerDirector, url: str, **headers: str) -> tuple[int, str]:
    with pytest.raises(HTTPError) as caught:
        opener.open(Request(url, headers=headers))
    return caught.value.code, caught.value.read().decode()


# ------------------------------------------------------------------------------------------------------------ rows ----


@pytest.mark.parametrize("verdict", WRITTEN)
def test_a_sample_is_found_by_what_became_of_it(bank: Bank, verdict: str) -> None:
    found = find(bank, Query(verdict=verdict, problem="a"))
    assert [bank.text(row) for row in found] == [WRITTEN[verdict][0]]
    assert verdict in VERDICTS


def test_all_that_is_asked_for_must_fit(bank: Bank) -> None:
    assert len(find(bank, Query())) == len(bank) == 2 * len(WRITTEN)
    assert len(find(bank, Query(text="TOM:"))) == 10, "whatever the case"
    assert len(find(bank, Query(text="3*4", model="of b", verdict="wrong"))) == 0
    assert len(find(bank, Query(text="3*4", problem="a"))) == 2
    for nothing in (Query(model="x"), Query(verdict="x"), Query(problem="x"), Query(part="x"), Query(text=".*")):
        assert len(find(bank, nothing)) == 0


def artifact(store: Store, name: str, table: pa.Table, file: str, **manifest: Any) -> Path:
    stage, digest = name.rsplit("-", 1)
    pq.write_table(table, (work := store.begin(stage, digest)) / file)
    told = {"config": {}, "inputs": {}, "seconds": 0.0, "peak_memory_bytes": 0, "report": {}}
    return store.commit(work, {**told, **manifest})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with one graded step, as a run leaves it."""
    store, number = Store(tmp_path / "store"), "0" * 20
    problems = pq.read_table(write_problems(tmp_path / "p.parquet"))
    rows = [
        {"problem_id": "a", "model": "sft", "sample_index": index, "completion": text, "finish_reason": end}
        for index, (text, end) in enumerate(WRITTEN.values())
    ]
    samples = pa.Table.from_pylist(rows, SAMPLES)
    graded = grading.grade(samples["completion"], pa.array(["12"] * len(rows)))
    inputs = {"samples": f"sample-{number}", "problems": f"problems-{number}"}
    artifact(store, inputs["problems"], problems, "problems.parquet")
    artifact(store, inputs["samples"], samples, "samples.parquet")
    config = {"rules": DEFAULT_RULES.model_dump()}
    made = artifact(store, f"grade-{number}", graded, "graded.parquet", config=config, inputs=inputs)
    (folder := tmp_path / "trial" / "round-1").mkdir(parents=True)
    (folder / "graded").symlink_to(made)
    return folder.parent


def test_a_run_has_its_own_verdicts(run: Path) -> None:
    bank = of_run(run)
    assert [part.name for part in bank.parts] == ["round-1/graded"] and bank.models == ["sft"]
    assert (
        [VERDICTS[number] for number in bank.rows.verdict]
        == [
            "right",
            "right",  # this run did not ask whether its paths are sound
            *list(WRITTEN)[2:],
        ]
    )
    assert [bank.text(row) for row in find(bank, Query(part="round-1/graded", verdict="wrong"))] == [
        WRITTEN["wrong"][0]
    ]


def test_a_damaged_run_is_not_shown(run: Path) -> None:
    path = run.parent / f"store/sample-{'0' * 20}" / "samples.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(DamagedError, match=r"samples\.parquet"):
        of_run(run)


def test_a_folder_without_samples_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no graded samples\. Name the folder of a run"):
        of_run(tmp_path)


# ----------------------------------------------------------------------------------------------------------- marks ----


@pytest.mark.parametrize("rules", [DEFAULT_RULES, Rules(equations="anywhere"), Rules(mode="paper")])
def test_marks_leave_the_text_as_it_is(rules: Rules) -> None:
    for text, _ in [*WRITTEN.values(), ("é <<1+1=2>> <<1+1=2>> 2+2=5 #### 2", "stop"), ("", "stop")]:
        found = pieces(text, rules, (-1, -1))
        assert "".join(piece.text for piece in found) == text


def test_right_and_wrong_equations_and_the_answer_are_marked() -> None:
    text = "é <<3*4=12>>12 <<3*4=13>>13\n#### 12"
    marked = {
        (piece.text, piece.kind) for piece in pieces(text, DEFAULT_RULES, (len(text.encode()) - 2, len(text.encode())))
    }
    assert marked >= {("3*4=12", "right"), ("3*4=13", "wrong"), ("12", "answer")}
    long = pieces("x" * (MOST + 1), DEFAULT_RULES, (-1, -1))
    assert long[-1].text.endswith(f"… ({MOST + 1:,} bytes in all)") and len(long[-1].text) < MOST + 50


def test_two_texts_are_compared_word_by_word() -> None:
    sides = compared("Tom has 3 figs.", "Tom had 3 red figs.")
    assert [[piece.text.strip() for piece in side if piece.kind] for side in sides] == [["has"], ["had", "red"]]
    assert ["".join(piece.text for piece in side) for side in sides] == ["Tom has 3 figs.", "Tom had 3 red figs."]


# ----------------------------------------------------------------------------------------------------------- pages ----


def test_a_page_shows_the_samples_and_only_as_text(browser: OpenerDirector, server: Server) -> None:
    page = get(browser, server)
    assert "12 samples" in page and "1 to 12 of 12 found" in page
    assert "3*4=12 ✓" in page and "3*4=13 ✗ wrong" in page
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page
    of_a = get(browser, server, problem="a", verdict="right")
    assert QUESTIONS["a"] in of_a and "1 to 1 of 1 found" in of_a and "<option selected>right</option>" in of_a
    assert "No sample is like that." in get(browser, server, text="zebra")
    assert get(browser, server, page=99) == page, "the last page there is"


def test_two_samples_stand_side_by_side(browser: OpenerDirector, server: Server) -> None:
    page = get(browser, server, "/compare", a=0, b=2)
    assert page.count("<article") == 2 and page.count(QUESTIONS["a"]) == 2 and "<mark>13</mark>" in page


def test_many_samples_have_several_pages(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"problem_id": "a", "question": "?", "answer": "1"}))
    (tmp_path / "s.jsonl").write_text(
        "".join(json.dumps({"problem_id": "a", "completion": f"n{number}"}) + "\n" for number in range(PAGE + 1))
    )
    bank = of_files(task([tmp_path / "s.jsonl"], str(tmp_path / "p.jsonl"), progress=unwatched, warn=pytest.fail))
    from qrft.browse.pages import listing

    first, last = (listing(bank, "n", {"page": page, "problem": "a"}) for page in "12")
    assert 'href="/?problem=a&amp;page=2" rel="next"' in first and "rel=" in last and "51 to 51 of 51" in last
    assert f">n{PAGE}</pre>" in last and f">n{PAGE}</pre>" not in first


def test_only_who_has_the_address_is_shown_anything(browser: OpenerDirector, server: Server) -> None:
    url, stranger = f"http://127.0.0.1:{server.server_port}", build_opener()
    assert refused(stranger, f"{url}/") == (403, "Open the address that qrft browse printed.")
    assert refused(stranger, f"{url}/?token=wrong")[0] == 403
    assert refused(stranger, f"{url}/", Cookie='=;;,"\\ é'.encode().decode("latin-1"))[0] == 403
    assert refused(browser, f"{url}/", Host="evil.example")[0] == 421, "a name that was pointed here"
    assert refused(browser, f"{url}/other") == (404, "There is no such page.")


def test_what_is_no_number_is_one_message(browser: OpenerDirector, server: Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    assert refused(browser, f"{url}/?page=x") == (400, "page: found 'x', expected a number.")
    assert refused(browser, f"{url}/compare?a=0") == (400, "sample: found '', expected a number.")
    assert refused(browser, f"{url}/compare?a=0&b=99") == (
        400,
        "There are 12 samples. Choose two of them in the list.",
    )


def test_a_real_browser_shows_the_page_and_runs_nothing(server: Server, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    done = subprocess.run([chromium, *flags, server.address], capture_output=True, text=True, timeout=120)
    assert "1 to 12 of 12 found" in done.stdout, done.stderr
    assert "<title>trial: samples</title>" in done.stdout, "the text of a sample is no program"


# --------------------------------------------------------------------------------------------------------- command ----


def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    samples, problems = write_samples(tmp_path / "s.jsonl"), write_problems(tmp_path / "p.parquet")
    command = command_line("browse", samples, "--problems", problems)
    with start_process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout and child.stderr
        told = child.stdout.readline()
        found = re.fullmatch(r"12 samples: (http://127\.0\.0\.1:\d+/\?token=\S+)\n", told)
        assert found, told + child.stderr.read()
        with build_opener(HTTPCookieProcessor()).open(found[1]) as answer:
            assert answer.status == 200
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130 and "Stopped. The pages are gone." in child.stderr.read()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.parquet", "s.jsonl"]


def test_bad_input_is_one_message(tmp_path: Path, server: Server) -> None:
    samples, problems = write_samples(tmp_path / "s.jsonl"), write_problems(tmp_path / "p.parquet")
    (empty := tmp_path / "empty").mkdir()
    assert "holds no graded samples" in fails(1, "browse", empty)
    assert "Only a run folder needs none" in fails(2, "browse", samples)
    taken = fails(2, "browse", samples, "--problems", problems, "--port", server.server_port)
    assert taken.startswith(f"--port {server.server_port}: Address already in use. Choose another")
