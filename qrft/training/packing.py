"""Pack examples of many lengths into rows without padding, which say where each example begins."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from qrft.models.prompts import Example

Pack = dict[str, Any]  # see `collate`


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return which examples share a row, by best-fit decreasing: the indices of `lengths`, each once.

    The lengths of a row sum up to at most `capacity`; a longer example is a row of its own. The longest example left
    goes into the fullest row that still holds it (Johnson 1973: at most 11/9 of the fewest rows possible, plus 4).
    O(n (log n + log capacity)); equal lengths keep their order, so the result depends on the arguments alone.
    """
    rows: list[list[int]] = []
    rows_by_room: dict[int, list[list[int]]] = {}
    rooms: list[int] = []  # the keys of rows_by_room, sorted
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        best = bisect_left(rooms, length)
        if best < len(rooms):
            room = rooms[best]
            row = rows_by_room[room].pop()
            if not rows_by_room[room]:
                del rows_by_room[room], rooms[best]
        else:
            room = capacity
            row = []
            rows.append(row)
        row.append(index)
        left = room - length
        if left > 0:
            if left not in rows_by_room:
                insort(rooms, left)
            rows_by_room.setdefault(left, []).append(row)
    return rows


def collate(examples: Sequence[Example]) -> Pack:
    """Make one row [1, T] of T tokens without padding, with all that a model needs to keep its examples apart.

    - `input_ids`, `position_ids` [1, T]: positions begin at 0 in each example. From them transformers makes the masks
      of its eager, sdpa and flex attention.
    - `cu_seq_lens_q`, `cu_seq_lens_k` [n + 1] int32, `max_length_q`, `max_length_k`: where the n examples begin and
      end, for FlashAttention.
    - `example_lengths`: the same as Python's numbers, so that a GPU need not be asked for them in every layer.
    - `logits_to_keep` [targets]: the positions in the row that predict a token of a completion.
    - `targets` [targets]: these tokens. A model has no prediction for the first token of a text.
    """
    import torch

    lengths = [len(token_ids) for token_ids, _ in examples]
    starts = list(accumulate(lengths, initial=0))
    predicting: list[int] = []
    targets: list[int] = []
    for start, (token_ids, prompt_length) in zip(starts, examples, strict=False):
        first = max(prompt_length, 1)
        predicting.extend(range(start + first - 1, start + len(token_ids) - 1))
        targets.extend(token_ids[first:])
    bounds = torch.tensor(starts, dtype=torch.int32)
    return {
        "input_ids": torch.tensor([[token for token_ids, _ in examples for token in token_ids]]),
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "example_lengths": lengths,
        "logits_to_keep": torch.tensor(predicting, dtype=torch.long),
        "targets": torch.tensor(targets, dtype=torch.long),
    }
