"""Lends this process's processor and memory: lender.py PLUGIN ADDRESS BYTES TAKEN."""

import ctypes
import sys

import llama_cpp.llama_cpp as lib  # with libggml, which the plug-in needs

plugin, address, num_bytes, taken = sys.argv[1:]
ggml = lib._lib
ggml.ggml_backend_dev_by_type.restype = ctypes.c_void_p
lend = ctypes.CDLL(plugin).lend
lend.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
lend(ggml.ggml_backend_dev_by_type(0), address.encode(), int(num_bytes), taken.encode())  # 0: the processor
sys.exit(f"{address} can't be served")
