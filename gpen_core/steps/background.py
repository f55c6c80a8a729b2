"""The background: its output size, and how it is enlarged.

Lanczos needs nothing; Real-ESRGAN (Wang et al., 2021) needs spandrel, or basicsr if only that can be imported; a host may pass its
own upscaler. Pictures are float32 RGB (H, W, 3), 0..1.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import FeatureMissingError, GpenError, SettingsError, WeightsError, WeightsMissingError, shown
from ..pixels import Pixels
from ..progress import Progress, Stopped
from ..runtime import is_out_of_memory, or_cpu
from .align import scale_of

Upscaler = Callable[[Pixels], Pixels]
log = logging.getLogger(__name__)

# The limits of every enlargement. 200 megapixels are 2.4 GB as float32 RGB; many viewers and textures end at 16384.
MAX_SCALE = 8.0
MAX_LONG_SIDE = 16384
MAX_PIXELS = 200_000_000
ADDRESS = "https://github.com/xinntao/Real-ESRGAN/releases"

_STRIP = 64  # rows enlarged at once
_ASKED = 256  # rows between checks for a stop


def largest_scale(picture_shape: Sequence[int]) -> float:
    """The largest allowed scale for a picture (height, width, ...): within MAX_SCALE, MAX_LONG_SIDE and MAX_PIXELS, at least 1."""
    height, width = picture_shape[0], picture_shape[1]
    return max(1.0, min(MAX_SCALE, MAX_LONG_SIDE / max(height, width), float(np.sqrt(MAX_PIXELS / (height * width)))))


def output_scale(
    mode: Literal["keep", "native"] | float, matrices: Iterable[ArrayLike], picture_shape: Sequence[int], *, most: float | None = None
) -> float:
    """The factor by which the picture is enlarged before faces are pasted.

    mode: "keep" is 1; a number is the factor; "native" enlarges until no restored face has to shrink when pasted: the most crop
    pixels per picture pixel among the faces. matrices: the (2, 3) picture-to-crop matrices of the faces to restore.
    picture_shape: (height, width, ...). most: the limit, by default largest_scale(picture_shape); "native" stops there. Returns the given
    factor, else at least 1. Raises SettingsError for a factor that is not positive or exceeds the limit.
    """
    bound = largest_scale(picture_shape) if most is None else most
    if mode == "keep":
        return 1.0
    if mode == "native":
        return min(bound, max([1.0, *(scale_of(matrix) for matrix in matrices)]))
    factor = float(mode)
    if not 0.0 < factor < np.inf:
        raise SettingsError(f"The picture cannot be enlarged by {mode}; give a factor above 0, keep or native.")
    if factor > max(1.0, bound):
        raise SettingsError(
            f"A picture of {picture_shape[1]}x{picture_shape[0]} can be enlarged at most {bound:.2f} times, not {factor:g}: the limits are "
            f"{MAX_SCALE:g} times, {MAX_LONG_SIDE} pixels a side and {MAX_PIXELS // 1_000_000} megapixels. Choose a smaller factor."
        )
    return factor


def scaled_shape(picture_shape: Sequence[int], scale: float) -> tuple[int, int]:
    """(height, width) after enlarging by scale, in whole pixels, at least 1."""
    return max(1, round(picture_shape[0] * scale)), max(1, round(picture_shape[1] * scale))


def enlarge(
    picture: Pixels,
    scale: float,
    *,
    alpha: NDArray[np.float32] | None = None,
    upscaler: Upscaler | None = None,
    progress: Progress | None = None,
) -> tuple[Pixels, NDArray[np.float32] | None]:
    """Enlarges the picture, and its alpha if it has one, to scaled_shape(picture.shape, scale).

    picture: (H, W, 3). alpha: (H, W), 0..1; always by Lanczos. upscaler: anything that enlarges a picture, by any factor
    (load_realesrgan(), a host's model); its result is resized to the output size. None is Lanczos. The inputs are not changed.
    Returns copies, untouched by any upscaler, if scale is 1 or `progress` says stop before everything is enlarged.
    Raises GpenError if the upscaler returns an invalid picture.
    """
    shape = scaled_shape(picture.shape, scale)
    progress = progress or Progress()
    try:
        if shape == picture.shape[:2]:
            return picture.copy(), None if alpha is None else _resize(alpha, shape)
        larger_alpha = None if alpha is None else _resize(alpha, shape, progress)
        larger = picture
        if upscaler is not None:
            _go_on(progress, 0, 1)
            larger = np.asarray(upscaler(picture), np.float32)
            if larger.ndim != 3 or larger.shape[2] != 3 or not np.isfinite(larger).all():
                raise GpenError(
                    "The upscaler chosen for the background returned an invalid picture; choose lanczos for the background instead."
                )
        return _resize(larger, shape, progress), larger_alpha
    except Stopped:
        return picture.copy(), None if alpha is None else alpha.copy()


def _go_on(progress: Progress, done: int, total: int) -> None:
    """Reports progress. Raises Stopped if the user stops it."""
    if progress.stop():
        raise Stopped
    progress.report(done, total, "enlarging the background")


def _resize(picture: NDArray[np.float32], shape: tuple[int, int], progress: Progress | None = None) -> NDArray[np.float32]:
    """Resizes: up by Lanczos over 8x8 pixels, down by area means; clips to 0..1. Raises Stopped if `progress` says so."""
    progress = progress or Progress()
    if shape == picture.shape[:2]:
        return np.clip(picture, 0.0, 1.0).astype(np.float32)
    if shape[0] < picture.shape[0] or shape[1] < picture.shape[1]:
        _go_on(progress, 0, 1)
        resized = cast("NDArray[np.float32]", cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_AREA))
        return np.clip(resized, 0.0, 1.0, out=resized)
    resized = np.empty((*shape, *picture.shape[2:]), np.float32)
    for top in range(0, shape[0], _STRIP):
        if top % _ASKED == 0:
            _go_on(progress, top, shape[0])
        part = resized[top : top + _STRIP]
        first, weights = _lanczos_rows(picture.shape[0], shape[0], top, top + len(part))
        rows = np.ascontiguousarray(picture[first : first + weights.shape[1]])
        # OpenCV only widens the rows here: it cannot add rows to a strip that begins between two rows of the picture.
        wide = cv2.resize(rows, (shape[1], len(rows)), interpolation=cv2.INTER_LANCZOS4)
        np.matmul(weights, np.asarray(wide).reshape(len(rows), -1), out=part.reshape(len(part), -1))
        np.clip(part, 0.0, 1.0, out=part)
    return resized


def _lanczos_rows(length: int, larger: int, top: int, bottom: int) -> tuple[int, NDArray[np.float32]]:
    """For rows top..bottom of a picture enlarged from `length` to `larger` rows: the first source row, and weights (rows, source rows)."""
    centres = (np.arange(top, bottom) + 0.5) * (length / larger) - 0.5
    taps = np.floor(centres).astype(int)[:, None] + np.arange(-3, 5)
    apart = centres[:, None] - taps
    values = np.sinc(apart) * np.sinc(apart / 4)
    values /= values.sum(axis=1, keepdims=True)
    taps = np.clip(taps, 0, length - 1)
    first = int(taps.min())
    weights = np.zeros((bottom - top, int(taps.max()) + 1 - first))
    np.add.at(weights, (np.arange(bottom - top)[:, None], taps - first), values)
    return first, weights.astype(np.float32)


def in_tiles(
    picture: Pixels, factor: int, upscale: Upscaler, *, tile: int = 256, overlap: int = 32, progress: Progress | None = None
) -> Pixels:
    """Runs an upscaler tile by tile; neighbouring tiles fade into each other over `overlap` pixels, which leaves no seam.

    picture: (H, W, 3). factor: how much upscale enlarges: (h, w, 3) to (factor*h, factor*w, 3). tile, overlap: in pixels of the picture.
    The outer quarter of an overlap is ignored, because a network sees the tile's edge there. Returns (factor*H, factor*W, 3).
    Raises Stopped if progress.stop() says so.
    """
    height, width = picture.shape[:2]
    progress = progress or Progress()
    overlap = min(overlap, tile // 2)  # with more, three tiles would meet
    rows, columns = _spans(height, factor, tile, overlap), _spans(width, factor, tile, overlap)
    result = np.zeros((height * factor, width * factor, 3), np.float32)
    for i, (top, bottom, fade_y) in enumerate(rows):
        for j, (left, right, fade_x) in enumerate(columns):
            _go_on(progress, i * len(columns) + j, len(rows) * len(columns))
            larger = upscale(np.ascontiguousarray(picture[top:bottom, left:right]))
            area = result[top * factor : bottom * factor, left * factor : right * factor]
            area += larger * fade_y[:, None, None] * fade_x[None, :, None]
    return result


def _spans(length: int, factor: int, tile: int, overlap: int) -> list[tuple[int, int, NDArray[np.float32]]]:
    """The tiles along one side: (start, stop, weights of length (stop - start) * factor); the weights of all tiles sum to 1 everywhere."""
    step = max(1, tile - overlap)
    count = max(1, -(-(length - overlap) // step))
    spans: list[tuple[int, int, NDArray[np.float32]]] = []
    edge, rise = 0.25 * overlap, 0.5 * overlap
    for i in range(count):
        start, stop = i * step, min(length, i * step + tile)
        position = (np.arange((stop - start) * factor, dtype=np.float32) + 0.5) / factor
        weight = np.ones_like(position)
        # In an overlap of n pixels: 0 for n/4, then a linear rise, then 1 for n/4; the neighbour's fall mirrors it.
        if i > 0:
            weight *= np.clip((position - edge) / rise, 0.0, 1.0)
        if i < count - 1:
            weight *= np.clip((tile - position - edge) / rise, 0.0, 1.0)
        spans.append((start, stop, weight.astype(np.float32, copy=False)))
    return spans


class RealEsrgan:
    """A Real-ESRGAN network as an upscaler: (H, W, 3) float32 RGB 0..1 in, (factor*H, factor*W, 3), 0..1, out.

    If memory runs out, tiles become smaller, which changes the result only where they fade; then the CPU takes over. The log says so.
    """

    def __init__(self, network: Any, factor: int, device: Any, *, tile: int = 256, progress: Progress | None = None) -> None:
        """network: on the device already."""
        import torch

        self.factor = factor
        self._network = network
        self._device = torch.device(device)
        self._tile = self._largest_tile = tile
        self._progress = progress

    def __call__(self, picture: Pixels) -> Pixels:
        return or_cpu("Real-ESRGAN", self._device, lambda device: self._enlarged(device, picture))

    def _enlarged(self, device: Any, picture: Pixels) -> Pixels:
        if device != self._device:
            self._network.to(device)
            self._device, self._tile = device, self._largest_tile
        while True:
            try:
                return in_tiles(picture, self.factor, self._upscale, tile=self._tile, progress=self._progress)
            except Exception as error:
                if self._tile <= 96 or not is_out_of_memory(error):
                    raise
            # Outside the except block, so that the error no longer keeps tensors alive.
            self._tile //= 2  # for the next picture as well
            log.warning("not enough memory on %s for Real-ESRGAN; trying again in tiles of %d pixels", device, self._tile)

    def _upscale(self, part: Pixels) -> Pixels:
        import torch

        height, width = part.shape[:2]
        # The x2 network folds blocks of 2x2 pixels into channels, the x1 network 4x4: pad to whole blocks.
        padded = cast(Pixels, cv2.copyMakeBorder(part, 0, -height % 4, 0, -width % 4, cv2.BORDER_REPLICATE))
        x = torch.tensor(padded.transpose(2, 0, 1)[None].copy(), device=self._device)
        with torch.inference_mode():
            y: Any = self._network(x)
            larger: Pixels = y[0].float().clamp(0, 1).cpu().numpy().transpose(1, 2, 0)
        return larger[: height * self.factor, : width * self.factor]


def load_realesrgan(path: str | Path, device: Any = "cpu", *, tile: int = 256, progress: Progress | None = None) -> RealEsrgan:
    """Loads Real-ESRGAN (RealESRGAN_x2plus.pth, _x4plus.pth, or another RRDB file) as an upscaler for enlarge().

    path: the weight file; nothing is downloaded. tile: side of the tiles in pixels of the picture. progress: reports every tile; if it
    says stop, the upscaler raises Stopped, which enlarge() handles. Raises FeatureMissingError if neither spandrel nor basicsr can be
    imported, WeightsError for another kind of file, WeightsMissingError for a missing one, DeviceError if the device does not compute.
    """
    import torch

    from ..weights.checkpoint import read_state_dict

    path = Path(path)
    if not path.is_file():
        raise WeightsMissingError(
            f"{shown(path, 300)} does not exist; put Real-ESRGAN's weights there (from {ADDRESS}), or choose lanczos for the background."
        )
    state: dict[str, Any] = read_state_dict(path)
    settings = _rrdb_settings(state, path)
    make = _maker()
    try:
        network = make(state, settings)
    except Exception as error:  # spandrel's own error classes, which change with its version; basicsr's RuntimeError
        raise _not_realesrgan(path) from error
    network.eval()
    scale = settings["scale"]
    return or_cpu(
        "Real-ESRGAN", torch.device(device), lambda where: RealEsrgan(network.to(where), scale, where, tile=tile, progress=progress)
    )


def need_realesrgan_package() -> None:
    """Raises FeatureMissingError if load_realesrgan() lacks its packages."""
    _maker()


def _not_realesrgan(path: str | Path) -> WeightsError:
    return WeightsError(f"{shown(path, 300)} is not a Real-ESRGAN weight file (such as RealESRGAN_x2plus.pth or RealESRGAN_x4plus.pth).")


def _rrdb_settings(state: dict[str, Any], path: str | Path) -> dict[str, int]:
    """RRDBNet's settings, read from the tensors' shapes."""
    try:
        features, channels = (int(n) for n in state["conv_first.weight"].shape[:2])
        growth = int(state["body.0.rdb1.conv1.weight"].shape[0])
        scale = {3: 4, 12: 2, 48: 1}[channels]
    except (KeyError, AttributeError, ValueError) as error:
        raise _not_realesrgan(path) from error
    blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("body."))
    return {"num_in_ch": 3, "num_out_ch": 3, "scale": scale, "num_feat": features, "num_block": blocks, "num_grow_ch": growth}


def _maker() -> Callable[[dict[str, Any], dict[str, int]], Any]:
    """A function that builds a network from a state dict and RRDBNet's settings. Raises FeatureMissingError."""
    try:
        spandrel: Any = importlib.import_module("spandrel")
    except Exception as error:  # not only ImportError: a torchvision for another torch raises RuntimeError
        try:
            rrdbnet: Any = importlib.import_module("basicsr.archs.rrdbnet_arch").RRDBNet
        except Exception:  # usually because it imports what torchvision removed, which a user cannot fix
            raise FeatureMissingError(
                f"Enlarging the background with Real-ESRGAN needs the package spandrel, with a torchvision that matches torch ({error}). "
                "Install it (pip install spandrel), or choose lanczos for the background."
            ) from error

        def of_basicsr(state: dict[str, Any], settings: dict[str, int]) -> Any:
            network = rrdbnet(**settings)
            network.load_state_dict(state, strict=True)
            return network.requires_grad_(False)

        return of_basicsr
    return lambda state, _settings: spandrel.ModelLoader(device="cpu").load_from_state_dict(state)
