"""The result in plain sentences, even if there is little to show, as is normal for a weak model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from qrft.report.words import BEFORE, MODELS, SOUNDNESS, evidence, interval, percent, plural, points, signed

SIGNIFICANT = 0.05
SHOWN_SOURCES = 6
ONE_TRAINING = "The interval is about other test problems; another seed would give other trainings."
MANY_CUT_OFF = 0.1  # of the samples; fewer are not worth a sentence


def sentences(facts: Mapping[str, Any]) -> list[str]:
    """Return the sentences for the terminal and the report; `facts` are those of `summary`."""
    by_sft = [sft_gain(facts)] if "sft" in facts else []
    if "rft" not in facts:
        return [*by_sft, *unproven(facts), *published(facts)]
    return [
        gain(facts),
        *over_control(facts),
        *gain_by(facts),
        *by_sft,
        *paths(facts),
        *hints(facts),
        *unproven(facts),
        *published(facts),
    ]


def gain(facts: Mapping[str, Any]) -> str:
    """Say whether RFT's model beats the one before it by more than other test problems would change, and what that does
    not cover: these are two trainings of many."""
    difference, before = facts["gain"], BEFORE[facts["gain_over"]]
    test = f"{evidence(facts)}, on {plural(facts['num_test'], 'problem')}"
    if not any(facts[model]["accuracy"] for model in MODELS if model in facts):
        return (
            f"No model solved any of {plural(facts['num_test'], 'test problem')}: the run can't show a gain or a loss."
        )
    if difference == 0:
        return f"RFT and {before} are equally accurate ({test})."
    if is_significant(facts):
        verb = "gains" if difference > 0 else "loses"
        return f"RFT {verb} {points(difference)} {relation(difference)} {before} ({test}). {ONE_TRAINING}"
    side = "above" if difference > 0 else "below"
    return (
        f"RFT is {points(difference)} {side} {before}, no more than other test problems may change ({test}). "
        f"{ONE_TRAINING}"
    )


def over_control(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say what is left of the gain over SFT for as many steps: what RFT's rows bring, and not its longer training."""
    if "control" in facts:
        ends = facts["gain_over_control_low"], facts["gain_over_control_high"]
        verdict = "a loss" if ends[1] < 0 else "a gain" if ends[0] > 0 else "neither a gain nor a loss that is proven"
        yield (
            f"Over SFT for as many steps ({percent(facts['control']['accuracy'])}) it is "
            f"{signed(facts['gain_over_control'])} ({interval(*ends)}): {verdict}."
        )


