"""Turns what a user types (a path, a name, or `auto`) into a weight file on disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DamagedWeightsError, ModelMissingError, SettingsError, WeightsError, WeightsMissingError, WrongTaskError, shown
from .architecture import Architecture
from .catalog import EMBEDDED_FOLDER, Catalog, Task, Template, WeightFile
from .checkpoint import read_architecture, read_template
from .download import DownloadProgress, Failure, download, first_answering, missing, summary
from .folders import SUFFIXES, gpen_folder, offline_switch, search_folders, weight_files
from .sums import sha256_of

LOG = logging.getLogger("gpen_core.weights")

AUTO = "auto"
AUTO_MODEL = "GPEN-BFR-2048"
PROBE_SECONDS = 10.0

# Words in file names that distinguish weights of the same shape but different tasks.
_TASK_WORDS: dict[str, Task] = {"color": "colorize", "colour": "colorize", "inpaint": "inpaint", "seg2face": "seg2face"}

Restores = Callable[[Path, Path], bool]  # (a file, models/GPEN) -> whether its network restores faces


@dataclass(frozen=True)
class Resolved:
    """A weight file on disk. entry: its catalogue entry, None for a user's own file. note: what the user should know."""

    path: Path
    entry: WeightFile | None
    note: str | None = None

    @property
    def name(self) -> str:
        """The name in the catalogue, or the file name without its extension for other files."""
        return self.entry.name if self.entry is not None else self.path.stem

    @property
    def task(self) -> Task:
        """The task of the model; "restore" for a user's own file."""
        return self.entry.task if self.entry is not None else "restore"

    @property
    def template(self) -> Template:
        """The alignment template the model was trained with: as the file says, otherwise as the catalogue does, otherwise GPEN's."""
        return read_template(self.path) or (self.entry.template if self.entry is not None else "gpen")

    def made_for(self, task: Task) -> Resolved:
        """Returns itself. Raises WrongTaskError if the model was made for another task; nobody knows that of a user's own file."""
        if self.entry is not None and self.task != task:
            raise _wrong_task(self.name, self.task, task)
        return self


def _wrong_task(name: str, task: Task, wanted: Task) -> WrongTaskError:
    instead = AUTO if wanted == "restore" else Catalog.default().names(wanted)[0]
    return WrongTaskError(name, task, wanted, instead)


def find(name_or_entry: str | WeightFile, models_dir: Path | None = None, extra: Iterable[Path] = ()) -> Path | None:
    """The file on disk that holds these weights, or None. Recognises it by its tensors: finds renamed files and skips wrong ones.

    Raises SettingsError if the name is not in the catalogue. Uses no network and reads only file headers. A bad file never hides the
    others; the log names each file that is damaged or not what its name says, once.
    """
    return _find(name_or_entry, models_dir, extra)


def _find(name_or_entry: str | WeightFile, models_dir: Path | None, extra: Iterable[Path], restores: Restores | None = None) -> Path | None:
    """Does the work of `find`. restores: called if shape and name leave a file's task open; None: the file is accepted."""
    catalog = Catalog.default()
    entry = catalog.get(name_or_entry) if isinstance(name_or_entry, str) else name_or_entry
    if entry.embedded:
        path = EMBEDDED_FOLDER / entry.filename
        return path if path.is_file() else None
    folders = search_folders(models_dir, extra)
    known = {name.lower() for name in entry.filenames}
    files = [path for folder in folders for path in weight_files(folder)]
    # Files with a known name first; other files are opened only if none of those fits.
    files.sort(key=lambda path: (path.name.lower() not in known, path.suffix.lower() == ".onnx"))
    for path in files:
        try:
            found = identify(path, catalog)
        except WeightsError as error:
            ours = path.name.lower().startswith("gpen") or path.parent == gpen_folder(models_dir)
            if path.name.lower() in known or (ours and isinstance(error, DamagedWeightsError)):
                _say_once(path, f"skipped: {error}")
            continue
        if found is None or found.name != entry.name:
            continue
        others = [] if restores is None or _task_is_known(path, entry) else _other_tasks(entry, catalog)
        if not others or restores is None or restores(path, gpen_folder(models_dir)):
            return path
        _say_once(
            path,
            f"skipped: '{shown(path, 300)}' has the shape of {entry.name}, but does not restore a test face: it may be "
            f"{' or '.join(others)}. Rename it to what it is, or choose it by its path to use it anyway.",
        )
    return None


def _other_tasks(entry: WeightFile, catalog: Catalog) -> list[str]:
    """Names of the weights with the same shape but another task."""
    return [other.name for other in catalog if _shape(other) == _shape(entry) and other.task != entry.task]


