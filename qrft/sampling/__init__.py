"""Many samples of many prompts: token ids in, token ids out.

messages    the types that go in and come out
streams     random numbers that depend on (seed, problem, sample, position) and nothing else
picking     tokens from a block of logits
llama_cpp   llama.cpp's low-level interface: a model, a context, a batch
memory      what memory there is, and what fits in it
sizing      how large a context is
stop_texts  where a sample's text holds a stop text
generate    the loop that keeps a context full
worker      the process in which the last two run
process     LlamaProcess: generate and logits
tuning      which settings of it are the fastest on this machine, measured once and kept
pool        open_sampler: one such process, or for a tiny model one a core
torch_sampler  TransformersSampler: any model that transformers loads
server      ServerSampler: an OpenAI-compatible server
checks      settings that all of them refuse; where a stop text begins
open        any of the three by name
"""
