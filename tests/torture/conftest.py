"""What the campaigns share: a run of seconds, processes that start at once, and a table of what came out.

Each file is a campaign. Its short form runs with the other tests, `make torture` runs the long one; the seed is printed
(TORTURE_SEED sets it), and what came out goes into docs/reliability.md by hand.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import pytest
from helpers.forks import Forks
from helpers.torture import RECIPE, Told, Undisturbed, contents


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers from a printed seed."""
    seed = int(os.environ.get("TORTURE_SEED", "1"))
    print(f"TORTURE_SEED={seed}")
    return random.Random(f"{seed} {request.node.name}")


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Iterator[Told]:
    """Keep how many trials there were and what came out, for the table at the end."""
    start = time.monotonic()

    def tell(trials: int, outcome: str) -> None:
        row = (request.node.name.partition("[")[0].removeprefix("test_"), trials, outcome, time.monotonic() - start)
        request.node.user_properties.append(("torture", row))

    yield tell


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    folder = tmp_path_factory.mktemp("forks")
    forks = Forks(folder, XDG_CACHE_HOME=str(folder / "cache"))
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def undisturbed(forks: Forks) -> Undisturbed:
    """A run that nothing disturbs: its folder, what it made, and the seconds that it took."""
    start, out = time.monotonic(), forks.folder / "undisturbed"
    recipe = forks.folder / "micro.yaml"
    recipe.write_text(RECIPE)
    done = forks.run("run", recipe, "-o", out)
    assert done.code == 0, done.printed
    return Undisturbed(recipe, out, contents(out), time.monotonic() - start)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the rows of docs/reliability.md."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = [row for report in reports for name, row in report.user_properties if name == "torture"]
    for campaign, trials, outcome, seconds in rows:
        words = campaign.replace("_", " ")
        terminalreporter.write_line(f"| {words} | {trials} | {outcome} | {seconds:.0f} s |")
