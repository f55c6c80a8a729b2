"""Soft masks in the crop that say where a restored face replaces the picture: 1 on the face, exactly 0 at the crop's border.

Two kinds: an ellipse fitted to the five landmarks (needs nothing else), and a face parser's outline of the face, the official method
(GPEN `face_parse/face_parsing.py` and `FaceEnhancement.mask_postprocess`, described in docs/gpen.md). The parser is ParseNet, or BiSeNet
from the file that FaceFusion's users have. `occlusion` narrows either mask where something is in front of the face.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import FeatureMissingError, SettingsError, WeightsError, WeightsMissingError, shown
from ..pixels import Pixels
from ..runtime import or_cpu
from ..weights.folders import find_file, how_to_get
from ..weights.onnx_file import OnnxFile
from .align import invert

Mask = NDArray[np.float32]
Parser = Callable[[Pixels], NDArray[np.integer[Any]]]

DEFAULT_FEATHER = 0.5

PARSING_SIZE = 512
FACE_CLASSES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17)  # of 19; not background 0, hat 14, cloth 18
PARSING_FRAME = 26  # pixels at 512 set to 0, so that no straight edge of the crop shows
PARSING_SIGMA = 4.0  # of the official GaussianBlur, applied twice
PARSENET_FILES = ("parsing_parsenet.pth", "ParseNet-latest.pth")  # facexlib's and GPEN's names for the same weights
PARSENET_ADDRESS = f"https://github.com/xinntao/facexlib/releases/download/v0.2.2/{PARSENET_FILES[0]}"
# ParseNet's classes by the names in the setting `mask_regions`. 0, the background, has none.
REGION_CLASSES: dict[str, tuple[int, ...]] = {
    "skin": (1,), "nose": (2,), "glasses": (3,), "eyes": (4, 5), "brows": (6, 7), "ears": (8, 9), "mouth": (10,), "lips": (11, 12),
    "hair": (13,), "hat": (14,), "earrings": (15,), "necklace": (16,), "neck": (17,), "cloth": (18,),
}  # fmt: skip

# FaceFusion's names, the larger network first; the last is of its first releases.
BISENET_FILES = ("bisenet_resnet_34.onnx", "bisenet_resnet_18.onnx", "face_parser.onnx")
# BiSeNet's classes in their order (zllrunning/face-parsing.PyTorch), as ParseNet's numbers.
_BISENET_CLASSES = np.array([0, 1, 6, 7, 4, 5, 3, 8, 9, 15, 2, 10, 11, 12, 17, 16, 18, 13, 14], np.uint8)
_IMAGENET_MEAN, _IMAGENET_SPREAD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)

# As shares of the crop's side: the mask is 0 up to the first distance from the border and reaches full weight at the second.
_BORDER_ZERO, _BORDER_FULL = 0.02, 0.08
_WIDEST_BAND = 0.6  # of the ellipse's radius, at feather 1
_INVISIBLE = 1.0 / 4096.0  # below this a mask changes no 8-bit pixel and hardly any 16-bit pixel, so it becomes 0


def landmark_mask(landmarks: ArrayLike, size: int, *, feather: float = DEFAULT_FEATHER) -> Mask:
    """A soft ellipse from hairline to chin and from cheek to cheek, upright with the face.

    landmarks: (5, 2), pixels of the crop: eyes, nose, mouth corners (such as template_points()). size: side of the crop.
    feather: 0..1: 0 is a hard (one pixel) edge, 1 fades the mask over the outer 60 % of the ellipse's radius (0.5: over 30 %).
    Returns (size, size) float32, 0..1, exactly 0 at the border. Raises SettingsError for a feather out of range.
    """
    _check_feather(feather)
    points = np.asarray(landmarks, np.float64)
    eyes, mouth = points[:2].mean(axis=0), points[3:5].mean(axis=0)
    down = mouth - eyes
    tall = float(np.hypot(*down))
    wide = float(np.hypot(*(points[1] - points[0])))
    if tall < 1e-6:
        # Eyes and mouth coincide (a face looking far down): take "down" at right angles to the line between the eyes.
        across = points[1] - points[0]
        down = np.array([-across[1], across[0]])
        tall = float(np.hypot(*down))
    if tall < 1e-6:
        return np.zeros((size, size), np.float32)
    axis = down / float(np.hypot(*down))
    # Turning the head aside brings the eyes together, bending it down brings eyes and mouth together; its size stays the same.
    tall, wide = max(tall, 0.9 * wide), max(wide, 0.8 * tall)
    # Where the mask reaches 0. At the default feather it is 1/2 at hairline, cheeks and chin, and 1 on all facial features.
    centre = eyes + axis * (0.38 * tall)
    half_height, half_width = 1.5 * tall, 1.3 * wide
    x = np.arange(size, dtype=np.float32)[None, :] - np.float32(centre[0])
    y = np.arange(size, dtype=np.float32)[:, None] - np.float32(centre[1])
    along = (x * np.float32(axis[0]) + y * np.float32(axis[1])) / np.float32(half_height)
    across_ = (x * np.float32(-axis[1]) + y * np.float32(axis[0])) / np.float32(half_width)
    radius = np.sqrt(along * along + across_ * across_)
    band = max(_WIDEST_BAND * feather, 1.0 / max(1.0, min(half_height, half_width)))
    mask = _smoothstep((np.float32(1.0) - radius) / np.float32(band))
    ramp = _border_ramp(size)
    return mask * np.minimum(ramp[:, None], ramp[None, :])


def square_mask(size: int) -> Mask:
    """All of the crop but its border: (size, size) float32, 1 inside, falling to 0 like every mask."""
    ramp = _border_ramp(size)
    return np.minimum(ramp[:, None], ramp[None, :])


def parsing_mask(
    parser: Parser, restored_face: Pixels, size: int, *, feather: float = DEFAULT_FEATHER, classes: Iterable[int] = FACE_CLASSES
) -> Mask:
    """The official mask: ParseNet's classes on the restored face, cut off at a frame, blurred, resized to the crop's size.

    parser: what load_parser() returns, or any callable from a (512, 512, 3) float32 RGB 0..1 face to (512, 512) class numbers 0..18.
    restored_face: (S, S, 3) float32 RGB 0..1. feather: DEFAULT_FEATHER is the official softness; the blur grows in proportion.
    classes: those that are pasted; the official ones if not given. Returns (size, size) float32, 0..1, exactly 0 at the border.
    """
    _check_feather(feather)
    how = cv2.INTER_AREA if restored_face.shape[0] > PARSING_SIZE else cv2.INTER_LINEAR
    face = cast(Pixels, cv2.resize(restored_face, (PARSING_SIZE, PARSING_SIZE), interpolation=how))
    return soften_classes(parser(face), size, feather=feather, wanted=classes)


def classes_of(regions: Iterable[str]) -> tuple[int, ...]:
    """ParseNet's classes of the regions with these names (REGION_CLASSES)."""
    return tuple(number for region in regions for number in REGION_CLASSES[region])


