"""The samplers: llama.cpp, transformers and OpenAI-compatible servers."""
