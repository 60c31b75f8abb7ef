"""The transformers sampler, in this process."""