def soften_classes(
    classes: NDArray[np.integer[Any]], size: int, *, feather: float = DEFAULT_FEATHER, wanted: Iterable[int] = FACE_CLASSES
) -> Mask:
    """Turns ParseNet's class numbers (512, 512) into a soft (size, size) float32 mask. wanted: its classes. See parsing_mask()."""
    _check_feather(feather)
    if classes.shape != (PARSING_SIZE, PARSING_SIZE):
        raise ValueError(f"A face parser must return {PARSING_SIZE}x{PARSING_SIZE} classes, not {classes.shape}.")
    softness = feather / DEFAULT_FEATHER
    # A wider blur needs a wider frame, or the crop's straight edge would show.
    frame = max(PARSING_FRAME, round(PARSING_FRAME * softness))
    mask = np.zeros((PARSING_SIZE, PARSING_SIZE), np.float32)
    inner = slice(frame, PARSING_SIZE - frame)
    mask[inner, inner] = np.isin(classes[inner, inner], tuple(wanted))
    mask = blur_twice(mask, PARSING_SIGMA * softness)
    if size != PARSING_SIZE:
        how = cv2.INTER_AREA if size < PARSING_SIZE else cv2.INTER_LINEAR
        mask = cast(Mask, cv2.resize(mask, (size, size), interpolation=how))
    mask[mask < _INVISIBLE] = 0.0
    return np.minimum(mask, np.float32(1.0))


