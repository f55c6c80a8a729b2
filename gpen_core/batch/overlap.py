"""Overlaps the steps of many items: processes one while it reads the next and writes the previous one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Protocol, TypeVar

# The input that the current thread's log lines are about, if it differs from that of the caller's thread.
about: ContextVar[str] = ContextVar("about", default="")


class Item(Protocol):
    """One item with its steps. Steps handle their own errors; an exception that leaves a step ends the run.

    reads, writes: keys of its files; two names of the same file share at least one key.
    """

    reads: set[object]
    writes: set[object]

    def begin(self) -> bool:
        """Starts the item and returns whether there is anything to do. Runs in the caller's thread, like work(), maybe after read()."""
        ...

    def read(self) -> None:
        """The first step. Runs in a separate thread if it reads ahead."""
        ...

    def work(self) -> None:
        """The second step. Runs in the caller's thread."""
        ...

    def write(self) -> None:
        """The third step. Runs in a separate thread."""
        ...


AnyItem = TypeVar("AnyItem", bound=Item)


def overlapped(items: Iterable[AnyItem]) -> Iterator[AnyItem]:
    """Runs the steps of every item and yields each one when it is written, in the given order.

    While one item is processed, at most one is read ahead and at most one is written. An item waits if it touches a file that an
    unfinished one writes. After any end (an interrupt, an error of `items`, a closed iterator), all processed items are written and the
    threads have ended. After an exception, the written items are still yielded before it is raised again.
    """
    unfinished: deque[tuple[AnyItem, Future[None] | None]] = deque()

    def finished(keep: int) -> Iterator[AnyItem]:
        """Yields finished items from the front, and waits until at most `keep` are left."""
        while unfinished and (len(unfinished) > keep or unfinished[0][1] is None or unfinished[0][1].done()):
            item, writing = unfinished.popleft()
            if writing is not None:
                writing.result()
            yield item

    coming = iter(items)
    reading: Future[None] | None = None
    with ThreadPoolExecutor(1, "gpen-read") as reader, ThreadPoolExecutor(1, "gpen-write") as writer:
        try:
            item = next(coming, None)
            while item is not None:
                if reading is not None:
                    reading.result()
                else:  # it may read or write a file of an unfinished item
                    yield from finished(0)
                following, writing = None, None
                if item.begin():
                    if reading is None:
                        item.read()
                    following = next(coming, None)
                    busy = item.writes.union(*(other.writes for other, _ in unfinished))
                    free = following is not None and busy.isdisjoint(following.reads | following.writes)
                    reading = reader.submit(following.read) if following is not None and free else None
                    item.work()
                    writing = writer.submit(item.write)
                else:
                    reading, following = None, next(coming, None)
                unfinished.append((item, writing))
                item = following
                yield from finished(1)
            yield from finished(0)
        except GeneratorExit:
            raise
        except BaseException:
            yield from finished(0)
            raise
        finally:
            if reading is not None:
                reading.cancel()
