"""A bit flipped, the tail cut off, a file emptied or gone: in any finished artifact, and in any cache."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from helpers import damage
from helpers.forks import Forks
from helpers.torture import Told, Undisturbed, contents, counts

from qrft.pipeline.store import verify

AT_ONCE = 5  # artifacts that are damaged before each run


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


@counts(5, 200)
def test_damage_in_any_artifact_is_noticed_before_it_is_used(
    trials: int, forks: Forks, undisturbed: Undisturbed, tmp_path: Path, draw: random.Random, told: Told
) -> None:
    """Whatever is damaged is named and made again, and nothing else; no figure is another one."""
    out = Path(shutil.copytree(undisturbed.out, tmp_path / "out", symlinks=True))
    artifacts = sorted(path.parent for path in (out / "store").glob("*/manifest.json"))
    done: Counter[str] = Counter()
    while sum(done.values()) < trials:
        struck = draw.sample(artifacts, AT_ONCE)
        for artifact in struck:
            happens = draw.choice(damage.KINDS)
            happens(draw.choice(files(artifact)), draw)
            done[happens.__name__] += 1
        run = forks.run("run", undisturbed.recipe, "-o", out)
        assert run.code == 0 and "Traceback" not in run.printed, run.printed
        for artifact in struck:
            assert f"is damaged and is made again: {artifact}/" in run.printed, f"{artifact}: {run.printed}"
        assert f"{len(artifacts)} steps, {len(struck)} to do." in run.printed, run.printed
        assert contents(out) == undisturbed.contents
    for artifact in artifacts:
        verify(artifact, fresh=True)
    told(sum(done.values()), f"all named and made again as they were; {dict(done)}")


@counts(2, 60)
def test_damage_in_any_cache_changes_no_result(
    trials: int, forks: Forks, undisturbed: Undisturbed, tmp_path: Path, draw: random.Random, told: Told
) -> None:
    cache = tmp_path / "cache"
    words = ["sample", "tiny-base", "--problems", undisturbed.out / "micro/problems/test/problems.parquet", "-k", 2]
    words += ["--max-new-tokens", 8, "--quant", "q8_0"]

    def samples(name: str) -> bytes:
        run = forks.run(*words, "-o", tmp_path / name, XDG_CACHE_HOME=str(cache))
        assert run.code == 0 and "Traceback" not in run.printed, run.printed
        return (tmp_path / name / "shard-000000.parquet").read_bytes()

    whole, done = samples("whole"), Counter[str]()
    for number in range(trials):
        path, happens = draw.choice(files(cache)), draw.choice(damage.KINDS)
        happens(path, draw)
        done[path.suffixes[0] if path.suffixes else path.name] += 1
        assert samples(str(number)) == whole, path
    told(trials, f"same samples each time; damaged: {dict(done)}")
