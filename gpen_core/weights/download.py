"""Fetches weight files: mirrors in order, resuming, one process at a time, verified before the file gets its name.

urllib of the standard library does the fetching. The mirrors are plain addresses (an object store, ModelScope, GitHub, Hugging Face), and
all of them answer ranges, so one short loop resumes on each. huggingface_hub resumes for its own addresses only and keeps a cache and a
layout of its own; torch.hub.download_url_to_file does not resume. The lock is `filelock`, which torch and huggingface_hub require anyway.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..catalog import WeightFile
from ..errors import WeightsError, WeightsMissingError
from .sums import Record, known_sum, sha256_of, verify
from .web import Answer, Fetch, FetchError, real_address

LOG = logging.getLogger("gpen_core.weights")

Progress = Callable[[int, "int | None"], None]

CONNECT_SECONDS = 10.0
_GRACE_SECONDS = 1.0
_RETRIES = 20  # per mirror, and only while each attempt brings new bytes
_SPARE_BYTES = 32 << 20
NOTICE_FILE = "LICENCE-NOTICE.txt"

__all__ = ["Source", "download", "first_answering", "missing_message", "sources", "verify"]


@dataclass(frozen=True)
class Source:
    """One address of one file. filename: what it is called on disk; sha256, size_bytes: where known."""

    url: str
    filename: str
    sha256: str | None
    size_bytes: int | None


def sources(entry: WeightFile) -> list[Source]:
    """All addresses of these weights, in the order they are tried: the official form first, then the same weights as ONNX."""
    listed = [Source(real_address(url), entry.filename, entry.sha256, entry.size_bytes) for url in entry.urls]
    for form in entry.known_onnx:
        listed += [Source(real_address(url), form.filename, form.sha256, form.size_bytes) for url in form.urls]
    return listed


def first_answering(entry: WeightFile, wait: float = CONNECT_SECONDS) -> Source | None:
    """The address to begin with: all are asked at once, and of those that answer the foremost is taken.

    None where none answers within `wait` seconds. Connections are closed at once. After the first answer those before it in order have one
    more second.
    """
    asked = sources(entry)
    answers: queue.Queue[tuple[int, bool]] = queue.Queue()

    def ask(place: int) -> None:
        try:
            with Fetch(asked[place].url, timeout=wait) as answer:
                answers.put((place, not answer.is_page))
        except FetchError:
            answers.put((place, False))

    for place in range(len(asked)):
        # Daemon threads: looking a name up can hang for minutes, and must not keep the program from ending.
        threading.Thread(target=ask, args=(place,), daemon=True, name="gpen-probe").start()
    end = time.monotonic() + wait
    silent = set(range(len(asked)))
    good: set[int] = set()
    while silent and not (good and min(good) < min(silent)):
        try:
            place, answered = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        silent.discard(place)
        if answered:
            good.add(place)
            end = min(end, time.monotonic() + _GRACE_SECONDS)
    return asked[min(good)] if good else None


def download(
    entry: WeightFile,
    folder: Path,
    *,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
    log: logging.Logger = LOG,
    first: Source | None = None,
) -> Path:
    """Fetches weights into a folder and returns the file. Nothing happens where it is already there and as it should be.

    progress(bytes so far, bytes in all or None): an exception it raises stops the download; what is there is kept and resumed next time.
    Without it a bar is shown where stderr is a terminal. notice: is given the licence's text before the first download into a folder
    (None: a log line). first: the address to begin with.

    Raises WeightsMissingError, naming file, folder, addresses and sums, where no mirror gives the file; WeightsError where the folder
    cannot be written, the disk is full, or a file of that name is there that changed since it was fetched.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    with _lock(folder, entry.filename, progress, log):
        present = _present(entry, folder, log)
        if present is not None:
            return present
        _give_notice(entry, folder, notice, log)
        listed = sources(entry)
        if first is not None and first in listed:
            listed.sort(key=lambda source: source != first)
        failures: list[str] = []
        for source in listed:
            log.info("fetching %s from %s", source.filename, source.url)
            try:
                with _bar(source.filename, progress) as tell:
                    return _fetch(source, entry, folder, tell)
            except FetchError as error:
                failures.append(f"{source.url}: {error}")
                log.warning("not fetched from %s: %s", source.url, error)
        raise WeightsMissingError(missing_message(entry, folder, "no mirror gave it", failures))


