"""The sampler that asks an OpenAI-compatible server."""
