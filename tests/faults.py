"""Faults at every step of a small real run: any call of a function of the core fails, or gives NaN, or an interrupt comes at any line.

After each, the same restorer restores the next picture bit for bit as a new one does, and no file is half written.
"""

from __future__ import annotations

import functools
import gc
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_fused import lively

from gpen_core import FaceRestorer, Progress, RestoreOptions
from gpen_core.errors import GpenError
from gpen_core.faces.retinaface import RetinaFaceMobile
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.place import place
from gpen_core.pictures import from_array, read_picture, write_picture
from gpen_core.restore.results import RestoreResult
from gpen_core.weights.architecture import Architecture

ROOT = Path(__file__).resolve().parents[1]
SIDE = 80
CORE = str(ROOT / "gpen_core")
OPTIONS: dict[str, Any] = {
    "device": "cpu", "look_closer": False, "occlusion": "change", "fidelity": 0.2, "colour_match": True, "output_size": "factor",
    "factor": 1.25, "auto_strength": "all",
}  # fmt: skip


class Fault(Exception):
    """What a broken library or a bug would raise; the core knows nothing of it."""


class HostInterrupt(Exception):
    """A host's own word for stop. Hosts raise it when they are told of progress, or asked whether to stop."""


def small_picture() -> np.ndarray:
    """Two faces, side by side."""
    with Image.open(ROOT / "examples" / "portrait.png") as picture:
        one = np.asarray(picture.convert("RGB").crop((80, 48, 240, 208)).resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return np.concatenate([one, one[:, ::-1]], axis=1)


@dataclass
class World:
    """A run from file to file: reads a picture with two faces, restores it, and writes the result."""

    folder: Path
    network: Any = None
    detector: Any = None
    wanted: bytes = b""
    mask: Any = None
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network = place(FusedGenerator(lively(Architecture(64, 1, 0.03125))), "cpu")
        self.detector = RetinaFaceMobile("cpu")
        write_picture(from_array(small_picture()), self.folder / "in.png")
        result = self.run(self.restorer(), "wanted.png")
        assert [face.status for face in result.faces] == ["restored"] * 2, result.faces
        self.wanted, self.mask = (self.folder / "wanted.png").read_bytes(), result.mask

    def restorer(self, progress: Progress | None = None) -> FaceRestorer:
        return FaceRestorer(RestoreOptions(**OPTIONS), network=self.network, detector=self.detector, progress=progress)

    def run(self, restorer: FaceRestorer, name: str) -> RestoreResult:
        result = restorer(read_picture(self.folder / "in.png"))
        write_picture(result.image, self.folder / name, overwrite=True)
        return result

    def after(self, restorer: FaceRestorer, what: str) -> None:
        """Adds to `lost` if the restorer or the files suffered."""
        restorer.progress = Progress()
        try:
            self.run(restorer, "next.png")
        except BaseException as error:  # counted and shown
            self.lost.append(f"{what}: the next picture ends in {type(error).__name__}: {error}")
            return
        if (self.folder / "next.png").read_bytes() != self.wanted:
            self.lost.append(f"{what}: the next picture is another one")

    def check(self, result: RestoreResult, what: str) -> None:
        """A run that went on in spite of a fault: what is not restored is as it was, and nothing is invalid."""
        image = result.image.pixels
        if not np.isfinite(image).all() or not np.isfinite(result.mask).all():
            self.lost.append(f"{what}: invalid values in the result")
        failed = [face for face in result.faces if face.status != "restored"]
        if len(failed) == len(result.faces):
            if result.mask.any():
                self.lost.append(f"{what}: no face was restored, and yet something changed")
            return
        for face in failed:
            x, y = ((face.face.box[0] + face.face.box[2]) / 2, (face.face.box[1] + face.face.box[3]) / 2)
            scale = image.shape[0] / SIDE
            if result.mask[round(y * scale), round(x * scale)] != 0:
                self.lost.append(f"{what}: a face that failed was changed")

    def files(self, what: str) -> None:
        """The target of a run that failed is whole or not there, and nothing else is left."""
        out = self.folder / "out.png"
        names = {path.name for path in self.folder.iterdir()} - {"in.png", "wanted.png", "next.png", "out.png"}
        if names:
            self.lost.append(f"{what}: {sorted(names)} left in the folder")
            for name in names:
                (self.folder / name).unlink()
        if out.exists():
            try:
                read_picture(out)
            except GpenError as error:
                self.lost.append(f"{what}: half a file: {error}")
            out.unlink()


@contextmanager
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as name:
        yield World(Path(name))


# --- failing at the n-th call, or at a line ----------------------------------------------------------------------------


def _is_core(code: CodeType) -> bool:
    return code.co_filename.startswith(CORE)


def name_of(code: CodeType) -> str:
    """Of a function of the core: steps/mask.py:92 square_mask."""
    return f"{code.co_filename[len(CORE) + 1 :].replace(chr(92), '/')}:{code.co_firstlineno} {code.co_name}"


def calls(work: Callable[[], Any]) -> list[str]:
    """The functions of the core that the work calls, in their order, as file:name."""
    found: list[str] = []

    def trace(frame: FrameType, event: str, _: Any) -> None:
        if _is_core(frame.f_code):
            found.append(name_of(frame.f_code))

    _traced(trace, work)
    return found


def lines(work: Callable[[], Any]) -> int:
    """How many lines of the core the work runs through."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not _is_core(frame.f_code):
            return None
        count += event == "line"
        return trace

    _traced(trace, work)
    return count


def failing(work: Callable[[], Any], at: int | str, error: BaseException, *, line: bool = False) -> bool:
    """Does the work, and raises the error at its call (or line) of that number, or at the first call of the function of that name.

    Returns whether that was reached and the work went on in spite of it.
    """
    count, raised = -1, False
    wanted = "line" if line else "call"

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count, raised
        if raised or not _is_core(frame.f_code):
            return None
        count += event == wanted
        if event == wanted and at in (count, name_of(frame.f_code)):
            raised = True
            raise error
        return trace if line else None

    _traced(trace, work)
    return raised


def _traced(trace: Any, work: Callable[[], Any]) -> None:
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)


def one_fault(world_: World, at: int | str, make: Callable[[], BaseException], *, line: bool = False, check: bool = True) -> str:
    """One run with one fault. Returns how it ended: "raised" (that error), "told" (an error of ours), "went on", "not reached", or
    "ignored by Python" (it came while a generator was closed)."""
    restorer, error, ended = world_.restorer(), make(), "went on"
    what = f"{'line' if line else 'call'} {at}, {type(error).__name__}"

    def work() -> None:
        world_.check(world_.run(restorer, "out.png"), what)

    ignored: list[Any] = []  # by Python, which closes a generator that nobody needs any more and lets no error out of that
    hook, sys.unraisablehook = sys.unraisablehook, lambda told: ignored.append(told.exc_value is error)
    try:
        if not failing(work, at, error, line=line):
            ended = "not reached"
        elif any(ignored):
            ended = "ignored by Python"
    except GpenError:
        ended = "told"
    except BaseException as caught:
        ended = "raised"
        if caught is not error and caught.__cause__ is not error and caught.__context__ is not error:
            world_.lost.append(f"{what}: {type(error).__name__} became {type(caught).__name__}: {caught}")
    finally:
        sys.unraisablehook = hook
    if isinstance(error, KeyboardInterrupt) and ended in ("told", "went on"):
        world_.lost.append(f"{what}: an interrupt was swallowed")
    error.__traceback__ = None
    world_.files(what)
    if check:
        world_.after(restorer, what)
    return ended


# --- NaN in what a function gives ----------------------------------------------------------------------------------------

_SPOILED = ("gpen_core.steps", "gpen_core.faces", "gpen_core.network", "gpen_core.restore")
# The enlarged picture itself, when no model has a part in it (an upscaler's result is checked), and numbers about it.
_OF_THE_PICTURE = ("background.", "compose.enlarged", "paste._three")


class Spoiler:
    """Puts NaN into the floats that a function of the core gives: into those of the n-th call, counted over all functions."""

    def __init__(self) -> None:
        self.at, self.names = -1, []

    @contextmanager
    def used(self) -> Iterator[None]:
        wrapped: dict[Any, Any] = {}
        with pytest.MonkeyPatch.context() as patch:
            for name, module in list(sys.modules.items()):
                for key, value in list(vars(module).items()) if name.startswith("gpen_core") else ():
                    if isinstance(value, FunctionType) and value.__module__.startswith(_SPOILED):
                        wrapped.setdefault(value, self._wrapped(value))
                        patch.setattr(module, key, wrapped[value])
            for kind, name in ((FusedGenerator, "forward"), (RetinaFaceMobile, "predict")):
                patch.setattr(kind, name, self._wrapped(getattr(kind, name)))
            yield

    def _wrapped(self, work: Callable[..., Any]) -> Callable[..., Any]:
        name = f"{work.__module__.rpartition('.')[2]}.{work.__name__}"

        @functools.wraps(work)
        def called(*given: Any, **named: Any) -> Any:
            value = work(*given, **named)
            bad = _spoiled(value)
            if bad is value or name.startswith(_OF_THE_PICTURE):
                return value
            self.names.append(name)
            return bad if len(self.names) - 1 == self.at else value

        return called


def _spoiled(value: Any) -> Any:
    """The same with NaN in place of every float; the value itself where there is none."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return np.full_like(value, np.nan)
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return torch.full_like(value, torch.nan)
    if isinstance(value, float):
        return float("nan")
    if isinstance(value, tuple | list) and any(_spoiled(one) is not one for one in value):
        return getattr(type(value), "_make", type(value))(map(_spoiled, value))
    return value


def one_nan(world_: World, spoiler: Spoiler, at: int, what: str, *, check: bool = True) -> str:
    """One run with NaN in one place. Returns how it ended: "raised", "told" (an error of ours), "kept" (a face stays), or "no harm"."""
    restorer, ended = world_.restorer(), "raised"
    what = f"NaN {at} from {what}"
    spoiler.at, spoiler.names = at, []
    try:
        result = world_.run(restorer, "out.png")
        world_.check(result, what)
        ended = "no harm" if all(face.status == "restored" for face in result.faces) and len(result.faces) == 2 else "kept"
    except GpenError:
        ended = "told"
    except (ValueError, LookupError, StopIteration):  # numbers that are not finite have no place in an array
        pass
    spoiler.at = -1
    world_.files(what)
    if check:
        world_.after(restorer, what)
    return ended


def alive() -> int:
    """How many arrays, tensors and frames there are."""
    gc.collect()
    return sum(type(thing) in (np.ndarray, torch.Tensor, FrameType) for thing in gc.get_objects())
