"""What a person sees when a command has done its work: tables and lines of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from qrft.cli.tables import plain_table, size
from qrft.report.words import BEFORE, MODELS, evidence, interval, p_value, plural

# ---------------------------------------------------------------------------------------------------------- qrft run


def show_run(console: Console, summary: Mapping[str, Any], run_dir: Path) -> None:
    """Show the accuracies of a run, what they mean, and where the report is."""
    table = plain_table(show_header=False)
    table.add_column(style="bold")
    table.add_row("", "accuracy", "95% interval", style="dim")
    for model, name in MODELS.items():
        if row := summary.get(model):
            table.add_row(name, f"{row['accuracy']:.1%}", f"{row['low']:.1%} to {row['high']:.1%}")
    if "rft" in summary:
        before, has_gold = BEFORE[summary["gain_over"]], summary["num_gold"]
        table.add_row("gain", f"{100 * summary['gain']:+.1f}", f"points, RFT over {before}; {evidence(summary)}")
        if "control" in summary:
            over = interval(summary["gain_over_control_low"], summary["gain_over_control_high"])
            table.add_row(
                "", f"{100 * summary['gain_over_control']:+.1f}", f"points, RFT over SFT for as many steps; {over}"
            )
        paths = f"{summary['paths_per_problem']:.2f}"
        table.add_row("paths", paths, f"new ones kept per problem{', besides the gold one' if has_gold else ''}")
    console.print()
    console.print(table)
    console.print()
    for line in summary["explained"]:
        console.print(f"- {line}")
    console.print(f"\nSeconds: {spent(summary['seconds'])}")
    console.print(f"Report:  {run_dir / 'report.html'}", soft_wrap=True)


def spent(seconds: Mapping[str, float]) -> str:
    """Return the time of the whole, and of the steps that took a second or more."""
    long = ", ".join(f"{name} {value:.0f}" for name, value in seconds.items() if value >= 1)
    return f"{sum(seconds.values()):.0f} in total; {long}"


def show_rows(console: Console, rows: Sequence[Mapping[str, Any]], run_dir: Path) -> None:
    """Show the accuracies of a sweep, or of a run of several models."""
    models = {model: name for model, name in MODELS.items() if any(f"{model}.accuracy" in row for row in rows)}
    table = plain_table("run", "model", *models.values(), "paths")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows:
        accuracies = [row.get(f"{model}.accuracy") for model in models]
        shares = ["" if value is None else f"{value:.1%}" for value in accuracies]
        paths = f"{row['distinct_paths']:.2f}" if "distinct_paths" in row else ""
        table.add_row(row["variant"], row["model"], *shares, paths)
    console.print()
    console.print(table)
    console.print(f"\nTable:  {run_dir / 'sweep.csv'}", soft_wrap=True)
    console.print(f"Report: {run_dir / 'report.html'}", soft_wrap=True)


# -------------------------------------------------------------------------------------- qrft sample, train, pretrain


def show_merge(console: Console, facts: Mapping[str, Any], folder: Path) -> None:
    console.print(
        f"{facts['num_samples']:,} samples in {plural(facts['num_shards'], 'shard')}, from "
        f"{plural(facts['num_folders'], 'folder')}: {folder}",
        soft_wrap=True,
    )


def show_samples(console: Console, facts: Mapping[str, Any], folder: Path) -> None:
    """Show what `qrft sample` made in one line, and with a goal a line for each pass."""
    for row in facts.get("rounds", []):
        console.print(
            f"up to {row['samples_per_problem']} per problem: {row['num_problems']:,} problems, "
            f"{row['num_samples']:,} samples, {row['num_tokens']:,} tokens; after that {row['num_satisfied']:,} of "
            f"{facts['num_problems']:,} problems had enough",
            soft_wrap=True,
        )
    if sources := facts.get("told_apart_by"):
        counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in sources.items())
        console.print(f"right samples are told apart by: {counts}", soft_wrap=True)
    reasons = facts["finish_reasons"]
    console.print(
        f"{facts['num_samples']:,} samples, {facts['num_tokens']:,} tokens in {folder}; "
        f"{reasons['stop']:.1%} ended by end of text, {reasons['stop_text']:.1%} by a stop text, "
        f"{reasons['length']:.1%} by the length limit; {_new_samples(facts)}.",
        soft_wrap=True,
    )
    if (speedup := facts.get("merged_speedup")) is not None:
        faster = "merged into the base" if speedup > 1.02 else "applied at run time, as it was"
        console.print(f"The adapter is faster {faster}: merged it runs at {speedup:.2f} times the speed.")


def _new_samples(facts: Mapping[str, Any]) -> str:
    if not facts["num_new"]:
        return "all of them already existed: nothing to do"
    words = f"{facts['num_new']:,} new ones at {facts['tokens_per_second']:,.0f} tokens/s"
    if "decode_share" not in facts:
        return words
    return f"{words}, {facts['decode_share']:.0%} of the time in decode, {facts['pick_share']:.0%} in picking"


def show_training(console: Console, facts: Mapping[str, Any], folder: Path) -> None:
    """Show what `qrft train` made, in one line."""
    old = "" if facts["is_new"] else " It already existed: nothing to do."
    fates = [("num_dropped", "more left out"), ("num_cut", "cut")]
    less = "".join(f", {facts[key]:,} {fate}" for key, fate in fates if facts[key])
    examples = plural(facts["num_examples"], "example") + less
    work = f"{facts['num_steps']:,} steps, {facts['num_tokens']:,} tokens in {facts['seconds']:,.0f} s"
    console.print(
        f"{folder}: {examples}; {work}, {facts['tokens_per_second']:,.0f} tokens/s, {facts['padding_share']:.1%} "
        f"padding, at most {facts['peak_memory_bytes'] / 2**30:.1f} GiB; loss {facts['final_loss']:.3f}.{old}",
        soft_wrap=True,
    )


def show_base(console: Console, card: Mapping[str, Any], folder: Path) -> None:
    """Show what `qrft pretrain` made, in one line."""
    held_out = card["held_out"]
    console.print(
        f"{folder}: loss {card['final_loss']:.4f}, {held_out['nats_per_token']:.4f} nats per token held out "
        f"({held_out['bits_per_byte']:.4f} bits per byte), {card['num_tokens']:,} tokens, digest {card['digest']}"
    )


def show_family(console: Console, cards: Mapping[str, Mapping[str, Any]]) -> None:
    """Show the bases of a family, the best predictor first."""
    table = plain_table("base")
    for title in ("parameters", "tokens", "nats per token", "bits per byte"):
        table.add_column(title, justify="right")
    for name, card in sorted(cards.items(), key=lambda item: float(item[1]["held_out"]["nats_per_token"])):
        losses = (f"{card['held_out'][key]:.4f}" for key in ("nats_per_token", "bits_per_byte"))
        table.add_row(name, f"{card['num_parameters']:,}", f"{card['num_tokens']:,}", *losses)
    console.print(table)


# ------------------------------------------------------------------------- qrft grade, curate, evaluate, loss, import


def show_facts(console: Console, facts: Mapping[str, Any]) -> None:
    """Show what `grade`, `curate` and `evaluate` found: counts, means, statuses, and shares with their intervals."""
    table = plain_table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in facts.items():
        words = name.removeprefix("num_").replace("_", " ")
        if not isinstance(value, Mapping):
            table.add_row(words, f"{value:,}" if isinstance(value, int) else f"{value:.3f}")
        elif "low" in value:
            interval = f"95% interval {value['low']:.1%} to {value['high']:.1%}"
            table.add_row(name, f"{value['value']:.1%}", interval if value["low"] < value["high"] else "no interval")
        else:
            table.add_row(words, "", ", ".join(f"{status} {count:,}" for status, count in value.items()))
    console.print(table)
    if set(facts.get("answer_statuses", ())) == {"no_marker"}:
        console.print("No sample has an answer in this form. Try --answer-format auto.")


def show_loss(console: Console, facts: Mapping[str, Any]) -> None:
    """Show what `qrft loss` measured, each figure with its standard error."""
    for name in ("nats_per_token", "bits_per_byte"):
        error = facts[f"{name}_error"]
        between = f", standard error {error:.4f}" if error is not None else ""
        console.print(f"{facts[name]:.4f} {name.replace('_', ' ')}{between}")
    console.print(
        f"{facts['num_texts']:,} texts, {facts['num_tokens']:,} tokens, {facts['num_bytes']:,} bytes; "
        f"windows of {facts['context']} tokens, {facts['stride']} apart; {facts['seconds']:.1f} s",
        soft_wrap=True,
    )


def show_import(console: Console, facts: Mapping[str, Any], folder: Path) -> None:
    """Show what `qrft import` found."""
    what = {"training": "training rows", "samples": "samples"}[facts["kind"]]
    sources = ", ".join(f"{name} {count:,}" for name, count in facts["rows_by_source"].items())
    covered = f"{facts['num_problems_with_rows']:,} of {facts['num_problems']:,} problems"
    console.print(f"{folder}: {facts['num_rows']:,} {what} of {covered}; {sources}", soft_wrap=True)
    if facts.get("num_repeated"):
        console.print(f"Left out: {facts['num_repeated']:,} rows that a file repeats.")
    if facts.get("num_gold_twice"):
        console.print(f"Left out: {facts['num_gold_twice']:,} gold solutions that an earlier file already had.")


# ------------------------------------------------------------------------------------------ qrft evaluate, of two runs

COMPARED = {"model": "model", "problems": "test set", "few_shot": "examples", "measure": "measure"}
WHERE_EQUAL = ("problems", "few_shot", "num_problems")  # shown as columns only where rows differ in them


def show_comparison(console: Console, facts: Mapping[str, Any]) -> None:
    """Show two runs side by side, and which problems only one of them solves."""
    console.print(f"A: {facts['first']}\nB: {facts['second']}", soft_wrap=True)
    shown = {**COMPARED, "num_problems": "problems"}
    for name in WHERE_EQUAL:
        if len(same := {row[name] for row in facts["comparisons"]}) == 1:
            console.print(f"{shown.pop(name)}: {same.pop()}", soft_wrap=True)
    if sizes := {row["num_clusters"] for row in facts["comparisons"]} - {None}:
        console.print(f"intervals over {' or '.join(map(str, sorted(sizes)))} clusters of alike problems")
    console.print()
    table = plain_table(*shown.values(), "A", "B", "B - A", "95%", "")
    for row in facts["comparisons"]:
        table.add_row(*(str(row[name]) for name in shown), *_difference(row))
    console.print(table)
    console.print()
    for row in facts["comparisons"]:
        _show_only_one(console, row)


def _difference(row: Mapping[str, Any]) -> list[str]:
    interval = f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
    return [
        *(f"{row[run]['value']:.1%}" for run in ("first", "second")),
        f"{100 * row['difference']:+.1f}",
        interval,
        "" if row["p_value"] is None else p_value(row["p_value"]),
    ]


def _show_only_one(console: Console, row: Mapping[str, Any]) -> None:
    examples = f", {row['few_shot']} examples" if row["few_shot"] else ""
    measured = f"{row['model']} on {row['problems']}{examples}, {row['measure']}"
    if row["num_unpaired"]:
        count = plural(row["num_unpaired"], "problem")
        console.print(f"{measured}: {count} not counted, because only one of the runs has them.")
    for run, solved in (("A", row["only_first"]), ("B", row["only_second"])):
        if solved:
            console.print(f"{measured}: only {run} solves {len(solved):,}: {_some(solved)}", soft_wrap=True)


def _some(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


# ------------------------------------------------------------------------------------------------------- qrft verify


def show_verified(console: Console, facts: Mapping[str, Any]) -> None:
    """Show what is damaged, a line each, and how much is not."""
    for name, damage in facts["damaged"].items():
        console.print(f"{name}: {damage}", soft_wrap=True, markup=False)
    num_whole = facts["num_artifacts"] - len(facts["damaged"])
    console.print(f"{plural(num_whole, 'artifact')} undamaged, {size(facts['num_bytes'])}")


# ------------------------------------------------------------------------------------------------------- qrft export


def show_export(console: Console, facts: Mapping[str, Any]) -> None:
    """Show what was written, how its answers compare, and what to do with it."""
    for name, num_bytes in facts["files"].items():
        if num_bytes >= 2**20:
            console.print(f"{facts['output']}/{name}  {size(num_bytes)}", soft_wrap=True)
    proof = facts["proof"]
    same, asked = proof["num_same"], proof["num_problems"]
    ties = f" ({proof['num_ties']} more up to a tie)" if proof["num_ties"] else ""
    console.print(f"\nAnswers:   {same} of {asked} the same as the trained model's{ties}")
    if same < asked or facts["quant"] in ("q8_0", "q4_k_m"):
        console.print(f"Tokens:    {proof['top1_agreement']:.1%} of {proof['num_positions']:,} are its likeliest too")
    if proof["num_texts"]:
        alike = f"{proof['num_same_texts']:,} of {proof['num_texts']:,}"
        console.print(f"Token ids: {alike} lines as trained, by the file's own tokenizer")
    if proof["difference"]:
        console.print(f"Other token ids than trained: {proof['difference'][:200]!r}", markup=False, soft_wrap=True)
    console.print("\nGo on with:")
    for command in (*facts["next"], facts["lm_eval"]):
        console.print(f"  {command}", markup=False, soft_wrap=True)
    if push := facts.get("push"):
        _show_push(console, push)


def _show_push(console: Console, push: Mapping[str, Any]) -> None:
    total = size(sum(push["files"].values()))
    if push["is_dry"]:
        names = ", ".join(push["files"])
        console.print(f"\nWould upload {total} to {push['repository']}: {names}", markup=False, soft_wrap=True)
    else:
        console.print(f"\nUploaded {total}: {push['url']}", markup=False, soft_wrap=True)
