"""The llama.cpp sampler, in processes of its own."""
