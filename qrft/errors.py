"""Every error that qrft raises on purpose.

QrftError                 something went wrong at run time; exit code 1
├── UsageError            the command or the recipe asks for something that can't be; exit code 2
│   └── RecipeError       one or many faults of a recipe, each with its line
├── DataError             a file of problems or samples is not what it should be
├── ModelError            a model folder, adapter or GGUF can't be used
├── StoreError            the store or a run folder can't be read or written
└── SamplerError          the sampling process failed

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


class SamplerError(QrftError):
    pass