def _task_is_known(path: Path, entry: WeightFile) -> bool:
    """True if the file's name says that it restores, or its checksum is published. Only ONNX files have published sums."""
    lower = path.name.lower()
    if "bfr" in lower or lower in {name.lower() for name in entry.filenames}:
        return True
    return path.suffix.lower() == ".onnx" and sha256_of(path) in entry.known_sums


_said: set[tuple[str, int, int]] = set()


def _say_once(path: Path, text: str) -> None:
    """Logs a warning about a file once, because `auto` alone checks every file several times."""
    try:
        key = _stamp(path)
    except OSError:
        return  # the file was deleted meanwhile
    if key not in _said:
        _said.add(key)
        LOG.warning("%s", text)


_identified: dict[tuple[str, int, int], WeightFile | WeightsError | None] = {}


def _stamp(path: Path) -> tuple[str, int, int]:
    """A key that changes when the file does: path, length and time."""
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def identify(path: Path, catalog: Catalog | None = None) -> WeightFile | None:
    """The catalogue entry for a file, by its tensors; None for a GPEN generator of another shape.

    The file's name distinguishes weights of the same shape but different tasks. Raises WeightsError, which says what the file is, if it
    holds no GPEN generator. Answers are cached until the file changes.
    """
    try:
        key = _stamp(path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"'{shown(path, 300)}' cannot be read ({shown(error)}).") from error
    if key not in _identified:
        try:
            _identified[key] = _identify(path, catalog or Catalog.default())
        except WeightsError as error:
            _identified[key] = type(error)(str(error))  # a copy, because the original keeps the readers' frames alive
    answer = _identified[key]
    if isinstance(answer, WeightsError):
        raise type(answer)(str(answer))
    return answer


def _identify(path: Path, catalog: Catalog) -> WeightFile | None:
    found = read_architecture(path)
    fitting = [entry for entry in catalog if _shape(entry) == _shape(found)]
    lower = path.name.lower()
    said = [task for word, task in _TASK_WORDS.items() if word in lower]
    task = said[0] if said else "restore"
    return next((entry for entry in fitting if entry.task == task), None)


def own_models(models_dir: Path | None = None, extra: Iterable[Path] = ()) -> list[str]:
    """Names of the files in models/GPEN and `extra` that restore faces and are not the catalogue's own. Reads only the heads of files."""
    known = {name.lower() for entry in Catalog.default() for name in entry.filenames}
    names: list[str] = []
    for folder in (gpen_folder(models_dir), *extra):
        for path in weight_files(folder):
            if path.name.lower() in known or path.name in names:
                continue
            try:
                entry = identify(path)
            except (WeightsError, OSError):
                continue  # not a GPEN file: left out of the list without an error
            if entry is None or entry.task == "restore":
                names.append(path.name)
    return names


def _shape(network: WeightFile | Architecture) -> tuple[float, ...]:
    return network.size, network.channel_multiplier, network.narrow


def resolve(
    name_or_path: str | Path,
    models_dir: Path | None = None,
    *,
    extra_folders: Sequence[Path] = (),
    folder: Path | None = None,
    progress: DownloadProgress | None = None,
    offline: bool | None = None,
    log: logging.Logger = LOG,
    wait: float = PROBE_SECONDS,
    task: Task | None = None,
    restores: Restores,
) -> Resolved:
    """The weight file for what the user typed: a path, a file name in one of the folders, a catalogue name, or "auto".

    A text without a separator is a name and is searched for only in the folders: in the working directory it could be anybody's file,
    and texts also come from settings and over the network. "./NAME" or a Path is a path.

    models_dir: the folder `models` (None: see the function of that name). folder: where downloads go, if not into models/GPEN.
    offline: True forbids the network, None uses the environment variables.
    task: the task the weights must be made for (None: any), checked before any download.
    restores: called for `auto` if shape and name leave a file's task open (see network.load.find_model, which doors call).
    wait: seconds within which a server must answer for `auto`. progress(bytes so far, total bytes or None) reports a download.

    A catalogue name that is not on disk is downloaded into models/GPEN. `auto` means GPEN-BFR-2048, from disk or by download; failing
    that, the best restoration weights on disk, finally the embedded ones, and `note` says so. Raises SettingsError for an unknown name,
    WrongTaskError for weights made for another task, WeightsMissingError if the file is not available (a model chosen by name is never
    replaced), WeightsError for a wrong file.
    """
    text = str(name_or_path).strip()
    reason = f"the network is switched off ({offline_switch() or 'offline'})" if _is_offline(offline) else None
    folder = gpen_folder(models_dir) if folder is None else folder
    if text.lower() == AUTO:
        return _resolve_auto(models_dir, extra_folders, folder, progress, reason, log, wait, restores)
    own = _own_file(text, models_dir, extra_folders, isinstance(name_or_path, Path))
    if own is not None:
        return own if task is None else own.made_for(task)
    entry = _entry(text, folder)
    if task is not None and entry.task != task:
        raise _wrong_task(entry.name, entry.task, task)
    found = find(entry, models_dir, extra_folders)
    if found is not None:
        return Resolved(found, entry)
    if reason is None and not entry.embedded:
        return Resolved(download(entry, folder, progress=progress, log=log), entry)
    raise missing(entry, folder, reason or "it is not part of this copy")


