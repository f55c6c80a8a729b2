"""Downloads weight files: tries mirrors in order, resumes, locks out other processes, and verifies a file before renaming it.

It uses urllib of the standard library. The mirrors are plain addresses (an object store, ModelScope, GitHub, Hugging Face) that all
answer range requests, so one short loop resumes on each. huggingface_hub resumes only from its own addresses and uses its own cache and
layout; torch.hub.download_url_to_file does not resume. The lock is `filelock`, which torch and huggingface_hub require anyway.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from ..errors import WeightsError, WeightsFolderError, shown
from ..replacing import replace
from .catalog import WeightFile
from .mirrors import Failure, Source, first_answering, missing, refuse, sources, summary
from .small_files import MOST_BYTES, is_full, is_plain, locked
from .sums import Record, known_sum, sha256_of, verify
from .web import Answer, Fetch, FetchError, Limits

LOG = logging.getLogger("gpen_core.weights")

DownloadProgress = Callable[[int, "int | None"], None]

_RETRIES = 20  # per mirror
_BARREN_RETRIES = 2  # in a row without new bytes
_SPARE_BYTES = 32 << 20
NOTICE_FILE = "LICENCE-NOTICE.txt"

__all__ = ["Failure", "Limits", "Source", "download", "first_answering", "missing", "sources", "summary", "verify"]


def download(
    entry: WeightFile,
    folder: Path,
    *,
    progress: DownloadProgress | None = None,
    notice: Callable[[str], None] | None = None,
    log: logging.Logger = LOG,
    first: Source | None = None,
    limits: Limits | None = None,
) -> Path:
    """Downloads weights into a folder and returns the file. Does nothing if the file is already there and correct.

    progress(bytes so far, total bytes or None): if it raises, the download stops; the next call resumes it. Without it, a terminal on
    stderr shows a bar. notice: receives the licence text before the first download into a folder (None: a log line).
    first: the address to begin with. limits: when to give up on a server.

    Raises ModelMissingError, which knows file, folder, addresses and sums, if no mirror delivers the file; WeightsFolderError if the
    folder is not writable or the disk is full; WeightsError if a file of that name has changed since it was downloaded.
    """
    folder, limits = Path(folder), limits or Limits()
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _check_writable(folder)
    with _lock(folder, entry.filename, progress, log):
        present = _present(entry, folder, log)
        if present is not None:
            return present
        Record(folder).read()  # a damaged record raises here, before the download
        _give_notice(entry, folder, notice, log)
        listed = sources(entry)
        if first is not None and first in listed:
            listed.sort(key=lambda source: source != first)
        failures: list[Failure] = []
        deadline = limits.clock() + limits.whole
        for source in listed:
            log.info("downloading %s from %s", source.filename, source.url)
            try:
                with _bar(source.filename, progress) as tell:
                    return _fetch(source, entry, folder, tell, limits, deadline)
            except FetchError as error:
                failures.append(Failure(source.url, str(error).replace(f"{folder}{os.sep}", "")))
                log.warning("not downloaded from %s: %s", source.url, error)
            if limits.clock() >= deadline:
                break
        raise missing(entry, folder, summary(failures))


def _present(entry: WeightFile, folder: Path, log: logging.Logger) -> Path | None:
    """The file, if it exists (another process may have downloaded it meanwhile) and is correct; otherwise None."""
    for name in dict.fromkeys(source.filename for source in sources(entry)):
        path = folder / name
        if not path.is_file():
            continue
        try:
            _check_content(path, entry)
        except _OtherGenerator as error:
            raise WeightsError(f"{shown(path, 300)} is not what its name says: {error}; rename it.") from error
        except WeightsError as error:
            # The file is useless: the download replaces it once the new file is complete.
            log.warning("%s Downloading it again.", error)
            continue
        result = verify(path, entry)
        if not result.ok:
            raise WeightsError(result.message)
        return path
    return None


def _fetch(source: Source, entry: WeightFile, folder: Path, tell: DownloadProgress, limits: Limits, deadline: float) -> Path:
    """Downloads from one address, verifies, and gives the file its name. Raises FetchError to go on to the next address."""
    part = folder / f"{source.filename}.part"
    total = _fetch_part(source, part, tell, limits, deadline)
    size = _length(part)
    for wanted in (total, source.size_bytes):
        if wanted is not None and size != wanted:
            _discard(part)
            raise FetchError(f"it gave {size} bytes instead of {wanted}")
    with _writing(folder):
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
        replace(part, target)
    except OSError as error:
        if target.exists() and isinstance(error, PermissionError):
            raise WeightsError(
                f"{target} cannot be replaced ({error.strerror}); close the program that uses it and try again, or choose another folder.",
                reason=f"{target.name} cannot be replaced",
            ) from error
        raise _not_written(folder, error) from error
    _discard(part)
    return target


class _OtherGenerator(WeightsError):
    """A GPEN generator, but not the requested one."""


def _check_content(part: Path, entry: WeightFile) -> None:
    """Checks that a file holds the entry's generator, from its header alone. Raises WeightsError. The readers cannot run code."""
    from .checkpoint import read_architecture

    found = read_architecture(part)
    if (found.size, found.channel_multiplier, found.narrow) != (entry.size, entry.channel_multiplier, entry.narrow):
        raise _OtherGenerator(f"it holds a GPEN generator of size {found.size} and narrow {found.narrow}, not {entry.name}")


