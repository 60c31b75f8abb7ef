"""Does it help to learn several right paths of a problem, in the tiny world? The gate that tiny-paths has to pass.

    python bench/tiny_gate.py --base FOLDER [--draws 8] [--runs runs/gate] [--out docs/results]

A draw has training problems, an initialisation and an order of its own, and fine-tunes the base four times: on the gold
solutions (`sft`), on them for as many steps as the others (`control`), on as many rows as there are paths, all of them
gold (`duplicates`), and on all genuine paths of the same problems (`oracle`), which a perfect sampler would find. So
nothing has to be sampled. With `-k` the SFT model is: how many of its samples on its training problems are right, and
how many new paths among them are genuine. `--split validation` is for choosing settings. Finished arms are kept in
`--runs`, so a stopped gate goes on. Writes tiny-gate.json and tiny-gate.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import machine

import qrft
from qrft import grading
from qrft.data.problems import tiny_paths
from qrft.evaluation.stats import mean, mean_interval

MAX_NEW_TOKENS = 96
ARMS = {
    "sft": "SFT",
    "control": "SFT, equal steps",
    "duplicates": "duplicates, equal rows",
    "oracle": "all genuine paths",
}

Rows = list[tuple[str, str]]
Problem = dict[str, str]


def rows_of(arm: str, train: Sequence[Problem], genuine: Sequence[Sequence[str]]) -> Rows:
    """Return what the arm is trained on."""
    rows = []
    for problem, paths in zip(train, genuine, strict=True):
        gold = [problem["solution"]]
        completions = {"oracle": list(paths), "duplicates": gold * len(paths)}.get(arm, gold)
        rows += [(problem["question"], completion) for completion in completions]
    return rows


class Draw:
    """One draw of the gate: its problems, and the folder of its arms."""

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        self.args, self.seed, self.folder = args, seed, args.runs / f"draw-{seed}"
        self.train = list(tiny_paths.problems("train", seed, args.problems))
        paths = tiny_paths.genuine_paths("train", seed, args.problems)
        self.genuine = [[tiny_paths.write_solution(path) for path in of_one] for of_one in paths]
        self.test = list(tiny_paths.problems(args.split, seed, args.test))

    def result(self) -> dict[str, Any]:
        facts = {arm: self._once(arm, partial(self._arm, arm)) for arm in self.args.arms}
        if self.args.k:
            facts["sampled"] = self._once(f"sampled-{self.args.k}", self._sampled)
        return {"seed": self.seed, "num_paths": sum(map(len, self.genuine)) / len(self.train), **facts}

    def _once(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = self.folder / f"{name}.json"
        if not path.exists():
            found = json.dumps(work())
            path.write_text(found + "\n", encoding="utf-8")
            print(path, found, flush=True)
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return facts

    def _arm(self, arm: str) -> dict[str, Any]:
        """Train the arm, and measure its greedy accuracy."""
        args, rows = self.args, rows_of(arm, self.train, self.genuine)
        steps = args.sft_steps if arm == "sft" else args.steps
        trained = qrft.train(
            str(args.base), rows, self.folder / arm, threads=1, seed=self.seed, quantization="nf4", lora_r=32,
            lora_alpha=64, learning_rate=args.rate, micro_batch_size=args.batch,
            num_epochs=steps / math.ceil(len(rows) / args.batch),
        )  # fmt: skip
        texts = self._answers(arm, self.test, 1, 0.0)
        right = sum(is_right(text, problem) for (text,), problem in zip(texts, self.test, strict=True))
        facts = {name: trained[name] for name in ("num_steps", "final_loss", "seconds")}
        return {"accuracy": right / len(self.test), "num_rows": len(rows), **facts}

    def _answers(self, arm: str, problems: Sequence[Problem], k: int, temperature: float) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in problems]
        for completion in qrft.sample(
            str(self.args.base), [problem["question"] for problem in problems], k, adapter=self.folder / arm,
            quant="f32", parity="off", threads=1, temperature=temperature, max_new_tokens=MAX_NEW_TOKENS,
            seed=self.seed,
        ):  # fmt: skip
            found[int(completion.problem_id)].append(completion.text)
        return found

    def _sampled(self) -> dict[str, float]:
        """Say where SFT stands when it would be sampled: the share of right samples, and how many new right paths
        of a problem are genuine, how many are broken, and how many of each are called sound.
        """
        counts: Counter[str] = Counter()
        for problem, texts, paths in zip(
            self.train, self._answers("sft", self.train, self.args.k, 1.0), self.genuine, strict=True
        ):
            right = [text for text in texts if is_right(text, problem)]
            new = {tiny_paths.canonical(text): text for text in right}
            new.pop(tiny_paths.canonical(problem["solution"]), None)
            known = {tiny_paths.canonical(path) for path in paths}
            counts["right"] += len(right)
            for key, is_sound in zip(new, are_sound(problem, list(new.values())), strict=True):
                kind = "genuine" if key in known else "broken"
                counts[kind] += 1
                counts[f"{kind}_sound"] += is_sound
        names = ("genuine", "genuine_sound", "broken", "broken_sound")
        number = len(self.train)
        return {"pass_at_1": counts["right"] / number / self.args.k, **{name: counts[name] / number for name in names}}


def are_sound(problem: Problem, texts: list[str]) -> list[bool]:
    if not texts:
        return []
    graded = grading.grade(texts, [problem["answer"]] * len(texts), questions=[problem["question"]] * len(texts))
    return [status == "sound" for status in graded["soundness"].to_pylist()]


def is_right(text: str, problem: Problem) -> bool:
    return text.rpartition("#### ")[2].strip() == problem["answer"]


def gains(draws: Sequence[dict[str, Any]], arm: str) -> dict[str, float]:
    """Return the gain of the arm over the control in points, its mean over draws with Student's 95% interval."""
    values = [100 * (draw[arm]["accuracy"] - draw["control"]["accuracy"]) for draw in draws]
    low, high = mean_interval(values) if len(values) > 1 else (math.nan, math.nan)
    return {"mean": mean(values), "low": low, "high": high}