def clip_to_picture(mask: Mask, matrix: ArrayLike, picture_shape: Sequence[int]) -> Mask:
    """Sets the mask to 0 beyond the picture, where a face cut by the border has no pixels to measure or replace.

    mask: (S, S). matrix: (2, 3), picture to crop. picture_shape: (height, width, ...). Returns a new (S, S) mask. The cut is hard,
    because a mask needs no fading at the picture's border.
    """
    back = invert(matrix).astype(np.float32)
    size = mask.shape[0]
    u = np.arange(size, dtype=np.float32)[None, :]
    v = np.arange(size, dtype=np.float32)[:, None]
    x = back[0, 0] * u + back[0, 1] * v + back[0, 2]
    y = back[1, 0] * u + back[1, 1] * v + back[1, 2]
    inside = (x >= -0.5) & (x <= picture_shape[1] - 0.5) & (y >= -0.5) & (y <= picture_shape[0] - 0.5)
    return np.where(inside, mask, np.float32(0.0))


class ParseNet:
    """ParseNet with its weights: a (512, 512, 3) float32 RGB 0..1 face in, (512, 512) uint8 classes 0..18 out.

    If the device's memory runs out, the CPU takes over and the log says so.
    """

    def __init__(self, network: Any, device: Any) -> None:
        """network: on the device already."""
        import torch

        self.network = network
        self.device = torch.device(device)

    def __call__(self, face: Pixels) -> NDArray[np.uint8]:
        return or_cpu("ParseNet", self.device, lambda device: self._classes(device, face))

    def _classes(self, device: Any, face: Pixels) -> NDArray[np.uint8]:
        import torch

        if device != self.device:
            self.network.to(device)
            self.device = device
        x = torch.tensor(face.transpose(2, 0, 1)[None].copy(), device=device) * 2.0 - 1.0
        with torch.inference_mode():
            scores: Any = self.network(x)[0]
            classes: Any = scores[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
        return classes


class BiSeNet:
    """BiSeNet from FaceFusion's .onnx file, used as ParseNet is: the same picture in, ParseNet's class numbers out. Runs on the CPU."""

    def __init__(self, path: Path) -> None:
        """Raises WeightsError, which names the file, if it cannot be used."""
        side = PARSING_SIZE
        self._network = OnnxFile(path, (1, 3, side, side), (1, len(_BISENET_CLASSES), side, side))

    def __call__(self, face: Pixels) -> NDArray[np.uint8]:
        x = (face - _IMAGENET_MEAN) / _IMAGENET_SPREAD
        scores = self._network(np.ascontiguousarray(x.transpose(2, 0, 1)[None]))
        return _BISENET_CLASSES[scores[0].argmax(axis=0)]


def load_parser(folders: Sequence[Path], device: Any = "cpu") -> Parser:
    """The face parser for parsing_mask(): ParseNet if facexlib and its weights are there, otherwise BiSeNet from its file.

    folders: searched in order. device: for ParseNet. Raises what load_parsenet() raises if there is neither, WeightsError for a bad file.
    """
    path = _bisenet_instead(folders)
    return load_parsenet(folders, device) if path is None else BiSeNet(path)


def need_parser(folders: Sequence[Path]) -> None:
    """Raises FeatureMissingError if load_parser() lacks its package and finds no file that does without."""
    if _bisenet_instead(folders) is None:
        need_parsing_package()


def _bisenet_instead(folders: Sequence[Path]) -> Path | None:
    try:
        need_parsing_package()
        _find_parsenet(folders)
    except (FeatureMissingError, WeightsMissingError):
        return find_file(BISENET_FILES, folders)
    return None


def load_parsenet(where: str | Path | Iterable[str | Path], device: Any = "cpu") -> ParseNet:
    """Loads ParseNet for parsing_mask(). Downloads nothing.

    where: the weight file itself, or folders to search in order for one of PARSENET_FILES. device: anything torch accepts.
    Raises FeatureMissingError if facexlib is not installed, WeightsMissingError if no file is found, WeightsError if it is not
    ParseNet's, DeviceError if the device does not compute.
    """
    path = _find_parsenet(where)
    module = _facexlib_parsenet()

    import torch

    from ..weights.checkpoint import read_state_dict

    state: Any = read_state_dict(path)
    network = module.ParseNet(in_size=PARSING_SIZE, out_size=PARSING_SIZE, parsing_ch=19)
    try:
        network.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise WeightsError(f"{shown(path, 300)} is not ParseNet's weight file; use {PARSENET_FILES[0]} of facexlib 0.2.2.") from error
    network.eval().requires_grad_(False)
    return or_cpu("ParseNet", torch.device(device), lambda where: ParseNet(network.to(where), where))


def need_parsing_package() -> None:
    """Raises FeatureMissingError if load_parsenet() lacks its package."""
    _facexlib_parsenet()


def _find_parsenet(where: str | Path | Iterable[str | Path]) -> Path:
    places = [Path(where)] if isinstance(where, (str, Path)) else [Path(place) for place in where]
    for place in places:
        if place.is_file():
            return place
        for name in PARSENET_FILES:
            if (place / name).is_file():
                return place / name
    raise WeightsMissingError(
        f"The mask parsing needs the weights of a face parser. {how_to_get(PARSENET_FILES[0], PARSENET_ADDRESS, places)}; "
        f"a BiSeNet file also works ({' or '.join(BISENET_FILES)}). Or use the mask landmarks, which needs no file."
    )


def _facexlib_parsenet() -> Any:
    """The module facexlib.parsing.parsenet, without importing facexlib itself.

    The package's __init__ imports torchvision, numba and OpenCV's GUI for detectors that are not used here; this one file needs
    only torch and NumPy.
    """
    spec = importlib.util.find_spec("facexlib")  # for a top-level name this does not import
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        file = Path(place) / "parsing" / "parsenet.py"
        if file.is_file():
            name = "gpen_core._facexlib_parsenet"
            if name in sys.modules:
                return sys.modules[name]
            found = importlib.util.spec_from_file_location(name, file)
            if found is not None and found.loader is not None:
                module = importlib.util.module_from_spec(found)
                found.loader.exec_module(module)
                sys.modules[name] = module
                return module
    raise FeatureMissingError(
        f"The parsing mask needs the package facexlib (pip install --no-deps facexlib) or a BiSeNet file ({' or '.join(BISENET_FILES)}). "
        "Or use the landmark mask."
    )


def _check_feather(feather: float) -> None:
    if not 0.0 <= feather <= 1.0:
        raise SettingsError(f"Mask feather must be between 0 and 1, not {feather}.")


def blur_twice(mask: Mask, sigma: float) -> Mask:
    """The official blur of a mask of PARSING_SIZE pixels."""
    if sigma <= 0.0:
        return mask
    once = cv2.GaussianBlur(mask, (101, 101), sigma)
    return cast(Mask, cv2.GaussianBlur(once, (101, 101), sigma))


def _smoothstep(x: NDArray[Any]) -> Mask:
    t = np.clip(x, 0.0, 1.0).astype(np.float32, copy=False)
    return t * t * (3 - 2 * t)


def _border_ramp(size: int) -> Mask:
    """(size,) float32: 0 on the outermost pixels and 2 % of the side, rising to 1 at 8 %."""
    x = np.arange(size, dtype=np.float32)
    away = np.minimum(x, size - 1 - x) / np.float32(max(1, size))
    ramp = _smoothstep((away - np.float32(_BORDER_ZERO)) / np.float32(_BORDER_FULL - _BORDER_ZERO))
    ramp[[0, -1]] = 0.0
    return ramp
