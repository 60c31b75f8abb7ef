"""Choose a recipe for a model, problems, a device and some hours: the largest that fits, by what the plan foretells."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from qrft.config.paths import path_faults
from qrft.config.recipe import Recipe
from qrft.config.training import Train
from qrft.errors import UsageError
from qrft.models.json_file import read_json
from qrft.pipeline.flow import plan
from qrft.pipeline.store import Store
from qrft.planning.amounts import Amounts
from qrft.planning.devices import Device
from qrft.planning.forecast import Forecast, forecast
from qrft.training.memory import GIB

Values = dict[str, Any]

NUM_SAMPLES = (100, 64, 32, 16, 8, 4)  # per problem, the most first
FEWEST_PROBLEMS = 200
# How the base is held in training, and as a file for sampling: the most exact first.
FORMS = (("none", "f16"), ("nf4", "f16"), ("nf4", "q8_0"), ("nf4", "q4_k_m"))
ROOM = 1.25  # for a sample, over the longest worked solutions
WITHOUT_SOLUTIONS = 768  # tokens of a sample where nothing tells how long solutions are
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


class Fitted(NamedTuple):
    """The values of a recipe, and what the plan says of it."""

    values: Values
    forecast: Forecast


def fit(name: str, base_model: str, folder: Path, problems: Mapping[str, str], device: Device, hours: float) -> Fitted:
    """Return the recipe with the most samples per problem that fits the device's memory and the hours, and if need be
    with fewer problems.

    Where no speed of the device is known, the hours decide nothing. Raises UsageError where nothing fits, and for
    problems that are neither a set nor a file.
    """
    values: Values = {"name": name, "base_model": base_model, "problems": dict(problems)}
    for key, text in path_faults(values):
        raise UsageError(f"{'.'.join(map(str, key))}: {text}.")
    trial = _Trial(folder, device)
    values |= {**wording(base_model, folder), **_lengths(values, trial)}
    values = _in_memory(values, trial)
    return _in_time(values, trial, hours)


class _Trial:
    """What is the same in all recipes that are tried: tokens are counted once."""

    def __init__(self, folder: Path, device: Device) -> None:
        self.folder, self.device = folder, device
        self.store = Store(Path("no-store"))  # nothing is done yet
        self.amounts = Amounts(self.store)

    def of(self, values: Values) -> Forecast:
        steps = plan(Recipe.model_validate(values), self.folder)
        return forecast(steps, self.store, self.device, amounts=self.amounts)


def wording(base_model: str, folder: Path) -> Values:
    """Return how the model is asked. An instruct model is asked by its template, and samples before it is trained: its
    own answers teach it more than terse solutions of others would."""
    template = _template(folder)
    is_instruct = re.search(r"instruct|[-_]it\b|chat|smollm2-135m|qwen3(?!.*base)", base_model.lower())
    if not (template and is_instruct):
        own_prompt = "plain" if base_model == "tiny-base" else "alpaca"
        return {"prompt": own_prompt}
    quiet = {"chat_template_args": {"enable_thinking": False}} if "enable_thinking" in template else {}
    return {"prompt": "chat", "system": BOXED, **quiet, "start": "base", "grade": {"answer_format": "auto"}}


def _template(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    config = folder / "tokenizer_config.json"
    return str(read_json(config).get("chat_template") or "") if config.is_file() else ""


def _lengths(values: Values, trial: _Trial) -> Values:
    """Return the limits in tokens, by the lengths of the worked solutions."""
    counted = {"problems": {**values["problems"], **_drawn(values)}}
    recipe = Recipe.model_validate({**values, **counted, "start": "base", "rounds": 1})
    step = next(step for step in plan(recipe, trial.folder) if step.name == "problems/train")
    lengths = trial.amounts.lengths(step, trial.folder, recipe.wording)
    completions = [total - prompt for total, prompt in zip(lengths.totals, lengths.prompts, strict=True)]
    has_solutions = max(completions, default=0) > 16  # tokens; bare answers are shorter
    new = _rounded(ROOM * max(completions)) if has_solutions else WITHOUT_SOLUTIONS
    longest = _rounded(max(lengths.prompts, default=0) + new)
    return {
        **counted,
        "train": {
            "sequence_len": longest,
            "micro_batch_size": 8,
            "gradient_accumulation_steps": 4,
            **_vram(trial.device),
        },
        "sample": {"max_new_tokens": new},
        "evaluate": {"max_new_tokens": new},
    }


def _drawn(values: Values) -> Values:
    """Return how many problems to draw of sets without an end."""
    from qrft.data.problems.registry import GENERATED

    sizes = {"train": 2000, "test": 500}
    return {f"num_{part}": sizes[part] for part in sizes if values["problems"][part] in GENERATED}


def _rounded(tokens: float) -> int:
    return math.ceil(tokens / 64) * 64


def _vram(device: Device) -> Values:
    """Return train.vram: the largest of its values that the GPU has."""
    sizes = [size for size in get_args(get_args(Train.model_fields["vram"].annotation)[0]) if isinstance(size, int)]
    fitting = [size for size in sizes if device.is_gpu and size * GIB <= device.memory * 1.02]
    return {"vram": max(fitting)} if fitting else {}


def _in_memory(values: Values, trial: _Trial) -> Values:
    """Return the values with the most exact form of the model that fits."""
    for quantization, quant in FORMS:
        tried = {**values, "train": {**values["train"], "quantization": quantization}, "gguf": {"quant": quant}}
        found = trial.of({**tried, "sample": {**values["sample"], "num_samples": NUM_SAMPLES[-1]}})
        faults = [fault for row in found.rows for fault in row.faults]
        if not faults:
            return tried
    raise UsageError(
        f"{values['base_model']} does not fit {trial.device.name}: {faults[0]} Name a smaller model, or a larger card."
    )


def _in_time(values: Values, trial: _Trial, hours: float) -> Fitted:
    whole = _num_problems(values, trial)
    halves = [whole // 2**power for power in range(20) if whole // 2**power >= min(whole, FEWEST_PROBLEMS)]
    sizes = [(number, whole) for number in NUM_SAMPLES] + [(NUM_SAMPLES[-1], size) for size in halves[1:]]
    for num_samples, num_problems in sizes:
        tried = {**values, "sample": {**values["sample"], "num_samples": num_samples}}
        if num_problems < whole:
            tried["problems"] = {**values["problems"], "num_train": num_problems}
        found = trial.of(tried)
        if found.seconds is None or found.seconds <= hours * 3600:
            return Fitted(tried, found)
    raise UsageError(
        f"--hours: found {hours:g}, but {num_samples} samples of each of {num_problems} problems take about "
        f"{(found.seconds or 0) / 3600:.1f} h on {trial.device.name}. Allow more, or name a smaller model."
    )


def _num_problems(values: Values, trial: _Trial) -> int:
    recipe = Recipe.model_validate({**values, "start": "base"})
    step = next(step for step in plan(recipe, trial.folder) if step.name == "problems/train")
    return round(trial.amounts.rows(step))