def check_name(model: str, task: Task) -> None:
    """Raises SettingsError for an unknown model name and WrongTaskError for a model made for another task. Searches no folder.

    Whether the weights are on disk, and what a file holds, is checked when they are needed.
    """
    path, catalog = Path(model), Catalog.default()
    if model.lower() == AUTO or path.is_file() or (model not in catalog and (path.name != model or path.suffix.lower() in SUFFIXES)):
        return
    entry = catalog.get(model)
    if entry.task != task:
        raise _wrong_task(entry.name, entry.task, task)


def _is_offline(offline: bool | None) -> bool:
    return offline_switch() is not None if offline is None else offline


def _own_file(text: str, models_dir: Path | None, extra: Sequence[Path], is_path: bool) -> Resolved | None:
    """A file that the user names by its path, or by its file name in one of the folders."""
    path = Path(text)
    places: list[Path] = []
    try:
        if is_path or path.name != text:
            places.append(path.expanduser())
        if path.name == text and path.suffix.lower() in SUFFIXES and text not in Catalog.default():
            places += [folder / text for folder in search_folders(models_dir, extra)]
        found = next((place for place in places if place.is_file()), None)
    except (OSError, RuntimeError, ValueError):  # too long for a file name, or in the home of an unknown user
        return None
    return None if found is None else Resolved(found, identify(found))


def _entry(text: str, folder: Path) -> WeightFile:
    try:
        return Catalog.default().get(text)
    except SettingsError as error:
        path = Path(text)
        if path.name != text or path.suffix.lower() in SUFFIXES:
            elsewhere = f" (for a file elsewhere give the path, as in ./{text})" if path.name == text else ""
            told = f"there is no weight file '{shown(text, 300)}', and none with that name in {folder}{elsewhere}; {error}"
            raise WeightsMissingError(told) from error
        raise


# When and why `auto` last failed to download, by folder. It waits before trying again, or every picture of a batch would take ten seconds.
_unreachable: dict[str, tuple[float, str]] = {}
_ASK_AGAIN_SECONDS = 300.0


def _resolve_auto(
    models_dir: Path | None,
    extra: Sequence[Path],
    folder: Path,
    progress: DownloadProgress | None,
    reason: str | None,
    log: logging.Logger,
    wait: float,
    restores: Restores,
) -> Resolved:
    wanted = Catalog.default().get(AUTO_MODEL)
    found = find(wanted, models_dir, extra)
    if found is not None:
        return Resolved(found, wanted)
    key = str(folder)
    when, problem = _unreachable.get(key, (float("-inf"), ""))
    if reason is None and time.monotonic() - when < _ASK_AGAIN_SECONDS:
        reason = f"{problem}, a short while ago"
    if reason is None:
        failures: list[Failure] = []
        first = first_answering(wanted, wait, failures)
        if first is None:
            reason = summary(failures)
        else:
            try:
                return Resolved(download(wanted, folder, progress=progress, log=log, first=first), wanted)
            except WeightsError as error:
                log.debug("%s", error)
                reason = error.failed if isinstance(error, ModelMissingError) else error.reason or str(error)
        _unreachable[key] = time.monotonic(), reason
    return _best_on_disk(wanted, models_dir, extra, folder, reason, log, restores)


def _best_on_disk(
    wanted: WeightFile, models_dir: Path | None, extra: Sequence[Path], folder: Path, reason: str, log: logging.Logger, restores: Restores
) -> Resolved:
    others = [entry for entry in Catalog.default() if entry.task == "restore" and entry.name != wanted.name]
    # The embedded weights last, whatever their size: they are the smallest network.
    others.sort(key=lambda entry: (entry.embedded, -entry.size))
    for entry in others:
        found = _find(entry, models_dir, extra, restores)
        if found is not None:
            note = (
                f"{wanted.name} is not on disk and was not downloaded ({reason}): using {entry.name} instead ({found}); "
                f"put {wanted.filename} into {folder} for the best result."
            )
            log.warning("%s", note)
            return Resolved(found, entry, note)
    raise missing(wanted, folder, reason)
