"""Reading, working and writing of many items, overlapped: while one is worked on, the next is read and the one before is written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Protocol, TypeVar

# What the log lines of the thread at hand are about, where that is not what the caller's own thread is at.
about: ContextVar[str] = ContextVar("about", default="")


class Item(Protocol):
    """One item on its way. Its steps keep their own errors to themselves; what one raises all the same ends the run.

    reads, writes: files, by keys of which two files that are one have some in common.
    """

    reads: set[object]
    writes: set[object]

    def begin(self) -> bool:
        """As its turn comes: whether there is anything to do. Called in the caller's thread, as work() is; read() may be over by then."""
        ...

    def read(self) -> None:
        """The first step. In a thread of its own where it is read ahead."""
        ...

    def work(self) -> None:
        """The second step. In the caller's thread."""
        ...

    def write(self) -> None:
        """The third step. In a thread of its own."""
        ...


AnyItem = TypeVar("AnyItem", bound=Item)


def overlapped(items: Iterable[AnyItem]) -> Iterator[AnyItem]:
    """Takes every item through its steps and hands each back when it is written, in the order given.

    Beside the one that is worked on, at most one is read ahead and at most one is being written. An item that touches a file which an
    unfinished one writes waits for that. However it ends (an interrupt, an error of `items`, nobody asking for more), what was worked on
    is written and the threads are gone; where somebody still asks, what was written is handed back before the exception goes on.
    """
    unfinished: deque[tuple[AnyItem, Future[None] | None]] = deque()

    def finished(keep: int) -> Iterator[AnyItem]:
        """Those that are done, from the front; waits until no more than `keep` are left."""
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
                else:  # what it reads or writes may be an unfinished one's file
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
