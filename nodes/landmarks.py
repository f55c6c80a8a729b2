"""Converts the faces that other nodes found with all their landmarks to FACES: nothing has to be found again.

FACE_LANDMARKS, of ComfyUI's MediaPipe nodes: {"frames": [[{"landmarks_xy": (478, 2) in pixels, "score"}...]...], "image_size": (height,
width)}. POSE_KEYPOINT, of DWPose, OpenPose and SDPose nodes: for each picture {"canvas_width", "canvas_height", "people":
[{"face_keypoints_2d": [x, y, confidence...]}...]}, in pixels of the canvas, or as parts of it (0..1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from ..gpen_core.errors import SettingsError
from .faces import FACES, faces_of
from .load import CATEGORY
from .report import REPORT_TIP, count_faces, shown
from .tensors import frames_of

if TYPE_CHECKING:
    import torch

    from ..gpen_core.faces.face import Face

LANDMARKS = "FACE_LANDMARKS,POSE_KEYPOINT"
_NEEDED = range(27, 68)  # nose, eyes and mouth; the jaw and the brows may be out of the picture


class FacesFromLandmarks:
    TITLE = "Faces from Landmarks (GPEN)"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Takes over faces that other nodes found with their landmarks: ComfyUI's MediaPipe nodes (FACE_LANDMARKS), or DWPose, OpenPose and "
        "SDPose (POSE_KEYPOINT). Nothing is looked for again."
    )
    SEARCH_ALIASES = ("gpen", "face landmarks", "mediapipe", "face mesh", "DWPose", "OpenPose")
    FUNCTION = "convert"
    RETURN_TYPES = (FACES, "INT", "STRING")
    RETURN_NAMES = ("faces", "count", "report")
    OUTPUT_TOOLTIPS = ("The faces, in the order in which they were found.", "The number of faces.", REPORT_TIP)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "The pictures in which the landmarks were found."}),
                "landmarks": (LANDMARKS, {"tooltip": "From a node that finds the landmarks of faces, or whole poses with faces."}),
            }
        }

    def convert(self, image: torch.Tensor, landmarks: Any) -> dict[str, Any]:
        frames = frames_of(image)
        size = (int(frames.shape[1]), int(frames.shape[2]))
        if isinstance(landmarks, dict) and "frames" in landmarks:
            people, found = _of_meshes(cast("dict[str, Any]", landmarks), size)
        else:
            people, found = _of_poses(landmarks, size)
        if len(found) != frames.shape[0]:
            raise SettingsError(
                f"These landmarks are of {len(found)} picture(s), and the image is {frames.shape[0]}: "
                "connect the pictures in which they were found."
            )
        faces = faces_of(frames, found)
        count = len(faces)
        return shown([count_faces(count) if count == people else f"{count_faces(count)} of {people} people"], (faces, count))


def _of_meshes(value: dict[str, Any], size: tuple[int, int]) -> tuple[int, list[list[Face]]]:
    """The number of faces, and those of each picture. Raises SettingsError."""
    from ..gpen_core.faces.landmarks import face_from_landmarks

    try:
        height, width = (int(side) for side in value["image_size"])
        found = [[face_from_landmarks(face["landmarks_xy"], face.get("score", 1.0)) for face in frame] for frame in value["frames"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"These are no FACE_LANDMARKS of ComfyUI's MediaPipe nodes: {error!r}.") from error
    if (height, width) != size:
        raise SettingsError(
            f"These landmarks are of pictures of {width}x{height} pixels, and the image has {size[1]}x{size[0]}: connect the pictures in "
            "which they were found."
        )
    return sum(map(len, found)), found


def _of_poses(value: Any, size: tuple[int, int]) -> tuple[int, list[list[Face]]]:
    """The number of people, and the faces of each picture. Raises SettingsError."""
    people, found = 0, cast("list[list[Face]]", [])
    try:
        for frame in cast("Sequence[Any]", value if isinstance(value, (list, tuple)) else [value]):
            canvas = (float(frame["canvas_width"]), float(frame["canvas_height"]))
            bodies = frame["people"]
            people += len(bodies)
            faces = (_of_pose(body.get("face_keypoints_2d"), canvas, size) for body in bodies)
            found.append([face for face in faces if face is not None])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(f"These are no POSE_KEYPOINT of DWPose, OpenPose or SDPose nodes: {error!r}.") from error
    return people, found


def _of_pose(flat: Any, canvas: tuple[float, float], size: tuple[int, int]) -> Face | None:
    """One person's face in the picture; None if it is not seen. size: of the picture, (height, width)."""
    import numpy as np

    from ..gpen_core.faces.landmarks import face_from_landmarks

    points = np.asarray(flat if flat is not None else [], np.float64).reshape(-1, 3)
    if len(points) not in (68, 70) or not (points[_NEEDED, 2] > 0).all():
        return None
    # Points that were not seen are put where one is that was, so that they do not widen the box.
    places = np.where(points[:, 2:] > 0, points[:, :2], points[30, :2])
    # Parts of the canvas, or pixels, whose centres are at whole numbers: no face is two pixels large.
    parts = places if places.max() <= 2 else (places + 0.5) / np.array(canvas)
    return face_from_landmarks(parts * np.array([size[1], size[0]]) - 0.5, float(points[_NEEDED, 2].mean().clip(0, 1)))
