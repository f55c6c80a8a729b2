"""A Face from the landmarks that other software finds: MediaPipe's face mesh, or the 68 points of iBUG 300-W (dlib, OpenPose, DWPose).

How far these lie from where RetinaFace puts its five was measured on 177 portraits (benchmarks/face_meshes.py): 0.03 to 0.06 of the
distance between the eyes in the median, as far as two detectors differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SettingsError
from .face import Face

# For each of the five landmarks, the points whose mean it is. "Left" is the picture's left, where these standards say the person's right.
IBUG = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47), (30,), (48,), (54,))
MESH = ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380), (4,), (61,), (291,))
MESH_WITH_IRISES = ((468,), (473,), *MESH[2:])
# By the number of points: where the five are, and how far a detector's box reaches above the points, as a part of their height.
_STANDARDS = {68: (IBUG, 0.37), 70: (IBUG, 0.37), 468: (MESH, 0.15), 478: (MESH_WITH_IRISES, 0.15)}


def face_from_landmarks(points: ArrayLike, score: float = 1.0) -> Face:
    """points: (N, 2) or (N, 3), x and y in pixels (whole numbers are pixel centres). N: 68, or 70 with OpenPose's pupils (iBUG 300-W); 468,
    or 478 with irises (MediaPipe's face mesh). score: 0..1. The box is about what RetinaFace's would be. Raises SettingsError.
    """
    given = np.asarray(points, np.float64)
    if given.ndim != 2 or given.shape[1] not in (2, 3) or len(given) not in _STANDARDS:
        raise SettingsError(f"Landmarks must be 68, 70, 468 or 478 points (x, y), not {' x '.join(map(str, given.shape))} numbers.")
    given = given[:, :2]
    if not np.isfinite(given).all():
        raise SettingsError("Landmarks must be numbers; some of these are not.")
    where, above = _STANDARDS[len(given)]
    five = np.array([given[list(which)].mean(axis=0) for which in where])
    everything = np.concatenate([given, _forehead(given, five, above)])
    (x0, y0), (x1, y1) = everything.min(axis=0), everything.max(axis=0)
    return Face((float(x0), float(y0), float(x1), float(y1)), five.astype(np.float32), float(score))


def _forehead(points: NDArray[np.float64], five: NDArray[np.float64], above: float) -> NDArray[np.float64]:
    """The points above the eyes, moved up the face, whichever way that is in the picture."""
    eyes, mouth = five[:2].mean(axis=0), five[3:].mean(axis=0)
    length = float(np.linalg.norm(eyes - mouth))
    if length == 0.0:
        return points[:0]
    up = (eyes - mouth) / length
    height = points @ up
    return points[height > eyes @ up] + up * above * np.ptp(height)
