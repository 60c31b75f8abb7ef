"""Many samples of many prompts, graded as they come if there is a goal.

api         what goes into a sampler and what comes out: requests, settings, completions
budget      Until: when a problem has enough samples
requests    prompts of problems, with worked examples
spec        SampleSpec: what to sample; begin: the one way from problems to a sampler and its shards
passes      which samples to make next
tally       what the samples of each problem have brought so far
shards      a folder of shards, or a stream
backends    the samplers
  registry     llama.cpp, transformers, openai: by name, imported when asked for
  streams      random numbers that depend on (seed, problem, sample, position) and nothing else
  picking      tokens from a block of logits
  stop_texts   where a sample's text holds a stop text
  llama_cpp    processes of their own with llama.cpp in them
  transformers any causal model that transformers loads, in this process
  openai       a server with OpenAI's interface, and how a run's models get there

Each folder of a sampler has a `backend`: its own settings, and how it is opened. In llama_cpp beside it:

engine      llama.cpp's low-level interface: a model, a context, a batch
loop        the loop that keeps a context full
sizing      how large a context is
devices     the GPUs that llama.cpp sees
memory      what memory there is, and what fits in it
worker      the process in which these run
process     LlamaProcess: its other end
shares      several of them sample at once; what is unfinished when memory runs out is sampled with less
tuning      which settings of it are the fastest on this machine, measured once and kept
pool        open_sampler: one such process, or for a tiny model one per core
"""