def missing_message(entry: WeightFile, folder: Path, reason: str, failures: list[str] | None = None) -> str:
    """What to tell a user who has to fetch a file by hand: the first line says it all, the rest lists addresses and sums."""
    lines = [f"{entry.filename} is not on disk and could not be fetched ({reason}); put it into {folder} and try again."]
    if entry.embedded:
        return f"{entry.filename} is missing ({reason}); it belongs into {folder} and comes with the project: install it again."
    for source in sources(entry):
        size = f"{source.size_bytes:,} bytes" if source.size_bytes else "size not published"
        lines.append(f"  {source.url}  (save as {source.filename}; {size}; sha256 {source.sha256 or 'not published'})")
    others = [form for form in entry.known_onnx if not form.urls]
    if others:
        names = ", ".join(f"{form.filename} ({form.source})" for form in others)
        lines.append(f"  The same weights as other programs keep them are read as well: {names}")
    lines += [f"  failed: {failure}" for failure in failures or []]
    lines.append("  --models-dir, GPEN_MODELS_DIR or GPEN_EXTRA_MODELS name a folder elsewhere; HF_ENDPOINT a mirror of Hugging Face.")
    return "\n".join(lines)


def _present(entry: WeightFile, folder: Path, log: logging.Logger) -> Path | None:
    """The file, where it is there (another process may have fetched it while this one waited) and is what it should be."""
    for name in dict.fromkeys(source.filename for source in sources(entry)):
        path = folder / name
        if not path.is_file():
            continue
        try:
            _check_content(path, entry)
        except _OtherGenerator as error:
            raise WeightsError(f"{path} is of another kind than its name says: {error}; give it another name.") from error
        except WeightsError as error:
            # Nobody can use it: fetched anew, and replaced once the new file is whole.
            log.warning("%s It is fetched anew.", error)
            continue
        result = verify(path, entry)
        if not result.ok:
            raise WeightsError(result.message)
        return path
    return None


def _fetch(source: Source, entry: WeightFile, folder: Path, tell: Progress) -> Path:
    """Fetches from one address, verifies, and gives the file its name. Raises FetchError where the next address should be tried."""
    part = folder / f"{source.filename}.part"
    total = _fetch_part(source, part, tell)
    size = part.stat().st_size
    for wanted in (total, source.size_bytes):
        if wanted is not None and size != wanted:
            _discard(part)
            raise FetchError(f"it gave {size} bytes instead of {wanted}")
    sha256 = sha256_of(part)
    expected, where = known_sum(folder, source.filename, source.sha256)
    if expected is not None and sha256 != expected:
        _discard(part)
        raise FetchError(f"its file has the sha256 {sha256}, but {expected} is {where}")
    try:
        _check_content(part, entry)
    except WeightsError as error:
        _discard(part)
        raise FetchError(str(error)) from error
    Record(folder).add(source.filename, sha256, size, source.url)
    target = folder / source.filename
    try:
        part.replace(target)
    except OSError as error:
        raise WeightsError(f"{target} cannot be replaced ({error.strerror}); close the program that uses it and try again.") from error
    _discard(part)
    return target


class _OtherGenerator(WeightsError):
    """A GPEN generator, but not the one that was wanted."""


def _check_content(part: Path, entry: WeightFile) -> None:
    """Only the head is read, by readers that cannot run code; the sum was compared before where one is known."""
    from .checkpoint import read_architecture

    found = read_architecture(part)
    if (found.size, found.channel_multiplier, found.narrow) != (entry.size, entry.channel_multiplier, entry.narrow):
        raise _OtherGenerator(f"it holds a GPEN generator of size {found.size} and narrow {found.narrow}, not {entry.name}")


