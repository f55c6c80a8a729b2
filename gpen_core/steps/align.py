"""Aligning a face to the network's square crop, and converting coordinates between picture and crop.

Coordinates are pixels; (0, 0) is the centre of the top left pixel, as in OpenCV. A "matrix" is always 2x3 and maps picture to crop.
Source of the numbers: GPEN (Yang et al., CVPR 2021) `face_model/align_faces.py`, described in docs/gpen.md; Umeyama, PAMI 1991.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GpenError, SettingsError
from ..pixels import Pixels

Matrix = NDArray[np.float64]
Border = Literal["reflect", "replicate", "constant"]

# ArcFace's points as published for 96x112, moved by 8 in x for 112x112, plus 28 pixels of padding on every side: 168 units.
_ARCFACE = np.array(
    [
        [30.29459953, 51.69630051],
        [65.53179932, 51.50139999],
        [48.02519989, 71.73660278],
        [33.54930115, 92.3655014],
        [62.72990036, 92.20410156],
    ]
)
TEMPLATES: dict[str, NDArray[np.float64]] = {
    "gpen": (_ARCFACE + np.array([8.0 + 28.0, 28.0])) / 168.0,
    # FFHQ as used by FaceFusion, ReActor and facexlib (at 512: 192.98 239.95 and so on).
    "ffhq": np.array(
        [
            [0.37691676, 0.46864664],
            [0.62285697, 0.46912813],
            [0.50123859, 0.61331904],
            [0.39308822, 0.72541100],
            [0.61150205, 0.72490465],
        ]
    ),
}
for _points in TEMPLATES.values():
    _points.setflags(write=False)

_BORDERS: dict[str, int] = {"reflect": cv2.BORDER_REFLECT_101, "replicate": cv2.BORDER_REPLICATE, "constant": cv2.BORDER_CONSTANT}
# The prefilter's sigma in pixels of the target. Measured: 0.5 halves the aliasing but takes a quarter more detail from a pasted face.
_SIGMA = 0.4
_FLATTEST = 0.02  # points whose spread across is under 2 % of their spread along count as one line
# Correlation with the template: a mirrored face reaches 0.23; a five-point model of a head turned by up to 90 degrees to the side and
# 60 up or down reaches at least 0.55.
_WORST_FIT = 0.5


class AlignmentError(GpenError):
    """The five landmarks of a face do not fit the alignment template. Other faces can still be restored."""


def template_points(name: str, size: int) -> NDArray[np.float64]:
    """The five points (left eye, right eye, nose, left and right mouth corner) of an alignment template.

    name: a key of TEMPLATES. size: side of the crop in pixels. Returns (5, 2) float64, x and y in pixels of the crop: the unit template
    times size, without half-pixel offsets, as in the official code and FaceFusion. Raises SettingsError for an unknown name.
    """
    if name not in TEMPLATES:
        raise SettingsError(f"There is no alignment template {name!r}; choose one of {', '.join(sorted(TEMPLATES))}.")
    return TEMPLATES[name] * float(size)


def similarity(src: ArrayLike, dst: ArrayLike) -> Matrix:
    """The rotation, uniform scale and shift that best map src to dst by least squares, never a reflection.

    src, dst: (N, 2) points, N >= 2; for faces the landmarks in the picture and template_points(). Returns (2, 3) float64.
    Raises AlignmentError if the points are not finite, coincide, lie on one line, or are not arranged like the template.
    """
    a = np.asarray(src, np.float64)
    b = np.asarray(dst, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 2 or len(a) < 2:
        raise AlignmentError(f"Landmarks must be x, y pairs, one per template point; got {a.shape} for {b.shape}.")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise AlignmentError("The landmarks of this face are not finite numbers.")
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    a, b = a - mean_a, b - mean_b
    for points in (a, b):
        spread = np.linalg.svd(points, compute_uv=False)
        if spread[0] <= 1e-6 or (len(points) > 2 and spread[1] < _FLATTEST * spread[0]):
            raise AlignmentError("The landmarks of this face lie on one point or one line, so it cannot be aligned.")
    # In the plane Umeyama's solution is one complex number z = sum(conj(a) b) / sum |a|^2.
    real, imaginary = float((a * b).sum()), float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum())
    power_a, power_b = float((a * a).sum()), float((b * b).sum())
    if np.hypot(real, imaginary) < _WORST_FIT * np.sqrt(power_a * power_b):
        raise AlignmentError("The landmarks of this face are not arranged like a face (mirrored or mixed up).")
    c, s = real / power_a, imaginary / power_a
    linear = np.array([[c, -s], [s, c]])
    return np.column_stack([linear, mean_b - linear @ mean_a])


def invert(matrix: ArrayLike) -> Matrix:
    """Inverts an affine (2, 3) matrix, such as picture to crop into crop to picture. Raises AlignmentError if it has no inverse."""
    m = np.asarray(matrix, np.float64)
    determinant = float(m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])
    if not np.isfinite(m).all() or determinant == 0.0:
        raise AlignmentError("The transform of this face cannot be inverted.")
    linear = np.array([[m[1, 1], -m[0, 1]], [-m[1, 0], m[0, 0]]]) / determinant
    return np.column_stack([linear, -linear @ m[:, 2]])


def joined(second: Matrix, first: Matrix) -> Matrix:
    """The (2, 3) matrix of `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def transform(points: ArrayLike, matrix: ArrayLike) -> NDArray[np.float64]:
    """Applies a (2, 3) matrix to points (N, 2): (N, 2) float64."""
    m = np.asarray(matrix, np.float64)
    return np.asarray(points, np.float64) @ m[:, :2].T + m[:, 2]


def scale_of(matrix: ArrayLike) -> float:
    """Pixels of the crop per pixel of the picture (above 1: the crop enlarges)."""
    m = np.asarray(matrix, np.float64)
    return float(np.sqrt(abs(m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])))


def rescale_matrix(matrix: ArrayLike, old_shape: Sequence[int], new_shape: Sequence[int]) -> Matrix:
    """The matrix of the same face after resizing the whole picture (pixel edges stay in place, as in cv2.resize and Pillow).

    old_shape, new_shape: (height, width, ...) of the picture before and after. Returns (2, 3) float64: resized picture to crop.
    """
    m = np.asarray(matrix, np.float64)
    ratio = np.array([old_shape[1] / new_shape[1], old_shape[0] / new_shape[0]])
    return np.column_stack([m[:, :2] * ratio, m[:, 2] + m[:, :2] @ (0.5 * ratio - 0.5)])


def crop_face(picture: Pixels, matrix: ArrayLike, size: int) -> Pixels:
    """Crops the aligned square face that the network needs.

    picture: (H, W, 3) float32. matrix: (2, 3), picture to crop. Returns (size, size, 3) float32, values as in the picture.
    Beyond its border the picture is mirrored, so that the network sees no black wedge, and shrinking averages pixels; the official code
    fills with 0 and skips pixels. Only the face's rectangle of the picture is read.
    """
    return warp(picture, matrix, (size, size), border="reflect")


def warp(source: Pixels, matrix: ArrayLike, shape: tuple[int, int], *, border: Border, antialias: bool = True) -> Pixels:
    """Warps source by a matrix (source to target) into a target of shape (height, width); bilinear, antialiased when shrinking.

    source: (h, w) or (h, w, C) float32, C <= 4, not changed. border: what lies beyond the source ("constant" is 0).
    Shrinking by a factor r first averages whole blocks of pixels while r stays at 2 or more, then applies a Gaussian of
    0.4 * sqrt(r^2 - 1) pixels: this leaves 45 % of the contrast at the target's finest detail, and 4 % at twice that frequency.
    """
    height, width = shape
    back = invert(matrix)
    shrink = max(1.0, scale_of(back)) if antialias else 1.0
    # Read only the part of the source that the target shows, so an 8K picture costs no more than its face.
    corners = transform([[-1, -1], [width, -1], [-1, height], [width, height]], back)
    margin = 2.0 + 3.0 * shrink
    low = np.floor(corners.min(axis=0) - margin)
    high = np.ceil(corners.max(axis=0) + margin) + 1
    limits = np.array([source.shape[1], source.shape[0]])
    # Keep at least one row and column, so that "reflect" has something to mirror even if the face lies outside.
    x0, y0 = (int(v) for v in np.clip(low, 0, limits - 1))
    x1, y1 = (int(v) for v in np.maximum(np.clip(high, 0, limits), (x0 + 1, y0 + 1)))
    part = source[y0:y1, x0:x1]
    mode = _BORDERS[border]
    factor = int(shrink / 2.0)
    if factor >= 2:
        part = _shrink_blocks(part, factor)
    else:
        factor = 1
    rest = shrink / factor
    if rest > 1.0:
        sigma = _SIGMA * float(np.sqrt(rest * rest - 1.0))
        # Four sigmas on either side, OpenCV's default for float pictures. Beyond a "constant" border the filter sees 0 too.
        side = 2 * int(np.ceil(4.0 * sigma)) + 1
        part = cast(Pixels, cv2.GaussianBlur(part, (side, side), sigma, borderType=mode))
    # Centre of block u: factor * u + (factor - 1) / 2, counted from the part's corner.
    offset = np.array([x0, y0], np.float64) + (factor - 1) / 2.0
    to_part = np.column_stack([back[:, :2] / factor, (back[:, 2] - offset) / factor])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(part, to_part, (width, height), flags=flags, borderMode=mode, borderValue=(0.0,))
    return cast(Pixels, warped)


def _shrink_blocks(part: Pixels, factor: int) -> Pixels:
    """The mean of factor x factor blocks; the last ones are padded by repeating the edge."""
    height, width = part.shape[:2]
    down, right = -height % factor, -width % factor
    if down or right:
        part = cast(Pixels, cv2.copyMakeBorder(part, 0, down, 0, right, cv2.BORDER_REPLICATE))
    size = (part.shape[1] // factor, part.shape[0] // factor)
    return cast(Pixels, cv2.resize(part, size, interpolation=cv2.INTER_AREA))
