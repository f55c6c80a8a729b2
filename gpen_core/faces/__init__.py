"""Faces in a picture: finding them, choosing among them, drawing them."""

from __future__ import annotations

from .detect import THRESHOLD, Detector, find_faces, make_detector
from .draw import draw_faces
from .face import Face
from .select import ORDERS, parse_indices, select_faces

__all__ = ["ORDERS", "THRESHOLD", "Detector", "Face", "draw_faces", "find_faces", "make_detector", "parse_indices", "select_faces"]
