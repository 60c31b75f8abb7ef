"""kill -9 of any process at a random instant, then the same command."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from helpers.forks import Forks, Running
from helpers.processes import members
from helpers.torture import Told, Undisturbed, contents, counts


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Return what tells each artifact from one made again."""
    stats = {path.parent.name: path.stat() for path in (out / "store").glob("*/manifest.json")}
    return {name: (found.st_ino, found.st_mtime_ns) for name, found in stats.items()}


def kill(running: Running, draw: random.Random) -> str:
    """Kill all processes of a command, the command itself, or one that it started; return which."""
    others = [pid for pid in members(running.pid) if pid != running.pid]
    who = draw.choice(["all", "itself", "child"]) if others else "itself"
    pids = {"all": [running.pid, *others], "itself": [running.pid], "child": others and [draw.choice(others)]}
    for pid in pids[who]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            who = "one that had just ended"
    return who


def at_work(out: Path) -> str:
    work = sorted(path.name.rpartition("-")[0] for path in (out / "store/tmp").glob("*") if path.is_dir())
    return work[0] if work else "between"


@counts(3, 200)
def test_killed_at_random_instants_a_run_goes_on_to_the_same_artifacts(
    trials: int, forks: Forks, undisturbed: Undisturbed, tmp_path: Path, draw: random.Random, told: Told
) -> None:
    where: Counter[str] = Counter()
    who: Counter[str] = Counter()
    num_runs, out = 0, tmp_path / "0"
    while sum(who.values()) < trials:
        before = finished(out)
        running = forks.start("run", undisturbed.recipe, "-o", out)
        end = time.monotonic() + draw.uniform(0, undisturbed.seconds / 2)
        while time.monotonic() < end and not running.has_ended:
            time.sleep(0.002)
        if not running.has_ended:
            where[at_work(out)] += 1
            who[kill(running, draw)] += 1
        code = running.wait()
        assert "Traceback" not in running.printed, running.printed
        assert before.items() <= finished(out).items(), "a finished step was done twice"
        if code == 0:
            assert contents(out) == undisturbed.contents
            num_runs, out = num_runs + 1, tmp_path / str(num_runs + 1)
    last = forks.run("run", undisturbed.recipe, "-o", out)
    assert last.code == 0 and contents(out) == undisturbed.contents, last.printed
    assert not list((out / "store/tmp").iterdir())
    told(trials, f"{num_runs + 1} runs, all as undisturbed; killed: {dict(who)}; at: {dict(where)}")
