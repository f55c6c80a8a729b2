"""The download addresses of weights: lists them, finds one that answers, and words the error if none does."""

from __future__ import annotations

import queue
import threading
import time
import urllib.parse
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ModelMissingError, WantedFile
from .catalog import WeightFile
from .web import Answer, Fetch, FetchError, Limits, real_address

_GRACE_SECONDS = 1.0
_LARGEST_BYTES = 1 << 30  # limit for a file of unknown length


@dataclass(frozen=True)
class Source:
    """One address of one file. filename: its name on disk; sha256, size_bytes: if known; most_bytes: upper limit of its length."""

    url: str
    filename: str
    sha256: str | None
    size_bytes: int | None
    most_bytes: int = _LARGEST_BYTES


@dataclass(frozen=True)
class Failure:
    """An address that did not deliver its file, and the reason in words."""

    url: str
    reason: str


def sources(entry: WeightFile) -> list[Source]:
    """All addresses of these weights in the order to try: the official file first, then the same weights as ONNX."""
    most = 2 * entry.tensor_bytes if entry.tensor_bytes else _LARGEST_BYTES
    listed = [(url, entry.filename, entry.sha256, entry.size_bytes) for url in entry.urls]
    for form in entry.known_onnx:
        listed += [(url, form.filename, form.sha256, form.size_bytes) for url in form.urls]
    return [Source(real_address(url), name, sha256, size, size or most) for url, name, sha256, size in listed]


def first_answering(entry: WeightFile, wait: float = Limits.silent, failures: list[Failure] | None = None) -> Source | None:
    """The address to begin with: asks all at once and returns the first in the list that answers.

    None if none answers within `wait` seconds. Closes connections at once. After the first answer, addresses earlier in the list have
    one more second. failures: a list that receives the reasons of all others.
    """
    asked = sources(entry)
    answers: queue.Queue[tuple[int, str | None]] = queue.Queue()
    limits = Limits(silent=wait, head=wait)

    def ask(place: int) -> None:
        try:
            with Fetch(asked[place].url, limits) as answer:
                refuse(asked[place], answer)
                answers.put((place, None))
        except FetchError as error:
            answers.put((place, str(error)))

    for place in range(len(asked)):
        # Daemon threads: a DNS look-up can hang for minutes and must not keep the program from ending.
        threading.Thread(target=ask, args=(place,), daemon=True, name="gpen-probe").start()
    end = time.monotonic() + wait
    silent = set(range(len(asked)))
    good: set[int] = set()
    told = dict.fromkeys(range(len(asked)), f"no answer within {wait:g} s")
    while silent and not (good and min(good) < min(silent)):
        try:
            place, problem = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        silent.discard(place)
        if problem is not None:
            told[place] = problem
            continue
        good.add(place)
        end = min(end, time.monotonic() + _GRACE_SECONDS)
    if failures is not None:
        failures += [Failure(asked[place].url, told[place]) for place in told if place not in good]
    return asked[min(good)] if good else None


def summary(failures: list[Failure]) -> str:
    """All failures in one short line that names servers instead of whole addresses."""
    servers: dict[str, list[str]] = {}
    for failure in failures:
        server = urllib.parse.urlsplit(failure.url).hostname or failure.url
        named = servers.setdefault(failure.reason, [])
        if server not in named:
            named.append(server)
    if not servers:
        return "there is no download for it"
    reasons = list(servers)
    if len(reasons) == 1 and reasons[0].startswith("no answer"):
        return f"no server answered{reasons[0].removeprefix('no answer')}"
    return "no mirror delivered it: " + "; ".join(f"{', '.join(named)}: {reason}" for reason, named in servers.items())


def missing(entry: WeightFile, folder: Path, failed: str) -> ModelMissingError:
    """The error that tells a user how to download a file by hand. failed: what went wrong, without local paths."""
    forms = {entry.filename: WantedFile(entry.filename, entry.size_bytes, entry.sha256, ())}
    for source in sources(entry):
        form = forms.get(source.filename) or WantedFile(source.filename, source.size_bytes, source.sha256, ())
        forms[source.filename] = replace(form, urls=(*form.urls, source.url))
    also = [f"{form.filename} ({form.source})" for form in entry.known_onnx if not form.urls]
    return ModelMissingError(entry.name, folder, list(forms.values()), failed, also=also, ships=entry.embedded)


def refuse(source: Source, answer: Answer) -> None:
    """Raises FetchError if an answer cannot be the file."""
    if answer.is_page:
        raise FetchError("it answered with an HTML page instead of the file")
    if answer.total == 0:
        raise FetchError("it answered with an empty file")
    if source.size_bytes is not None and answer.total is not None and answer.total != source.size_bytes:
        raise FetchError(f"it offers {answer.total} bytes instead of {source.size_bytes}")
    if answer.total is not None and answer.total > source.most_bytes:
        raise FetchError(f"it offers {answer.total} bytes, but this file has at most {source.most_bytes}")
