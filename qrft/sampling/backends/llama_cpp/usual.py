"""What the sampler does where nothing was measured or chosen; the plan reads it too, so nothing heavy is imported."""

from __future__ import annotations

# Of a base, in bytes: every process may load one so small for itself, and one of a single thread per core is faster
# than threads, which meet after each layer.
TINY = 64 * 2**20
MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ, of a context
SHARED = 4  # samples of a prompt, from which on its sequences may share a cache
TWO_CONTEXTS = 128  # sequences, from which on a GPU has two contexts in turns


def usual_live(num_parameters: int, on_gpu: bool) -> int:
    """Return how many sequences live at once in a process where nothing was measured.

    On a processor 32, and 16 for a model so small that attention over the shared cache costs more than its weights.
    Measured on a 1M Llama, k=30, one thread, a shared machine: 16 sequences 9,100 tokens/s, 32 sequences 6,300.
    """
    if on_gpu:
        return 64
    return 16 if num_parameters < 20_000_000 else 32
