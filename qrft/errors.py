"""Every error that qrft raises on purpose.

QrftError                 something went wrong while the command worked; exit code 1
├── UsageError            the command or the recipe asks for something impossible; exit code 2
│   └── RecipeError       one or more mistakes in a recipe, each with its line
├── DataError             a file of problems or samples does not hold what it should
├── ModelError            a model's folder, an adapter or a GGUF file can't be used
├── StoreError            the store or a run folder can't be read or written
│   └── DamagedError      an artifact is not as its manifest says; `qrft run` makes it again
└── SamplerError          the sampling process or the server failed
    └── OutOfMemoryError  llama.cpp found no memory for a context; it is made smaller while one sample fits

A message names the file, line or key, says what was found and what was expected, and ends with what to do next.
"""

from __future__ import annotations


class QrftError(Exception):
    exit_code = 1


class UsageError(QrftError):
    exit_code = 2


class RecipeError(UsageError):
    pass


class DataError(QrftError):
    pass


class ModelError(QrftError):
    pass


class StoreError(QrftError):
    pass


class DamagedError(StoreError):
    pass


class SamplerError(QrftError):
    pass


class OutOfMemoryError(SamplerError):
    pass
