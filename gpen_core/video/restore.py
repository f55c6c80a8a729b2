"""Restores every frame of a video and keeps everything else. Needs PyAV (`pip install av`), imported for the first video.

Keeps the number of frames and the time of each (also variable rates), size, pixel aspect, colour space and range, bit depth, audio and
subtitles (copied without re-encoding), the order of all tracks, chapters and titles. A rotated video is stored upright, like pictures.
Log messages name what cannot be kept: pixel formats missing from H.264, and tracks that the container does not support.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FeatureMissingError, OutputExistsError, PictureError, SettingsError
from ..options import RestoreOptions
from ..pictures.disk import part_beside
from ..progress import Progress
from ..replacing import replace
from ..weights.sums import sha256_of
from . import card
from .codecs import DEFAULT, check_codec, check_encoder
from .cut import CUT, is_cut_short
from .parts import MisfitError, Parts, Start, forget_finished
from .rate import rate_of
from .restored import VideoResult
from .span import Span, check_span, open_options
from .work import Work

if TYPE_CHECKING:
    from ..restore.restorer import FaceRestorer

log = logging.getLogger(__name__)

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv")
CRF = 18  # x264's scale: 0 is lossless, 23 its default, 18 nearly indistinguishable from the original
_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
CONTAINER_SUFFIXES = tuple(_MUXERS)


def is_video_path(path: str | os.PathLike[str]) -> bool:
    """True if the name has a video suffix (see SUFFIXES)."""
    path = Path(path)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def container_suffix(path: str | os.PathLike[str]) -> str:
    """The output suffix for an input of this name: the same if its container supports H.264 and other audio, otherwise .mkv."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in _MUXERS else ".mkv"


def load_av() -> Any:
    """Imports PyAV. Raises FeatureMissingError if that fails."""
    try:
        return importlib.import_module("av")
    except Exception as error:  # a broken build can raise anything
        raise FeatureMissingError(f"videos need PyAV, which cannot be imported ({error}); install it with: pip install av") from error


def restore_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    restorer: FaceRestorer,
    *,
    overwrite: bool = False,
    crf: int = CRF,
    progress: Progress | None = None,
    on_card: bool = False,
    trim: str | None = None,
    codec: str = DEFAULT,
    fps: Fraction | float | str | None = None,
    resume: bool = False,
    restart: bool = False,
) -> VideoResult:
    """Restores all frames of a video; the target appears whole or not at all.

    target: .mp4, .m4v, .mov or .mkv. crf: 0 (lossless) to 51. progress: receives every frame; once its `stop` returns True, the
    remaining frames are written unchanged. on_card: decode and encode on an NVIDIA card; what it cannot do, the CPU does, and the log says
    so. trim: START-END (see `Span.parse`): only these frames are restored and written, with their sound and subtitles. codec: of CODECS;
    crf is on its encoder's own scale. fps: at most so many frames a second; the others are left out before they are restored. A frame
    that fails keeps its pixels. If the file is cut short, all readable frames are kept and the result says so. resume: keeps what is done
    in a folder beside the target (`parts`), and goes on where an earlier call with the same source, settings and weights was killed.
    restart: the same, but forgets what an earlier one left.
    Raises PictureError, SettingsError or FeatureMissingError.
    """
    source, target = Path(source), Path(target)
    if not 0 <= crf <= 51:
        raise SettingsError(f"crf must be between 0 (lossless) and 51; {crf} is not")
    span = None if trim is None else Span.parse(trim)
    rate = None if fps is None else rate_of(fps)
    av = load_av()
    if restorer.options.output_size == "native":
        raise PictureError(f"{source}: the output size 'native' would differ from frame to frame; use 'keep' or 'factor' for videos")
    if target.suffix.lower() not in _MUXERS:
        raise PictureError(f"cannot write the video {target}: its name must end with {', '.join(_MUXERS)}")
    if target.exists() and not overwrite:
        forget_finished(target)
        raise OutputExistsError(target)
    chosen = check_codec(codec, target)
    check_encoder(av, chosen)
    if span is not None:
        check_span(av, source, span)
    restorer.prepare()
    told = progress or Progress()

    def made(place: Callable[[], Path], parts: Parts | None = None, start: Start | None = None) -> tuple[VideoResult, Path]:
        """The result, and the whole video under a temporary name."""
        with _opened(av, source, on_card) as reading, chosen.silent():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                part = place()
                with _created(av, part, _MUXERS[target.suffix.lower()]) as writing:
                    work = Work(av, source, reading, writing, restorer, crf, told, on_card, chosen, span, rate, parts, start)
                    return work.run(), part
            except OSError as error:  # FFmpeg's disk errors are OSErrors too
                raise _cannot_write(target, error) from error
            except av.FFmpegError as error:
                raise PictureError(f"cannot create the video {target} from {source}: {error}") from error

    def check_free() -> None:
        # The source is closed before: it may be the target, and Windows replaces no open file.
        if target.exists() and not overwrite:  # another program wrote it meanwhile
            raise OutputExistsError(target)

    if resume or restart:
        codes = {
            "crf": crf,
            "codec": codec,
            "trim": None if span is None else str(span),
            "fps": None if rate is None else str(rate),
            "video_on_card": on_card,
        }
        return _made_in_parts(target, made, check_free, lambda: _identity(source, restorer, codes), restart)
    part = part_beside(target)
    try:
        result, _ = made(lambda: part)
        check_free()
        try:
            replace(part, target)
        except OSError as error:
            raise _cannot_write(target, error) from error
    finally:  # also after Ctrl-C; after success there is nothing left to remove
        part.unlink(missing_ok=True)
    return result