def _fetch_part(source: Source, part: Path, tell: Progress) -> int | None:
    """Brings the .part to its full length, resuming as often as new bytes arrive. Returns the length the server told, if any."""
    state = part.with_name(part.name + ".json")
    attempts = 0
    while True:
        have = _length(part) if Answer.recalled(state).get("url") == source.url else 0
        try:
            with Fetch(source.url, timeout=CONNECT_SECONDS, start=have, state=state) as answer:
                if answer.complete:
                    return have
                _refuse(source, answer)
                _check_space(part, answer)
                _write(answer, part, state, tell)
                return answer.total
        except FetchError as error:
            attempts += 1
            if error.restart and have:
                _discard(part)
            elif not error.again or _length(part) <= have or attempts > _RETRIES:
                raise
            time.sleep(0.5)


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _refuse(source: Source, answer: Answer) -> None:
    if answer.is_page:
        raise FetchError("it answered with an HTML page instead of the file")
    if answer.total == 0:
        raise FetchError("it answered with an empty file")
    if source.size_bytes is not None and answer.total is not None and answer.total != source.size_bytes:
        raise FetchError(f"it offers {answer.total} bytes instead of {source.size_bytes}")


def _check_space(part: Path, answer: Answer) -> None:
    needed = (answer.total or 0) - answer.start + _SPARE_BYTES
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise WeightsError(
            f"{part.parent} has {free / 1e6:.0f} MB free and {needed / 1e6:.0f} MB are needed; make room or name another folder "
            "with --models-dir or GPEN_MODELS_DIR."
        )


def _write(answer: Answer, part: Path, state: Path, tell: Progress) -> None:
    done = answer.start
    try:
        answer.remember(state)
        with part.open("r+b" if answer.start else "wb") as file:
            file.seek(answer.start)
            file.truncate()
            tell(done, answer.total)
            for block in answer.blocks():
                file.write(block)
                done += len(block)
                tell(done, answer.total)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise WeightsError(f"the disk of {part.parent} is full; make room and try again: the download goes on there.") from error
        raise _unwritable(part.parent, error) from error
    if done == 0:
        raise FetchError("it answered with an empty file")
    if answer.total is not None and done < answer.total:
        raise FetchError(f"the connection ended after {done} of {answer.total} bytes", again=True)


def _discard(part: Path) -> None:
    for path in (part, part.with_name(part.name + ".json")):
        path.unlink(missing_ok=True)


def _unwritable(folder: Path, error: OSError) -> WeightsError:
    return WeightsError(f"{folder} cannot be written ({error.strerror}); name another folder with --models-dir or GPEN_MODELS_DIR.")


@contextlib.contextmanager
def _lock(folder: Path, filename: str, progress: Progress | None, log: logging.Logger) -> Generator[None, None, None]:
    """Lets one process at a time fetch a file. The system frees the lock when a process dies."""
    from filelock import FileLock, SoftFileLock, Timeout

    path = folder / f".{filename}.lock"
    lock: Any = FileLock(str(path))
    told = False
    while True:
        try:
            lock.acquire(timeout=1)
            break
        except Timeout:
            if not told:
                log.warning("another process is fetching %s; waiting for it (%s)", filename, path)
                told = True
            if progress is not None:
                progress(0, None)  # gives the caller a chance to stop
        except NotImplementedError:  # a file system without locks
            lock = SoftFileLock(f"{path}ed")
        except OSError as error:
            raise _unwritable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _give_notice(entry: WeightFile, folder: Path, notice: Callable[[str], None] | None, log: logging.Logger) -> None:
    """Shows the licence once per folder, and leaves it there."""
    path = folder / NOTICE_FILE
    shown = path.read_text(encoding="utf-8") if path.is_file() else ""
    if entry.licence in shown:
        return
    if notice is not None:
        notice(entry.licence)
    else:
        log.warning("%s", entry.licence)
    try:
        path.write_text(f"{shown}{entry.licence}\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error


@contextlib.contextmanager
def _bar(filename: str, progress: Progress | None) -> Generator[Progress, None, None]:
    """The caller's progress, else a bar on a terminal, else nothing; nothing too where only errors are to be told of (--quiet)."""
    if progress is not None:
        yield progress
        return
    stream: Any = sys.stderr  # None in programs without a console
    tqdm: Any = None
    if stream is not None and stream.isatty() and LOG.isEnabledFor(logging.WARNING):
        with contextlib.suppress(ImportError):
            from tqdm import tqdm
    if tqdm is None:
        yield lambda done, total: None
        return
    with tqdm(desc=filename, unit="B", unit_scale=True, unit_divisor=1000) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
