"""Holes at the border of a face's square, and how large what is painted white must be."""

from __future__ import annotations

import numpy as np
import pytest
from test_restorer import face_at, noise
from test_tasks_photo import Network, hole_in, worker


def test_the_mask_says_how_much_of_the_new_face_is_there() -> None:
    """Also where a hole leaves the face's square, at whose border the new face fades out."""
    picture, paint, face = noise((160, 200, 3), np.float32), np.float32(0.25), face_at(30, 20, 110)
    for strength in (1.0, 0.5):
        hole = hole_in((160, 200), (60, 100, 5, 195)) * np.float32(strength)
        result = worker("inpaint", Network((0.25, 0.25, 0.25)), [face], feather=0)(picture, hole=hole)
        mask = result.mask
        assert np.abs(result.image - (picture + (paint - picture) * mask[..., None])).max() < 1e-5
        row = mask[80]
        assert row.max() == strength and not row[:28].any() and not row[142:].any()
        assert (row[45:125] == strength).all(), "all but the border of the square is filled whole"
        rising = row[28:45]
        assert (np.diff(rising) >= 0).all() and ((rising > 0) & (rising < strength)).sum() >= 3, "and there it fades"


@pytest.mark.parametrize("side", [128, 512])
def test_what_counts_as_painted_grows_with_the_face(side: int) -> None:
    """A light in the eye is white as well: the speck that a large face may have is a stroke in a small one."""
    picture = np.full((560, 560, 3), 0.5, np.float32)
    middle = 20 + side // 2
    picture[middle : middle + 6, middle : middle + 6] = 1
    work = worker("inpaint", Network((0.2, 0.2, 0.2), 128), [face_at(20, 20, side)], feather=0)
    assert (work(picture).image != picture).any() == (side == 128)
    picture[middle : middle + 20, middle : middle + 20] = 1
    changed = (work(picture).image != picture).any(axis=2)
    assert changed[middle : middle + 20, middle : middle + 20].mean() > 0.9, "a stroke is one in any face"
