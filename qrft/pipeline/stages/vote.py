"""Gold by vote: what the samples of a problem without an answer say most often becomes its answer."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from qrft import grading
from qrft.config.section import Count, Section
from qrft.data.samples import pooled
from qrft.data.worked import has_answer
from qrft.evaluation.poll import Poll, with_votes
from qrft.grading.rules import DEFAULT_RULES, Rules
from qrft.pipeline.stages import Inputs, Job, Report

POLL_VERSION = 1  # raise it when the same samples would elect other answers
VERSION = grading.GRADER_VERSION + POLL_VERSION


class Settings(Section):
    """`share`: of a problem's samples, which an answer needs. `sources`, `first_samples`: as in the stage `curate`."""

    share: float
    sources: tuple[str, ...]
    rules: Rules = DEFAULT_RULES
    first_samples: Count | None = None


def run(inputs: Inputs, out: Path, settings: Settings, job: Job) -> Report:
    """Write problems.parquet, with the answers that won, and votes.parquet, which follows schema.VOTES."""
    problems = pq.read_table(inputs["problems"] / "problems.parquet")
    ids, poll = problems["problem_id"].combine_chunks(), Poll(problems, settings.rules)
    for number, source in enumerate(settings.sources):
        folder = inputs[pooled.input_names(source)[0]]
        samples = pooled.read_samples(folder, settings.first_samples, ["problem_id", "completion"])
        problem = pc.index_in(samples["problem_id"], ids).to_numpy()
        poll.add(poll.read(problem, samples["completion"], job.num_threads))
        job.progress(number + 1, len(settings.sources), "")
    votes = poll.votes(settings.share)
    pq.write_table(votes, out / "votes.parquet")
    pq.write_table(with_votes(problems, votes), out / "problems.parquet")
    return {"num_without_answer": votes.num_rows, "num_voted": int(has_answer(votes).sum())}
