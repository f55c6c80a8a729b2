"""Faces that ComfyUI's own nodes, and pose nodes, found: their boxes and landmarks as FACES, and ours as their boxes.

Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else).
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from in_process import node, refused, report_of, restore, settings
from portrait_mesh import IBUG, MESH

SIZE = (320, 320)
ASIDE = np.array([20, 0])


@pytest.fixture(scope="module")
def found(comfy, portrait):
    """The portrait's face, as our detector finds it."""
    return node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces"))[0].frames[0][0]


def meshes(*frames, size=SIZE):
    """FACE_LANDMARKS as ComfyUI 0.24's Detect Face Landmarks (MediaPipe) gives it, as far as it is read."""
    faces = [[{"landmarks_xy": points, "score": 0.875, "presence": 0.9} for points in frame] for frame in frames]
    return {"frames": faces, "image_size": size, "connection_sets": {}}


def poses(*frames, canvas=(320, 320), unit=1.0):
    """POSE_KEYPOINT as ComfyUI's SDPose and the DWPose nodes give it. frames: the points of each picture's people, or None for a face that
    is not seen."""
    width, height = canvas

    def flat(points):
        if points is None:
            return []
        points = (points + 0.5) * np.array([width / 320, height / 320]) - 0.5
        points = (points + 0.5) / np.array(canvas) if unit == "parts" else points
        return np.concatenate([points, np.full((len(points), 1), 0.5)], axis=1).ravel().tolist()

    people = [[{"pose_keypoints_2d": [0.0] * 54, "face_keypoints_2d": flat(points)} for points in frame] for frame in frames]
    return [{"canvas_width": width, "canvas_height": height, "people": people} for people in people]


def same_place(face, found, shift=0.0):
    between = np.linalg.norm(found.landmarks[1] - found.landmarks[0])
    return np.linalg.norm(face.landmarks - np.array([shift, 0]) - found.landmarks, axis=1).max() < 0.12 * between


@pytest.mark.parametrize(
    "given",
    [
        meshes([MESH]),
        poses([MESH[IBUG]]),
        poses([MESH[[*IBUG, 468, 473]]], canvas=(640, 1280)),
        poses([MESH[IBUG]], canvas=(512, 768), unit="parts"),
    ],
    ids=["MediaPipe", "pose", "pose found in an enlarged picture", "pose in parts of the canvas"],
)
def test_landmarks_are_taken_over_and_restored(comfy, portrait, model, found, given):
    faces, count = node(comfy, "GPENFacesFromLandmarks").convert(portrait, given)
    assert count == 1 and same_place(faces.frames[0][0], found)
    assert faces.frames[0][0].score in (0.875, 0.5)
    ours = restore(comfy, portrait, model=model)[0]
    theirs = restore(comfy, portrait, model=model, detected_faces=faces)[0]
    change = float((ours - portrait).abs().mean())
    assert float((ours - theirs).abs().mean()) < 0.5 * change, "the same face, cropped nearly as our detector would"


def test_each_picture_has_its_own(comfy, torch, portrait, found):
    batch = torch.cat([portrait, torch.full_like(portrait, 0.5), portrait.roll(20, 2)])
    for given in (meshes([MESH], [], [MESH + ASIDE]), poses([MESH[IBUG]], [], [None, MESH[IBUG] + ASIDE])):
        faces, count = node(comfy, "GPENFacesFromLandmarks").convert(batch, given)
        assert count == 2 and [len(frame) for frame in faces.frames] == [1, 0, 1]
        assert same_place(faces.frames[0][0], found) and same_place(faces.frames[2][0], found, 20)


def test_people_whose_faces_are_not_seen_are_counted_and_left(comfy, portrait):
    from_behind = poses([MESH[IBUG], None, MESH[IBUG]])
    values = from_behind[0]["people"][2]["face_keypoints_2d"]
    values[3 * 48 : 3 * 48 + 3] = [0.0, 0.0, 0.0]  # a corner of the mouth
    del from_behind[0]["people"][1]["face_keypoints_2d"]
    assert report_of(comfy, "GPENFacesFromLandmarks", "convert", portrait, from_behind) == "1 face of 3 people"
    assert report_of(comfy, "GPENFacesFromLandmarks", "convert", portrait, meshes([MESH, MESH])) == "2 faces"


def test_a_jaw_outside_the_picture_does_not_widen_the_box(comfy, portrait):
    given = poses([MESH[IBUG]])
    values = given[0]["people"][0]["face_keypoints_2d"]
    values[:3] = [0.0, 0.0, 0.0]
    faces, _ = node(comfy, "GPENFacesFromLandmarks").convert(portrait, given)
    assert faces.frames[0][0].box[0] > 80


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (meshes([MESH], size=(640, 640)), "pictures of 640x640 pixels"),
        (meshes([MESH], []), "of 2 picture"),
        (poses([MESH[IBUG]], []), "of 2 picture"),
        (meshes([MESH[:5]]), "68, 70, 468 or 478"),
        ({"frames": [[{}]], "image_size": SIZE}, "no FACE_LANDMARKS"),
        ([{"people": []}], "no POSE_KEYPOINT"),
        ("landmarks", "no POSE_KEYPOINT"),
        (None, "no POSE_KEYPOINT"),
    ],
)
def test_what_does_not_fit_is_refused(comfy, portrait, given, says):
    with refused("SettingsError", says):
        node(comfy, "GPENFacesFromLandmarks").convert(portrait, given)


def test_comfyuis_own_boxes(comfy, torch, portrait, found):
    """BOUNDING_BOX: dicts, whatever order of numbers is chosen for other packs' lists."""
    batch = torch.cat([portrait, torch.full_like(portrait, 0.5)])
    faces, _ = node(comfy, "GPENDetectFaces").detect(batch, **settings(comfy, "GPENDetectFaces"))
    _, _, boxes = node(comfy, "GPENFacesToBBox").convert(faces, "left, top, right, bottom")
    assert [len(frame) for frame in boxes] == [1, 0]
    x0, y0, x1, y1 = found.box
    box = boxes[0][0]
    assert (box["x"], box["y"], box["label"]) == (round(x0), round(y0), "face") and box["score"] == found.score
    assert abs(box["width"] - (x1 - x0)) <= 1 and abs(box["height"] - (y1 - y0)) <= 1
    json.dumps(boxes)  # plain numbers
    for form in ("x, y, width, height", "left, top, right, bottom"):
        for given, pictures in ((boxes, batch), (box, portrait)):
            back, count = node(comfy, "GPENFacesFromBBox").convert(pictures, given, form, detector="retinaface-mobile", threshold=0.9)
            assert count == 1 and np.abs(back.frames[0][0].landmarks - found.landmarks).max() < 2


def test_comfyui_connects_them(comfy):
    """By the types that its own nodes name."""
    validate = pytest.importorskip("comfy_execution.validation").validate_node_input
    kinds = {
        ("GPENFacesFromBBox", "bboxes"): ("BBOX", "BOUNDING_BOX"),
        ("GPENFacesFromLandmarks", "landmarks"): ("FACE_LANDMARKS", "POSE_KEYPOINT"),
    }
    for (name, key), theirs in kinds.items():
        taken = comfy.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()["required"][key][0]
        assert all(validate(one, taken) for one in theirs) and not validate("IMAGE", taken)
    assert "BOUNDING_BOX" in comfy.NODE_CLASS_MAPPINGS["GPENFacesToBBox"].RETURN_TYPES
