"""An event loop in a thread of its own, for callers that may have one already, as notebooks do."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]]) -> Iterator[T]:
    """Run `work` there; yield what it puts, raise what it raises, and when dropped cancel it."""
    results: queue.SimpleQueue[tuple[T] | Exception | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(work(lambda result: results.put((result,))))

    def run() -> None:
        try:
            loop.run_until_complete(task)
            results.put(None)
        except asyncio.CancelledError:
            pass
        except Exception as error:
            results.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, Exception):
                raise result
            yield result[0]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()
