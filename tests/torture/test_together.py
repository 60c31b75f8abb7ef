"""Two to eight commands on one folder or one store; then the one that works is stopped or killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

from helpers.forks import Forks
from helpers.torture import Told, Undisturbed, contents, counts

BUSY = ("is in use by process", "is being made by process")


@counts(2, 50, is_slow=True)
def test_of_commands_on_one_folder_or_store_one_works_and_the_others_say_so(
    trials: int, forks: Forks, undisturbed: Undisturbed, tmp_path: Path, draw: random.Random, told: Told
) -> None:
    num_refused = num_done = num_stopped = num_killed = 0
    for number in range(trials):
        out = tmp_path / str(number)
        shares_store = draw.random() < 0.5
        names = [f"--name=run-{i}" if shares_store else "--name=micro" for i in range(draw.randint(2, 8))]
        started = [forks.start("run", undisturbed.recipe, "-o", out, name) for name in names]
        time.sleep(draw.uniform(0, undisturbed.seconds / 2))
        working = [running for running in started if not running.has_ended]
        held = draw.choice(working) if working else None
        if held is not None:
            os.kill(held.pid, signal.SIGSTOP)
            num_stopped += 1
            other = forks.start("run", undisturbed.recipe, "-o", out, names[started.index(held)])
            other.wait(60)  # it does not wait for one that never ends
            assert other.code == 0 or any(words in other.printed for words in BUSY), other.printed  # 0: it came first
            is_killed = draw.random() < 0.5
            num_killed += is_killed
            held.signal(signal.SIGKILL if is_killed else signal.SIGCONT)
        for running in started:
            code = running.wait()
            assert "Traceback" not in running.printed, running.printed
            if code == 0:
                num_done += 1
            elif running is not held:
                assert code == 1 and any(words in running.printed for words in BUSY), running.printed
                num_refused += 1
        last = forks.run("run", undisturbed.recipe, "-o", out, names[0])
        assert last.code == 0 and contents(out) == undisturbed.contents, last.printed
        assert not list((out / "store/tmp").iterdir())
        shutil.rmtree(out)
    told(trials, f"{num_done} did the work, {num_refused} said who does, {num_stopped} stopped, {num_killed} killed")