def _made_in_parts(
    target: Path,
    made: Callable[[Callable[[], Path], Parts, Start | None], tuple[VideoResult, Path]],
    check_free: Callable[[], None],
    identity: Callable[[], dict[str, Any]],
    restart: bool,
) -> VideoResult:
    """Makes the video in parts that are kept, from where an earlier run ended."""
    with Parts(target, identity).held() as parts:
        try:
            if restart:
                parts.clear()
            for start in parts.starts():
                with suppress(MisfitError):
                    result, whole = made(parts.whole, parts, start)
                    check_free()
                    parts.finish(whole)
                    return result
            raise AssertionError  # the beginning always fits
        except OSError as error:
            raise _cannot_write(target, error) from error
        except BaseException:
            if parts.frames:
                text = "%s: the first %d frames are kept in %s; run the same again, and it goes on after them"
                log.warning(text, target, parts.frames, parts.folder)
            raise


def _cannot_write(target: Path, error: OSError) -> PictureError:
    return PictureError(f"cannot write the video {target}: {error.strerror or error}")


def _identity(source: Path, restorer: FaceRestorer, codes: dict[str, Any]) -> dict[str, Any]:
    """What a video is restored from, and how. The device may differ, as in jobs."""
    status = source.stat()
    options = {option.name: getattr(restorer.options, option.name, None) for option in RestoreOptions.table() if option.name != "device"}
    weights = restorer.model_name if restorer.weights is None else sha256_of(restorer.weights)
    named = str(options.get("person") or "").strip()
    with suppress(OSError):
        picture = Path(named).stat() if named else None
        options["person"] = [named, picture.st_size, picture.st_mtime_ns] if picture else named
    return {**options, **codes, "weights": weights, "source": [status.st_size, status.st_mtime_ns]}


@contextmanager
def _opened(av: Any, source: Path, on_card: bool) -> Generator[Any, None, None]:
    """Opens the container for reading. Raises PictureError if it is not a video."""
    try:
        options = open_options(av)
        container = card.opened(av, str(source), **options) if on_card else av.open(str(source), **options)
    except FileNotFoundError:
        raise PictureError(f"cannot read the video {source}: there is no such file") from None
    except (av.FFmpegError, OSError, IndexError) as error:  # IndexError: the file ends before its first track
        reason = CUT if is_cut_short(source) else getattr(error, "strerror", None) or error
        raise PictureError(f"cannot read the video {source}: {reason}") from error
    try:
        yield container
    finally:
        container.close()


@contextmanager
def _created(av: Any, part: Path, muxer: str) -> Generator[Any, None, None]:
    """Opens the container for writing."""
    options = {"movflags": "+faststart"} if muxer in ("mp4", "mov") else {}
    container = av.open(str(part), "w", format=muxer, options=options)
    try:
        yield container
    except BaseException:
        try:
            container.close()
        except Exception:  # the file is discarded, and only the first error matters
            log.debug("closing the unfinished video failed", exc_info=True)
        raise
    container.close()
