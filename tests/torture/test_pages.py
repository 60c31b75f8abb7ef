"""What a model writes stays text: in the report, in the pages of `qrft browse`, in a real browser, on a terminal."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.runs import Made, Page
from helpers.torture import Told, counts

from qrft.browse.bank import of_files
from qrft.browse.pages import comparison, listing
from qrft.cli.visible import visible
from qrft.commands.grading import task
from qrft.data.problems.tiny_math import Story, write_solution
from qrft.progress import unwatched

PIECES = [
    *(
        "<script>document.title='owned'</script>",
        "<img src=x onerror=\"document.title='owned'\">",
        "<svg/onload=alert(1)>",
    ),
    *(
        "</pre>",
        "</script>",
        "<!--",
        "-->",
        "]]>",
        "<![CDATA[",
        "{{ 7*7 }}",
        "{% raw %}",
        "${7*7}",
        "&lt;",
        "&#x3c;script&#x3e;",
    ),
    *(
        "<a href='javascript:document.title=\"owned\"'>x</a>",
        "<base href='//evil.example'>",
        "<style>*{display:none}</style>",
    ),
    *(
        "<iframe srcdoc='<script>parent.document.title=1</script>'>",
        "<form action=//evil.example><button>",
        '" onclick="x',
    ),
    *(
        "\x00",
        "\x1b]0;owned\x07",
        "\x1b[2J",
        "\u202e",
        "\u2028",
        "\ufeff",
        "\ud7ff",
        "é",
        "\r",
        "\t",
        "`",
        "'",
        '"',
        "\\",
    ),
    *("<<3*4=12>>", "<<1+1=3>>", "<<", ">>", "#### 12", "\\boxed{<b>}", "<think>", "</think>", "<answer>"),
]
NEVER = {"img", "iframe", "object", "embed", "base", "link", "form action", "svg/onload"}


def nasty(rng: random.Random) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 12)))


def answerer(rng: random.Random, problem: dict[str, str], story: Story) -> str:
    return nasty(rng) + (write_solution(story.paths[0]) if rng.random() < 0.3 else "")


def check(html: str, num_scripts: int) -> None:
    """The page has the elements that it was made of, and none with a handler or an address elsewhere."""
    page = Page(html)
    assert page.count("script") == num_scripts and page.count("style") == 1
    for name, attributes in page.elements:
        assert name not in NEVER
        assert not [key for key in attributes if key.startswith("on")], (name, attributes)
        for key in ("href", "src", "action"):
            assert re.match(r"(?!//)(/|#|$)", attributes.get(key) or "") or name == "meta", (name, attributes)


def in_chromium(address: str, folder: Path) -> str:
    """Return the page as a real browser has it once its scripts have run."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run([chromium, *flags, address], capture_output=True, text=True, timeout=120)
    return done.stdout


@counts(2, 100)
def test_in_the_report_it_is_text(trials: int, tmp_path: Path, draw: random.Random, told: Told) -> None:
    num_texts = 0
    for trial in range(trials):
        made = Made(tmp_path / str(trial), 6, 4, 5, answerer, question=nasty(draw), problem_id=nasty(draw)[:30])
        html = made.html()
        check(html, num_scripts=2)  # its own, and its data
        num_texts += 6 * 5 + 3 * 4
        shutil.rmtree(tmp_path / str(trial))
    (tmp_path / "report.html").write_text(html, encoding="utf-8", errors="replace")
    shown = in_chromium(f"file://{tmp_path}/report.html", tmp_path)
    assert "<title>trial-run: qrft report</title>" in shown and not re.search(r"<img|<iframe|<base", shown)
    told(num_texts, f"{trials} reports: no element, handler or address that is not the page's own; inert in Chromium")


@counts(50, 5000)
def test_in_the_browser_of_samples_it_is_text(trials: int, tmp_path: Path, draw: random.Random, told: Told) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"problem_id": "<b>", "question": nasty(draw), "answer": "12"}))
    rows = [{"problem_id": "<b>", "model": nasty(draw), "completion": nasty(draw)} for _ in range(trials)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bank = of_files(task([tmp_path / "s.jsonl"], str(tmp_path / "p.jsonl"), progress=unwatched, warn=pytest.fail))
    for page in range(1, len(bank) // 50 + 1):
        check(listing(bank, nasty(draw), {"page": str(page), "problem": "<b>"}), num_scripts=0)
        check(listing(bank, "n", {"text": nasty(draw), "model": nasty(draw)}), num_scripts=0)
        check(comparison(bank, "n", {"a": "0", "b": str(draw.randrange(len(bank)))}), num_scripts=0)
    told(trials, "no element, handler or address that is not the pages' own")


@counts(500, 50_000)
def test_on_a_terminal_it_is_text(trials: int, draw: random.Random, told: Told) -> None:
    for _ in range(trials):
        shown = visible(nasty(draw))
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown), repr(shown)
    told(trials, "no control character reaches the terminal")
