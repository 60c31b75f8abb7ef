"""Write conversations with a model's chat template, in a process that an untrusted template can't harm much.

It reads requests from standard input and answers them on standard output, a line of JSON each, until its parent is
gone. A template is a program in Jinja's language: here it runs in Jinja's sandbox, without a clock, with bounded memory
and output; the parent bounds its time.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MEMORY = 2**30
MAX_CHARACTERS = 2**20  # beside four times those of the conversation
# What a template takes for today, whatever day it is: prompts must not differ by the day. It is the date to which
# Llama 3.1's own template falls back.
TODAY = datetime(2024, 7, 26)


class Generation(Extension):
    """`{% generation %}`, which marks what an assistant wrote. Only its content matters here."""

    tags = {"generation"}  # noqa: RUF012 # as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class SafeNamespace(Namespace):
    """A namespace without names that begin with an underscore, which lead into Python's own attributes."""

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"the attribute {name!r} of a namespace begins with an underscore")
        super().__setitem__(name, value)


def make_namespace(*args: Any, **kwargs: Any) -> SafeNamespace:
    namespace = SafeNamespace()
    for name, value in dict(*args, **kwargs).items():
        namespace[name] = value
    return namespace


def make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def raise_exception(message: str) -> None:
    raise TemplateError(message)


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's own, which says so where a template reaches out: Jinja's makes the attribute empty."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"{attribute!r} of a {type(obj).__name__}")


@lru_cache(maxsize=1)
def sandbox() -> Sandbox:
    """Make an environment with what transformers offers to a template: tests hold the two to the same texts."""
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals.update(
        raise_exception=raise_exception, strftime_now=TODAY.strftime, dict=make_dict, namespace=make_namespace
    )
    return environment


@lru_cache(maxsize=8)
def compiled(template: str) -> Template:
    return sandbox().from_string(template)


def arguments(template: str) -> list[str]:
    """Return the names that a template reads and that are not there for every template."""
    read = find_undeclared_variables(sandbox().parse(template))
    return sorted(read - sandbox().globals.keys() - {"messages", "add_generation_prompt"})


def render(request: dict[str, Any]) -> str:
    """Return the conversation's text. Raises ValueError when it is far longer than the conversation."""
    limit = MAX_CHARACTERS + 4 * sum(len(turn["content"]) for turn in request["messages"])
    pieces, length = [], 0
    for piece in compiled(request["template"]).generate(**request["variables"], messages=request["messages"]):
        length += len(piece)
        if length > limit:
            raise ValueError(f"it writes more than {limit:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def answer(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
        return {"result": render(request) if "messages" in request else arguments(request["template"])}
    except SecurityError as error:
        return {"error": f"it reaches out of its sandbox: {error}"}
    except TemplateError as error:
        return {"error": f"{error}"[:1000]}
    except MemoryError:
        return {"error": f"it takes more than {MEMORY >> 20:,} MiB of memory"}
    except Exception as error:  # a program, which can raise anything
        return {"error": f"{type(error).__name__}: {error}"[:1000]}


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(flush=True)  # ready: from here on the parent counts the seconds
    for line in sys.stdin:
        print(json.dumps(answer(line)), flush=True)


if __name__ == "__main__":
    main()
