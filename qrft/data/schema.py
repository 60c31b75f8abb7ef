"""The tables that flow between the stages. They are kept as Parquet, and a row carries its provenance all the way."""

from __future__ import annotations

import pyarrow as pa

PROBLEMS = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.large_string()),
        ("solution", pa.large_string()),  # the worked gold solution; "" where the problem has a bare answer
        ("answer", pa.string()),  # the gold answer alone; "" where the problem has none
    ]
)

# Beside PROBLEMS and EVALUATION where it is known: the wording or template that a problem is made from, or whatever
# else makes problems alike. Those of one cluster are not independent, and intervals count them together.
CLUSTER_FIELD = pa.field("cluster", pa.string())

SAMPLES = pa.schema(
    [
        ("problem_id", pa.string()),
        ("model", pa.string()),
        ("sample_index", pa.int32()),  # 0 .. num_samples-1 within its problem and model
        ("completion", pa.large_string()),
        ("finish_reason", pa.string()),  # "stop" (end of text), "stop_text" or "length"
        ("num_tokens", pa.int32()),  # generated tokens, the end-of-text token included
        ("logprob", pa.float32()),  # sum of the natural-log probabilities at temperature 1 of the picked tokens
    ]
)

STATUS = pa.dictionary(pa.int8(), pa.string())

# Row-aligned with SAMPLES; no text is copied.
GRADED = pa.schema(
    [
        ("answer_start", pa.int64()),  # byte span of the answer inside the completion; -1, -1 when there is none
        ("answer_end", pa.int64()),
        ("status", STATUS),  # the answer's status, by name: docs/semantics.md lists them
        ("is_correct", pa.bool_()),  # the answer equals the problem's
        ("num_equations", pa.int32()),
        ("equations_status", STATUS),  # "ok", or the name of what is wrong with the first bad equation
        ("equation_key", pa.binary(16)),  # 128-bit hash of the path: the equation list, or what stands in for it
        ("path_source", STATUS),  # what the key was made from: "equations", "running_text" or "text"
    ]
)

# Beside GRADED where it is asked for: whether a right path is sound, or why not.
SOUNDNESS_FIELD = pa.field("soundness", STATUS)

# Beside GRADED and TRAINING where not every sample is judged by the answer that a file gives its problem: "answer",
# "verdict" (its file's), "vote" (by an answer that samples voted for), or "nothing".
JUDGED_BY_FIELD = pa.field("judged_by", pa.string())

TRAINING = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.large_string()),
        ("completion", pa.large_string()),
        ("source", pa.string()),  # "gold", or the name of the model that sampled it
        ("sample_index", pa.int32()),  # null for gold
    ]
)

# What samples voted for, of each problem that has no answer.
VOTES = pa.schema(
    [
        ("problem_id", pa.string()),
        ("answer", pa.string()),  # the one that won; "" where none did
        ("num_votes", pa.int32()),  # of the most frequent answer
        ("num_samples", pa.int32()),
    ]
)

EVALUATION = pa.schema(
    [
        ("problem_id", pa.string()),
        ("question", pa.large_string()),
        ("model", pa.string()),
        ("problems", pa.string()),  # the test set
        ("few_shot", pa.int32()),  # worked examples in the prompt
        ("measure", pa.string()),  # "greedy", "maj@K" or "pass@K"; of an accuracy also "greedy, flexible"
        ("value", pa.float64()),  # greedy: 1 right, 0 wrong; otherwise the share or the chance
    ]
)