def _fetch_part(source: Source, part: Path, tell: DownloadProgress, limits: Limits, deadline: float) -> int | None:
    """Downloads the whole .part file, resuming as long as new bytes arrive. Returns the length that the server stated, if any."""
    state = part.with_name(part.name + ".json")
    attempts = barren = 0
    most = _length(part) if Answer.recalled(state, source.url) else 0
    while True:
        told = Answer.recalled(state, source.url)
        have = _length(part) if told else 0
        try:
            with Fetch(source.url, limits, deadline=deadline, start=have, told=told) as answer:
                if answer.complete:
                    return have
                refuse(source, answer)
                _check_space(part, answer)
                _write(source, answer, part, state, tell)
                return answer.total
        except FetchError as error:
            attempts += 1
            barren = 0 if _length(part) > most else barren + 1
            most = max(most, _length(part))
            if error.restart and have:
                _discard(part)
            elif not error.again or barren > _BARREN_RETRIES:
                raise
            if attempts > _RETRIES or limits.clock() >= deadline:
                raise
            time.sleep(limits.pause * 2**barren)


def _length(part: Path) -> int:
    """Bytes of the .part file that can be resumed: 0 for a link or a file with a second name, which are never written to."""
    return part.stat().st_size if is_plain(part) else 0


def _check_space(part: Path, answer: Answer) -> None:
    needed = (answer.total or 0) - answer.start + _SPARE_BYTES
    with _writing(part.parent):
        free = shutil.disk_usage(part.parent).free
    if free < needed:
        lacking = f"{free / 1e6:.0f} MB free, but {needed / 1e6:.0f} MB are needed"
        raise WeightsFolderError(f"{part.parent} has {lacking}; free space or choose another folder.", reason=f"the disk has {lacking}")


def _write(source: Source, answer: Answer, part: Path, state: Path, tell: DownloadProgress) -> None:
    done = answer.start
    most = min(answer.total or source.most_bytes, source.most_bytes)
    with _writing(part.parent):
        if not answer.start:
            _discard(part)  # it may be a link
        answer.remember(state)
        file = part.open("r+b" if answer.start else "xb")
    try:
        with _writing(part.parent):
            file.seek(answer.start)
            file.truncate()
        tell(done, answer.total)
        for block in answer.blocks():
            done += len(block)
            if done > most:
                break
            with _writing(part.parent):
                file.write(block)
            tell(done, answer.total)
    finally:
        with _writing(part.parent):
            file.close()
    if done > most:
        _discard(part)
        raise FetchError(f"it sends more than {most} bytes, the limit for this file")
    if done == 0:
        raise FetchError("it answered with an empty file")
    if answer.total is not None and done < answer.total:
        raise FetchError(f"the connection ended after {done} of {answer.total} bytes", again=True)


def _discard(part: Path) -> None:
    with _writing(part.parent):
        for path in (part, part.with_name(part.name + ".json")):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(folder: Path) -> Generator[None, None, None]:
    """Turns the system's errors about the folder into WeightsFolderError."""
    try:
        yield
    except OSError as error:
        raise _not_written(folder, error) from error


def _not_written(folder: Path, error: OSError) -> WeightsFolderError:
    if is_full(error):
        message = f"the disk of {folder} is full; free some space and try again: the download will resume."
        return WeightsFolderError(message, reason="the disk is full")
    problem = error.strerror or str(error)
    message = f"{folder} cannot be written to ({problem}); choose another folder."
    return WeightsFolderError(message, reason=f"the weights folder cannot be written to ({problem})")


def _check_writable(folder: Path) -> None:
    """Raises OSError if no file can be created in the folder. The lock alone would wait for ever, because Windows reports such a folder
    like a file in use."""
    trial = folder / f".{uuid.uuid4().hex}.part"
    trial.open("xb").close()
    trial.unlink()


@contextlib.contextmanager
def _lock(folder: Path, filename: str, progress: DownloadProgress | None, log: logging.Logger) -> Generator[None, None, None]:
    """Lets only one process at a time download a file."""
    path = folder / f".{filename}.lock"
    told = False
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(path, 1))
                break
            except TimeoutError:
                pass
            except OSError as error:
                raise _not_written(folder, error) from error
            if not told:
                log.warning("another process is downloading %s; waiting for it (if there is none, delete %s)", filename, path)
                told = True
            if progress is not None:
                progress(0, None)  # gives the caller a chance to stop
        yield


def _give_notice(entry: WeightFile, folder: Path, notice: Callable[[str], None] | None, log: logging.Logger) -> None:
    """Shows the licence once per folder and writes it to a file there."""
    path = folder / NOTICE_FILE
    content = b""
    with contextlib.suppress(OSError):
        if is_plain(path):
            with path.open("rb") as file:
                content = file.read(MOST_BYTES)
    if entry.licence.encode() in content:
        return
    if notice is not None:
        notice(entry.licence)
    else:
        log.warning("%s", entry.licence)
    # A notice that cannot be written must not stop the download; it is shown again next time.
    with contextlib.suppress(OSError), path.open("ab" if is_plain(path) else "xb") as file:
        file.write(f"{entry.licence}\n".encode())


@contextlib.contextmanager
def _bar(filename: str, progress: DownloadProgress | None) -> Generator[DownloadProgress, None, None]:
    """The caller's progress, otherwise a bar on a terminal, otherwise nothing; also nothing if only errors are logged (--quiet)."""
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
