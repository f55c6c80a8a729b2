"""The errors a user can meet. Every message says what is wrong, with which file or setting, and what to do.

The command line turns each class into an exit code; hosts show the message as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class GpenError(Exception):
    """Base of all errors raised on purpose by gpen_core. Its message is written for users.

    reason: what went wrong in a few words that name no place on this machine, where that is known: for what travels with a picture.
    """

    reason: str | None = None


class SettingsError(GpenError, ValueError):
    """A setting or an argument cannot be met (command line: exit code 2)."""


class WrongTaskError(SettingsError):
    """A model is made for another task than the one it was chosen for (command line: exit code 2).

    name: the model. task: its own. wanted: the other. instead: a model that is made for that.
    """

    def __init__(self, name: str, task: str, wanted: str, instead: str) -> None:
        self.name, self.task, self.wanted, self.instead = name, task, wanted, instead
        super().__init__(f"{name} is made for another task ({task}); for {wanted} use {instead}")


class PictureError(GpenError):
    """A picture or video cannot be read or written (command line: that input fails, exit code 1)."""


class OutputExistsError(PictureError):
    """What would be written exists already, and nobody said that it may be replaced. target: that file."""

    def __init__(self, target: Path) -> None:
        self.target = target
        super().__init__(f"{target} exists already and is kept")


class WeightsError(GpenError):
    """A weight file is of the wrong kind, damaged, or not what it should be (command line: exit code 3).

    elsewhere: a sentence of the door's own, for errors that another folder would help against: how its users name one. Doors set it.
    """

    elsewhere = ""

    def __init__(self, message: str = "", *, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason


class DamagedWeightsError(WeightsError):
    """A weight file is damaged or cut off: fetching it again may help (command line: exit code 3)."""


class WeightsMissingError(WeightsError):
    """Weights are not on disk and cannot be fetched (command line: exit code 3)."""


class WeightsFolderError(WeightsError):
    """The folder that weights are fetched into takes none: no right to write there, or no room. `elsewhere` is the message's last line."""

    def __str__(self) -> str:
        return "\n  ".join(filter(None, (super().__str__(), self.elsewhere)))


@dataclass(frozen=True)
class WantedFile:
    """A file that would do. size_bytes, sha256: None where nobody published them."""

    filename: str
    size_bytes: int | None
    sha256: str | None
    urls: tuple[str, ...]

    def __str__(self) -> str:
        size = f"{self.size_bytes:,} bytes" if self.size_bytes else "size not published"
        places = f" from {' or '.join(self.urls)}" if self.urls else ""
        return f"{self.filename} ({size}; sha256 {self.sha256 or 'not published'}){places}"


class ModelMissingError(WeightsMissingError, WeightsFolderError):
    """A model of the catalogue is not on disk and cannot be fetched. Its message has five lines at most, the door's own among them.

    name: the model. folder: where its file belongs. files: those that would do, best first. also: names of other programs' files with the
    same weights that nobody offers for download. failed: what went wrong, without a place on this machine. ships: with the project.
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
            lines += [f"  these files of other programs, with the same weights, also work: {', '.join(self.also)}"] if also else []
            message = "\n".join(lines)
        super().__init__(message, reason=f"{name} is missing ({failed})")


class FeatureMissingError(GpenError):
    """A feature needs an optional package that cannot be imported here (command line: exit code 2)."""


def shown(name: object, most: int = 100) -> str:
    """A name for a message or a line of the log: what a file calls itself or holds may be a megabyte long, and move a terminal's cursor.

    most: characters; of a longer one the middle is left out, so that a path keeps its file's name.
    """
    text = str(name)
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[-(most // 2) :]}"
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