def gain_by(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say how much of the gain is more right answers, and how much that more of them come in the asked form."""
    right, form = (facts["gain_by"][name]["difference"] for name in ("right", "form"))
    if round(form, 3):
        yield (
            f"The difference is {signed(right)} from more right answers, whatever their form, and {signed(form)} from "
            "more of them in the form that was asked for."
        )


def unproven(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say when files were made without the comparison with transformers."""
    if count := facts.get("num_not_compared"):
        yield (
            f"{plural(count, 'GGUF file')} {'was' if count == 1 else 'were'} made without comparing llama.cpp with "
            "transformers (gguf.parity off)."
        )


PUBLISHED = {
    **{"icl": "base with examples {:.1f}%", "sft": "SFT {:.1f}%", "rft": "RFT {:.1f}%"},
    **{f"{stage}_maj100": f"maj@100 of {name} {{:.1f}}%" for stage, name in
       (("icl", "the base with examples"), ("sft", "SFT"), ("rft", "RFT"))},
    "distinct_paths": "{:.2f} distinct paths per problem, the gold one counted",
}  # fmt: skip


def published(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the published figures that the recipe gives; next to its distinct paths are those of this run."""
    paper = facts.get("paper", {})
    found = [text.format(paper[key]) for key, text in PUBLISHED.items() if key in paper]
    if "distinct_paths" in paper and "distinct_paths" in facts:
        found[-1] += f" (here {facts['distinct_paths']:.2f})"
    if found:
        yield f"Published{f' ({source})' if (source := paper.get('source')) else ''}: {'; '.join(found)}."


def is_significant(facts: Mapping[str, Any]) -> bool:
    if facts["p_value"] is None:
        return bool(facts["gain_low"] > 0 or facts["gain_high"] < 0)
    return bool(facts["p_value"] < SIGNIFICANT)


def relation(difference: float) -> str:
    return "over" if difference > 0 else "against"


def sft_gain(facts: Mapping[str, Any]) -> str:
    before, after = facts["base"]["accuracy"], facts["sft"]["accuracy"]
    num_gold, few_shot = plural(facts["num_gold"], "gold solution"), facts["base"]["few_shot"]
    if few_shot:
        shown = f"the base model with {plural(few_shot, 'example')}"
        return f"SFT on {num_gold} reached {percent(after)}, {shown} {percent(before)}."
    if before == after:
        return f"SFT on {num_gold} left the base model at {percent(before)}."
    verb = "raised" if after > before else "lowered"
    return f"SFT on {num_gold} {verb} the base model's accuracy from {percent(before)} to {percent(after)}."


def paths(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what rejection sampling added to the gold solutions."""
    num_train, k = facts["num_train"], facts["samples_per_problem"]
    as_sft = ", as SFT did, and no gain is expected" if "sft" in facts else ""
    alone = f"so RFT trained on the gold solutions alone{as_sft}"
    solved = f"{facts['num_solved']:,} of {plural(num_train, 'problem')}"
    in_samples = f"at least once in {'up to ' if facts.get('rounds') else ''}{plural(k, 'sample')}"
    if facts["num_correct"] == 0:
        yield f"None of {plural(facts['num_samples'], 'sample')} has the right answer, {alone}."
    elif facts["num_kept"] == 0:
        yield f"The right answer came {in_samples} for {solved}, but no correct sample contains a new path, {alone}."
    else:
        gold = plural(facts["num_gold"], "gold solution")
        added = plural(facts["num_kept"], "distinct correct path" if facts["dedup"] else "correct sample")
        learnt = f"added {added} to {gold}" if facts["num_gold"] else f"trained on {added}"
        yield (
            f"RFT {learnt}: {facts['paths_per_problem']:.1f} per problem; "
            f"{solved} {'was' if num_train == 1 else 'were'} solved {in_samples}."
        )
    if facts["num_kept"] and (sources := facts.get("sources")):
        shares = [f"{percent(source['kept_share'])} from {name}" for name, source in sources.items()]
        yield f"Of the kept paths, {', '.join(shares[:SHOWN_SOURCES])}{' and others' * (len(shares) > SHOWN_SOURCES)}."


def hints(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what limits the result, if anything does."""
    by_running_text, by_text = facts["num_told_by_running_text"], facts["num_told_by_text"]
    if (by_running_text or by_text) and facts["dedup"]:
        yield (
            f"{plural(by_running_text + by_text, 'right sample')} without marked equations: {by_running_text:,} told "
            f"apart by the equations in the running text, {by_text:,} by the words."
        )
    elif facts["num_correct"] and not facts["num_correct_with_equations"]:
        yield (
            "No correct sample writes its steps as equations, so paths can't be told apart"
            + (": at most one per problem was kept." if facts["dedup"] else ".")
        )
    if facts["num_unusable_gold"]:
        yield (
            f"The gold answer of {plural(facts['num_unusable_gold'], 'training problem')} can't be compared, "
            "so no sample there can count as correct."
        )
    yield from without_answers(facts)
    yield from cut_off(facts)
    yield from unsound(facts)


def without_answers(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say which problems took the answer that their samples voted for, and which have none."""
    if voted := facts.get("num_voted"):
        has = "problem has its answer" if voted == 1 else "problems have their answers"
        yield (
            f"{voted:,} training {has} from a vote, won by at least {percent(facts['vote'])} of the samples; "
            f"{facts['num_kept_by_vote']:,} of the kept paths are right by that alone. A majority can be wrong."
        )
    if nothing := facts.get("num_without_answer"):
        kept = facts["num_kept_by_verdict"]
        fate = f"{kept:,} kept paths are right by their verdicts" if kept else "nothing of theirs was kept"
        yield f"{plural(nothing, 'training problem')} without an answer: {fate}."


def unsound(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say how many right paths are not sound, where that was asked for, and the most frequent reason."""
    if reasons := facts.get("unsound"):
        first = next(iter(reasons))
        fate = "were not kept" if facts["num_unsound_dropped"] else "count as the others"
        yield (
            f"{percent(facts['unsound_share'])} of the right samples have unsound reasoning and {fate}; most often "
            f"{SOUNDNESS[first]} ({reasons[first]:,} of {sum(reasons.values()):,})."
        )


def cut_off(facts: Mapping[str, Any]) -> Iterator[str]:
    """Say when many samples were cut off, or right ones were left out for it."""
    left_out, share = facts["num_right_cut_off"], percent(facts["num_cut_off"] / max(1, facts["num_samples"]))
    right_ones = f"{plural(left_out, 'sample')} with the right answer {'was' if left_out == 1 else 'were'}"
    if left_out > MANY_CUT_OFF * facts["num_correct"]:
        yield (
            f"{right_ones} left out, cut off at the token limit as {share} of all samples were: a larger "
            "sample.max_new_tokens or a sample.stop may help, and curate.cut_off: keep trains on such."
        )
    elif facts["num_cut_off"] > MANY_CUT_OFF * facts["num_samples"]:
        yield f"{share} of the samples were cut off at the token limit: a larger sample.max_new_tokens may help."
