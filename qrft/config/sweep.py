"""A sweep: lists of values for some keys of a recipe, and a run for every combination of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from qrft.config.messages import did_you_mean
from qrft.config.yaml_lines import KeyPath, dotted

MAX_RUNS = 5000
MAX_NAME = 150  # characters of a run's folder; file systems take 255 bytes
# What no result depends on, or what makes another sweep of it.
FIXED = ("name", "sweep", "study", "paper", "num_threads", "train.checkpoint_minutes", "train.report_to")
SAMPLES, FIRST = "sample.num_samples", "curate.first_samples"

Values = dict[str, Any]


def number(value: Any) -> Any:
    """Return the number that a text like 1/8 stands for, and any other value as it is."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,9})/([1-9]\d{0,8})", value)):
        return int(found[1]) / int(found[2])
    return value


def combinations(sweep: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, Values]]:
    """Yield every run's folder name, such as `train_fraction=1-2,seed=0`, and its values by the sweep's own keys."""
    for written in itertools.product(*sweep.values()):
        settings = dict(zip(sweep, written, strict=True))
        yield run_name(settings), {key: number(value) for key, value in settings.items()}


def run_name(settings: Mapping[str, Any]) -> str:
    """Return the name of a run's folder, from the values as they were written; a long name ends in a hash of itself."""
    name = ",".join(f"{key}={_word(value)}" for key, value in settings.items())
    if len(name) <= MAX_NAME:
        return name
    text = json.dumps(settings, sort_keys=True, default=str)
    return f"{name[: MAX_NAME - 13]}-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [f"{key}.{_word(inner)}" for key, inner in value.items()]
    if isinstance(value, list | tuple):
        return "+".join(_word(inner) for inner in value) or "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", text)


def substituted(values: Values, settings: Values, sweep: Mapping[str, Sequence[Any]], keys: Sequence[str]) -> Values:
    """Return a recipe's values with those of one run, and without the sweep.

    Runs that differ in num_samples take the first samples of one sampling, the largest.
    """
    changed = {key: value for key, value in values.items() if key != "sweep"}
    for key, value in settings.items():
        path = matches(key, keys)[0]
        if path == SAMPLES and all(isinstance(count, int) for count in sweep[key]):
            most = max(sweep[key])
            changed = _put(_put(changed, SAMPLES, most), FIRST, value if value < most else None)
        else:
            changed = _put(changed, path, number(value))
    return changed


def _put(values: Any, path: str, value: Any) -> Values:
    """Return a copy with the value at the dotted path; whatever is not on that path is shared."""
    first, _, rest = path.partition(".")
    values = values if isinstance(values, dict) else {}
    return {**values, first: _put(values.get(first), rest, value) if rest else value}


def value_at(values: Values, path: str) -> Any:
    """Return what stands at the dotted path; None where nothing does."""
    found: Any = values
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def matches(key: str, keys: Sequence[str]) -> list[str]:
    """Return the key paths that a sweep's key may mean: itself, or the paths that end in it."""
    if key in keys or key.startswith("models."):
        return [key]
    return [path for path in keys if path.endswith(f".{key}") and not path.startswith(("sft.", "rft."))]


# --------------------------------------------------------------------------------------------------------------- faults

Faults = list[tuple[KeyPath, str]]
Check = Callable[[Values], Faults]


def faults(values: Values, keys: Sequence[str], check: Check) -> Iterator[tuple[KeyPath, str]]:
    """Yield what is wrong with the sweep among a recipe's values, whose other keys may be invalid.

    check: gives all faults of a recipe's values without a sweep. Those of the recipe itself are not reported again.
    """
    given = values.get("sweep")
    lists = given.items() if isinstance(given, dict) else ()  # the recipe's schema refuses anything but a list
    sweep = {key: listed for key, listed in lists if isinstance(listed, list) and listed}
    good = {}
    for key, listed in sweep.items():
        found = [*_key_faults(key, sweep, keys), *_list_faults(listed)]
        yield from ((("sweep", key), text) for text in found)
        if not found:
            good[key] = listed
    num_runs = math.prod(map(len, good.values()))
    if num_runs > MAX_RUNS:
        yield ("sweep",), f"found {num_runs:,} runs. Allowed: at most {MAX_RUNS:,}"
    elif good:
        yield from _run_faults(good, values, keys, check)


def _run_faults(
    sweep: Mapping[str, Sequence[Any]], values: Values, keys: Sequence[str], check: Check
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the first fault of each value in a run that has it, and the first run whose values exclude each other."""
    paths = {matches(key, keys)[0]: key for key in sweep}
    if SAMPLES in paths:
        paths[FIRST] = paths[SAMPLES]  # which is how a run gets it
    known = check({key: value for key, value in values.items() if key != "sweep"})
    told = set()
    for name, settings in combinations(sweep):
        for place, text in check(substituted(values, settings, sweep, keys)):
            if (place, text) in known:
                continue
            key = next((key for path, key in paths.items() if f"{dotted(place)}.".startswith(f"{path}.")), None)
            if (key, value := _word(settings[key]) if key else "") not in told:
                told.add((key, value))
                yield (("sweep", key), text) if key else (("sweep",), f"{name}: {dotted(place)}: {text}")


def _key_faults(key: str, sweep: Mapping[str, Any], keys: Sequence[str]) -> Iterator[str]:
    paths = matches(key, keys)
    if not paths:
        names = [path.rpartition(".")[2] for path in keys]
        guess = did_you_mean(key, keys) or did_you_mean(key, names)
        yield f"unknown key. {guess}Allowed: any key of a recipe, such as seed, num_samples, train.num_epochs"
    elif len(paths) > 1:
        yield f"could mean {' or '.join(paths)}. Allowed: one of them, written out"
    elif paths[0] in FIXED:
        yield f"no result depends on it. Allowed: keys other than {', '.join(FIXED)}"
    elif (same := next(other for other in sweep if paths[0] in matches(other, keys))) != key:
        yield f"is the same key as {same}. Keep one of them"
    elif paths[0] == FIRST and any(matches(other, keys) == [SAMPLES] for other in sweep):
        yield "found together with num_samples, which sets it. Allowed: one of the two"


def _list_faults(listed: Sequence[Any]) -> Iterator[str]:
    words = [_word(number(value)) for value in listed]  # 1/2 and 0.5 are the same run
    twice = next((word for place, word in enumerate(words) if word in words[:place]), None)
    if twice is not None:
        yield f"found {twice} twice. Allowed: each value once"
