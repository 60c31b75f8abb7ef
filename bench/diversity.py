"""Ways of decoding that bring different right paths: how many for the tokens that they take.

    python bench/diversity.py RUN [-k 32] [--problems 150] [--seeds 3] [--out FILE]

RUN is the folder of a finished run with one model (`qrft run recipes/tiny.yaml`): its SFT model is sampled on the
problems that it was trained on. Each way takes k samples of a problem, or as many tokens in all: one temperature, a
mixture, min_p, and forks. A fork goes on from a finished right sample, where a step of it begins with the token of
which the model is least sure (the highest entropy; a step is a line): the tokens before it are not sampled again, and
only new ones count. Rows: distinct right paths besides the gold one for 1,000 tokens, and those of them that are
sound, the share of right samples, and what was spent; the mean over seeds, and their standard deviation. Writes
bench/results/diversity.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from qrft import grading
from qrft.config.load import load
from qrft.grading.paths import gold_keys, is_right_path, is_sound
from qrft.models import prompts
from qrft.models.find import find_model
from qrft.sampling.api import Request, SamplingParams
from qrft.sampling.backends.llama_cpp.process import LlamaProcess

MAX_NEW_TOKENS = 96
WAYS: dict[str, dict[str, Any]] = {
    "0.7": {"temperature": 0.7},
    "1.0": {"temperature": 1.0},
    "1.3": {"temperature": 1.3},
    "0.7, 1.0, 1.3": {"temperature": (0.7, 1.0, 1.3)},
    "1.0, min_p 0.05": {"temperature": 1.0, "min_p": 0.05},
    "1.3, min_p 0.05": {"temperature": 1.3, "min_p": 0.05},
    "1.3, min_p 0.1": {"temperature": 1.3, "min_p": 0.1},
}


@dataclass(frozen=True)
class Sample:
    """A sample of problem number `problem`; `num_new` of its tokens were sampled for it."""

    problem: int
    tokens: list[int]
    num_new: int


class Model:
    """The SFT model of a run, its tokenizer, and its problems."""

    def __init__(self, run: Path, num_problems: int) -> None:
        recipe = load(run / "recipe.yaml")
        folder = find_model(recipe.base_model)
        self.tokenizer = prompts.load_tokenizer(folder)
        self.end_ids = prompts.end_ids(self.tokenizer, recipe.wording)
        self.problems = pq.read_table(run / "problems/train/problems.parquet").slice(0, num_problems)
        questions = self.problems["question"].to_pylist()
        self.prompts = [prompts.prompt_ids(self.tokenizer, question, recipe.wording) for question in questions]
        self.process = LlamaProcess(run / "base/gguf/base.gguf", run / "sft/gguf/adapter.gguf", n_threads=1)

    def sample(self, starts: Sequence[tuple[int, list[int]]], num: int, seed: int, **picking: Any) -> list[Sample]:
        """Return so many samples of each start: the number of a problem, and the tokens that its samples begin with."""
        params = SamplingParams(seed=seed, max_new_tokens=MAX_NEW_TOKENS, **picking)
        requests = [Request(str(i), self.prompts[p] + tokens, num) for i, (p, tokens) in enumerate(starts)]
        found = []
        for done in self.process.generate(requests, params, self.end_ids):
            problem, before = starts[int(done.problem_id)]
            if done.finish_reason == "stop":
                found.append(Sample(problem, before + done.token_ids, done.num_tokens))
            else:
                found.append(Sample(problem, [], done.num_tokens))  # cut off: no path
        return found

    def verdicts(self, samples: Sequence[Sample]) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
        """Return whether each is a right path, whether it is a sound one too, and its key."""
        texts = [self.tokenizer.decode(sample.tokens, skip_special_tokens=True) for sample in samples]
        asked = self.problems.take([sample.problem for sample in samples])
        graded = grading.grade(pa.array(texts), asked["answer"], questions=asked["question"])
        is_right = is_right_path(graded)
        return is_right, is_right & is_sound(graded), graded["equation_key"].to_pylist()

    def uncertain_starts(self, samples: Sequence[Sample]) -> list[tuple[int, list[int]]]:
        """Return each sample up to its most uncertain step; none for one of a single step."""
        starts = []
        for sample in samples:
            prompt, lines = self.prompts[sample.problem], self.step_starts(sample.tokens)
            if not lines:
                continue
            (logits,) = self.process.logits([prompt + sample.tokens])
            rows = logits[[len(prompt) + at - 1 for at in lines]].astype(np.float64)
            chances = np.exp(rows - rows.max(1, keepdims=True))
            chances /= chances.sum(1, keepdims=True)
            entropy = -(chances * np.log(np.maximum(chances, 1e-300))).sum(1)
            starts.append((sample.problem, sample.tokens[: lines[int(entropy.argmax())]]))
        return starts

    def step_starts(self, tokens: Sequence[int]) -> list[int]:
        """Return where the steps after the first begin."""
        texts = [self.tokenizer.decode([token]) for token in tokens]
        return [at + 1 for at, text in enumerate(texts[:-2]) if "\n" in text]


def forked(model: Model, k: int, seed: int, temperature: float, budget: int) -> list[Sample]:
    """Take half as many samples, then fork the right ones among all so far until the budget of tokens is spent."""
    everything = [(p, []) for p in range(len(model.prompts))]
    samples = model.sample(everything, k // 2, seed, temperature=temperature)
    spent, again = sum(sample.num_new for sample in samples), 0
    while spent < budget:
        is_right, _, _ = model.verdicts(samples)
        starts = model.uncertain_starts([s for s, right in zip(samples, is_right, strict=True) if right])
        distinct = {(p, tuple(tokens)): tokens for p, tokens in starts}
        again += 1
        new = model.sample([(p, list(t)) for p, t in distinct], 1, seed + 1000 * again, temperature=temperature)
        for sample in new:
            if spent < budget:
                samples.append(sample)
                spent += sample.num_new
    return samples


def figures(model: Model, samples: Sequence[Sample], gold: Sequence[bytes | None]) -> dict[str, float]:
    is_right, sound, keys = model.verdicts(samples)
    tokens = sum(sample.num_new for sample in samples)

    def distinct(counts: np.ndarray) -> float:
        """Return the different paths besides the gold ones for 1,000 tokens, of the samples that count."""
        found = {(s.problem, key) for s, count, key in zip(samples, counts, keys, strict=True) if count}
        return 1000 * sum(key != gold[problem] for problem, key in found) / tokens

    return {
        "distinct_per_1000": distinct(is_right),
        "sound_per_1000": distinct(sound),
        "right": float(is_right.mean()),
        "samples_per_problem": len(samples) / len(model.prompts),
        "tokens_per_problem": tokens / len(model.prompts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("-k", type=int, default=32)
    parser.add_argument("--problems", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "diversity.json")
    given = parser.parse_args()
    model = Model(given.run, given.problems)
    gold = gold_keys(model.problems).to_pylist()
    everything = [(p, []) for p in range(len(model.prompts))]
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(given.seeds):
        budgets: dict[float, int] = {}
        for name, picking in WAYS.items():
            samples = model.sample(everything, given.k, seed, **picking)
            if isinstance(picking["temperature"], float) and len(picking) == 1:
                budgets[picking["temperature"]] = sum(sample.num_new for sample in samples)
            rows.setdefault(name, []).append(figures(model, samples, gold))
        for temperature, budget in budgets.items():
            samples = forked(model, given.k, seed, temperature, budget)
            rows.setdefault(f"{temperature}, forks", []).append(figures(model, samples, gold))
    table = {name: {key: summary([row[key] for row in found]) for key in found[0]} for name, found in rows.items()}
    for name, row in table.items():
        print(f"{name:20}", "  ".join(f"{key} {mean:.3f} ± {deviation:.3f}" for key, (mean, deviation) in row.items()))
    settings = {"k": given.k, "problems": given.problems, "seeds": given.seeds}
    given.out.write_text(json.dumps({"machine": machine.describe(), **settings, "rows": table}, indent=1) + "\n")


def summary(values: Sequence[float]) -> tuple[float, float]:
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