def markdown(result: dict[str, Any]) -> str:
    settings, draws, arms = result["settings"], result["draws"], result["settings"]["arms"]
    lines = [
        "# Several right paths of a problem against one, in tiny-paths",
        "",
        f"Made by `python bench/tiny_gate.py`. Greedy accuracy on {settings['test']} {settings['split']} problems "
        f"of each draw; {settings['problems']} training problems, {settings['steps']} steps of {settings['batch']} "
        f"examples, SFT {settings['sft_steps']}. `duplicates` has as many rows as `oracle`, all of them gold.",
        "",
        "| draw | " + " | ".join(ARMS[arm] for arm in arms) + " | paths a problem |",
        "|---" * (len(arms) + 2) + "|",
        *(table_row(draw, arms) for draw in draws),
        "",
        "| against SFT at equal steps | points | 95% interval over draws |",
        "|---|---|---|",
        *(f"| {ARMS[arm]} | {gain['mean']:+.1f} | {interval(gain)} |" for arm, gain in result["gains"].items()),
        "",
        *(sampled_in_words(draws, settings["k"]) if settings["k"] else ()),
    ]
    return "\n".join([*lines, machine.in_words(), ""])


def table_row(draw: dict[str, Any], arms: Sequence[str]) -> str:
    cells = [str(draw["seed"]), *(f"{draw[arm]['accuracy']:.1%}" for arm in arms), f"{draw['num_paths']:.1f}"]
    return f"| {' | '.join(cells)} |"


def interval(gain: dict[str, float]) -> str:
    return f"{gain['low']:+.1f} to {gain['high']:+.1f}"


def sampled_in_words(draws: Sequence[dict[str, Any]], k: int) -> list[str]:
    at = {name: mean(draw["sampled"][name] for draw in draws) for name in draws[0]["sampled"]}
    return [
        f"The SFT model, sampled {k} times on its training problems at temperature 1: {at['pass_at_1']:.1%} of the "
        f"samples are right. A problem has {at['genuine']:.2f} genuine new paths, of which {at['genuine_sound']:.2f} "
        f"are called sound, and {at['broken']:.2f} broken ones, of which {at['broken_sound']:.2f} are.",
        "",
    ]


def refuse_other_settings(runs: Path, settings: dict[str, Any]) -> None:
    """Stop where the folder holds arms that were trained or measured otherwise."""
    deciding = json.dumps({name: value for name, value in settings.items() if name not in ("draws", "arms", "k")})
    path = runs / "settings.json"
    if path.exists() and path.read_text(encoding="utf-8") != deciding:
        raise SystemExit(f"{path} says {path.read_text(encoding='utf-8')}, not {deciding}. Name another --runs.")
    runs.mkdir(parents=True, exist_ok=True)
    path.write_text(deciding, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/gate"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--problems", type=int, default=100)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--sft-steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("-k", type=int, default=100)
    args = parser.parse_args()
    settings = {name: value for name, value in vars(args).items() if not isinstance(value, Path)}
    refuse_other_settings(args.runs, {**settings, "base": str(args.base)})
    draws = [Draw(args, seed).result() for seed in range(args.draws)]
    result = {
        "settings": settings,
        "draws": draws,
        "gains": {arm: gains(draws, arm) for arm in args.arms if arm != "control"},
        "machine": machine.describe(),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "tiny-gate.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (args.out / "tiny-gate.md").write_text(markdown(result), encoding="utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
