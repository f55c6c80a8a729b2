"""The errors a user can see. Every message says what is wrong, with which file or setting, and what to do.

The command line turns each class into an exit code; hosts show the message unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class GpenError(Exception):
    """Base class of all errors that gpen_core raises on purpose. Its message is written for users.

    reason: the cause in a few words without any local path, if known, so that it can be stored in a picture.
    """

    reason: str | None = None


class SettingsError(GpenError, ValueError):
    """A setting or argument is invalid or cannot work (command line: exit code 2)."""


class WrongTaskError(SettingsError):
    """A model is made for another task than the one it was chosen for (command line: exit code 2).

    name: the model. task: its task. wanted: the task it was chosen for. instead: a model for that task.
    """

    def __init__(self, name: str, task: str, wanted: str, instead: str) -> None:
        self.name, self.task, self.wanted, self.instead = name, task, wanted, instead
        super().__init__(f"{name} is made for another task ({task}); for {wanted} use {instead}")


class PictureError(GpenError):
    """A picture or video cannot be read or written (command line: that input fails, exit code 1)."""


class OutputExistsError(PictureError):
    """The output file already exists and may not be replaced. target: that file."""

    def __init__(self, target: Path) -> None:
        self.target = target
        super().__init__(f"{target} already exists and is kept")


class DeviceError(GpenError, RuntimeError):
    """A device does not compute, and will not for the rest of this process (command line: the run ends, exit code 1)."""


class MemoryShortError(GpenError, RuntimeError):
    """Memory does not suffice for a face, in any way there is (command line: that face or input fails, exit code 1)."""


# Errors that concern one picture or frame, and not those after it. All others (such as a host's interrupt) end the work at once.
PICTURE_ERRORS = (GpenError, RuntimeError, ValueError, ArithmeticError, MemoryError)


class WeightsError(GpenError):
    """A weight file is damaged, of the wrong kind, or not the one expected (command line: exit code 3).

    elsewhere: how to choose another folder, for errors that one would solve. Each host sets its own sentence.
    """

    elsewhere = ""

    def __init__(self, message: str = "", *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class DamagedWeightsError(WeightsError):
    """A weight file is damaged or cut off: downloading it again may help (command line: exit code 3)."""


class WeightsMissingError(WeightsError):
    """Weights are not on disk and cannot be downloaded (command line: exit code 3)."""


class WeightsFolderError(WeightsError):
    """The download folder is not writable or full (command line: exit code 3). `elsewhere` is the message's last line."""

    def __str__(self) -> str:
        return "\n  ".join(filter(None, (super().__str__(), self.elsewhere)))


@dataclass(frozen=True)
class WantedFile:
    """A suitable weight file. size_bytes, sha256: None if not published."""

    filename: str
    size_bytes: int | None
    sha256: str | None
    urls: tuple[str, ...]

    def __str__(self) -> str:
        size = f"{self.size_bytes:,} bytes" if self.size_bytes else "size not published"
        places = f" from {' or '.join(self.urls)}" if self.urls else ""
        return f"{self.filename} ({size}; sha256 {self.sha256 or 'not published'}){places}"


class ModelMissingError(WeightsMissingError, WeightsFolderError):
    """A model of the catalogue is not on disk and cannot be downloaded. Its message has at most five lines, `elsewhere` included.

    name: the model. folder: where its file belongs. files: suitable files, best first. also: names of other programs' files with the
    same weights that cannot be downloaded. failed: what went wrong, without any local path. ships: the model is part of the project.
    """

    def __init__(
        self, name: str, folder: Path, files: Sequence[WantedFile], failed: str, *, also: Sequence[str] = (), ships: bool = False
    ) -> None:
        self.name, self.folder, self.files, self.failed, self.also, self.ships = name, folder, tuple(files), failed, tuple(also), ships
        if ships:
            message = f"{name} is missing ({failed}); it is part of the project: reinstall the project."
        else:
            these = "one of these files" if len(self.files) > 1 else "this file"
            lines = [f"{name} is not on disk and could not be downloaded ({failed}); put {these} into {folder} and try again:"]
            lines += [f"  {file}" for file in self.files[:2]]
            lines += [f"  these files from other programs have the same weights and also work: {', '.join(self.also)}"] if also else []
            message = "\n".join(lines)
        super().__init__(message, reason=f"{name} is missing ({failed})")


class FeatureMissingError(GpenError):
    """A feature needs an optional package that cannot be imported here (command line: exit code 2)."""


def describe(error: BaseException) -> str:
    """Describes an error in one line for users. Names the type of errors that are not the core's own."""
    text = " ".join(str(error).split())
    if isinstance(error, GpenError):
        return text
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    return f"unexpected {type(error).__name__}{': ' if text else ''}{text[:300]}"


def shown(name: object, most: int = 100) -> str:
    """Makes a name safe for messages and logs: text from a file may be a megabyte long or contain control characters.

    most: maximum characters; longer names lose their middle, so that a path keeps its file name.
    """
    text = str(name)
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most // 2) :]}"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


_NO_FOLDERS = re.compile(r"https?://\S+|\bmodels[\\/]GPEN\b(?:[\\/][^\\/'\"(),;:]+)?")
_FOLDERS = re.compile(
    r"(?<![\w.])[\\/]\w|[\\/]{2}|\b[a-z]:[\\/]|\bfile:|~\w*[\\/]|\.\.[\\/]"  # beginning at a known place
    r"|[\w.-]+[\\/][\w.-]+[\\/]|\w[\\/][\w -]*\.\w",  # two folders, or one with a file
    re.IGNORECASE,
)
_KINDS = (
    (WeightsMissingError, "weights are missing"),
    (WeightsError, "a weight file cannot be used"),
    (FeatureMissingError, "a package is missing"),
    (SettingsError, "a setting cannot be used"),
    (PictureError, "the picture cannot be used"),
)


def without_folders(error: BaseException | str, models_dir: Path, more: str) -> str:
    """An error's message without this machine's folders, which can contain the user's name: for pictures and answers that others see.

    models_dir becomes "models". If any other folder remains, only the kind of error is given, and `more`, which says where the rest is.
    """
    lines = str(error).splitlines() or [type(error).__name__]
    text = lines[0].replace(str(models_dir), "models").encode("utf-8", "replace").decode("utf-8")
    if not _FOLDERS.search(_NO_FOLDERS.sub("", text)):
        return text.rstrip(":")  # the list of addresses that follows is left out
    kind = next((words for kind, words in _KINDS if isinstance(error, kind)), "it failed")
    return f"{kind}; {more}"
