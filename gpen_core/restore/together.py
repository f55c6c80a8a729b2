"""Several pictures at once: their faces go through the network in common batches, and each picture comes out as if it were alone."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import Generic, Protocol, TypeVar, cast

from ..errors import PICTURE_ERRORS, DeviceError, GpenError
from ..network.run import MOST_PICTURES, MOST_PIXELS
from ..pictures import Picture
from ..pixels import Pixels
from ..progress import Progress, Stopped
from ..runtime import is_out_of_memory

log = logging.getLogger(__name__)
Outcome = TypeVar("Outcome")
Composed = TypeVar("Composed", covariant=True)


class Begun(Protocol[Composed]):
    """A picture whose faces can be cropped before it is composed. left: crops that nobody took yet. cropped: taken, and not pasted yet."""

    @property
    def source(self) -> Picture: ...

    @property
    def left(self) -> int: ...

    @property
    def cropped(self) -> deque[Pixels]: ...

    def crops(self) -> Generator[tuple[int, Pixels], None, None]:
        """The crops that are left, each with its face's number."""
        ...

    def put_back(self) -> None:
        """Forgets the crops, so that they can be taken again."""
        ...

    def composed(self, made_faces: Iterator[Pixels | GpenError]) -> Composed:
        """The result. made_faces: a new face for each crop, or why there is none."""
        ...


def compose_each(
    begun: Iterator[Begun[Outcome] | Exception],
    make: Callable[[Iterator[Pixels]], Iterator[Pixels | GpenError]],
    at_once: Callable[[], int],
    progress: Progress,
) -> Iterator[Outcome | Exception]:
    """Composes the pictures in their order; yields the result of each, or the error that it alone has (PICTURE_ERRORS).

    begun: the pictures; an error stands for one that could not be begun. If the iterator itself raises one of PICTURE_ERRORS, that is
    raised after the pictures before it. make: the new faces of crops. at_once: how many faces the network takes now.
    Where that is one, the next picture is taken when this one is finished. Otherwise as many are taken as the batch needs, but no more
    than 8 that are not finished, and no more than 16 megapixels of them (if all are of one size; always one).
    A batch that fails is made again picture by picture, so that an error stays with the picture that has it. After a stop, what is made is
    still pasted.
    """
    together = _Together(begun, make, at_once, progress)
    while together.has_next():
        yield together.outcome()  # in no variable: it holds pictures


class _Together(Iterator["Pixels | GpenError"], Generic[Outcome]):
    """The new faces of the first picture that is not finished; and, made with them, those of the pictures after it."""

    def __init__(
        self,
        begun: Iterator[Begun[Outcome] | Exception],
        make: Callable[[Iterator[Pixels]], Iterator[Pixels | GpenError]],
        at_once: Callable[[], int],
        progress: Progress,
    ) -> None:
        self._begun, self._make, self._at_once, self._progress = begun, make, at_once, progress
        self._held: deque[Begun[Outcome] | Exception] = deque()  # taken, and not finished yet
        self._broken: Exception | None = None  # raised by `begun`
        self._making: Iterator[Pixels | GpenError] | None = None
        self._owners: deque[Begun[Outcome]] = deque()  # whose crops `_making` has taken, and not made yet

    def has_next(self) -> bool:
        """Whether there is another picture. Raises what `begun` raised."""
        if self._held or self._take():
            return True
        if self._broken is not None:
            raise self._broken
        return False

    def outcome(self) -> Outcome | Exception:
        """The result of the next picture, or its error."""
        first = self._held[0]
        try:
            return first if isinstance(first, Exception) else first.composed(self)
        except PICTURE_ERRORS as error:
            return error
        finally:
            self._held.popleft()
            if not self._owners:
                self._making = None  # it holds its last batch

    def __next__(self) -> Pixels | GpenError:
        first = cast("Begun[Outcome]", self._held[0])
        while True:
            try:
                if self._making is None:
                    self._making = self._make(self._again(first) if first.cropped else self._batch(first))
                made = next(self._making, None)
            except Stopped:
                self._making = None
                for other in set(self._owners) - {first}:
                    other.put_back()
                self._owners.clear()
                raise
            except PICTURE_ERRORS as error:
                self._making = None
                # For memory that is short run_each() went down to one face already, and a lost device fails every picture.
                settled = self._owners and self._owners[0] is first and (is_out_of_memory(error) or isinstance(error, DeviceError))
                alone = all(owner is first for owner in self._owners)
                self._owners.clear()
                if settled or alone:
                    raise
                log.debug("a batch failed (%s); its pictures go one by one", error)
                continue
            if made is None:
                self._making = None
            elif self._owners.popleft() is first:  # a picture that failed leaves faces behind
                return made

    def _again(self, first: Begun[Outcome]) -> Iterator[Pixels]:
        """The crops of the picture whose batch failed."""
        for crop in tuple(first.cropped):
            self._owners.append(first)
            yield crop

    def _batch(self, first: Begun[Outcome]) -> Iterator[Pixels]:
        """The picture's crops, and of those after it as many as fill the last batch."""
        most = self._at_once()
        return islice(self._crops(), -(-first.left // most) * most)

    def _crops(self) -> Iterator[Pixels]:
        while True:
            picture = next((one for one in self._held if not isinstance(one, Exception) and one.left), None)
            if picture is None:
                if not self._take():
                    return
                continue
            try:
                for _, crop in picture.crops():
                    self._owners.append(picture)
                    yield crop
            except PICTURE_ERRORS:
                if picture is self._held[0]:
                    raise
                return  # it is raised when its turn comes

    def _take(self) -> bool:
        """Takes another picture, if there is one and it may be held."""
        if self._held:
            sizes = [0 if isinstance(one, Exception) else one.source.width * one.source.height for one in self._held]
            if len(sizes) >= MOST_PICTURES or sum(sizes) + max(sizes) > MOST_PIXELS or self._progress.stop():
                return False
        if self._broken is not None:
            return False
        try:
            self._held.append(next(self._begun))
        except StopIteration:
            return False
        except PICTURE_ERRORS as error:
            self._broken = error
            return False
        return True
