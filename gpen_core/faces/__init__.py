"""Finding faces, and choosing among them."""

from .detect import Detector, Face, find_faces, make_detector
from .draw import draw_faces
from .select import parse_indices, select_faces

__all__ = ["Detector", "Face", "draw_faces", "find_faces", "make_detector", "parse_indices", "select_faces"]
