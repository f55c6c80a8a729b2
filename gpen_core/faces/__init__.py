"""Finding and selecting faces."""

from .detect import Detector, Face, find_faces, make_detector
from .draw import draw_faces
from .select import select_faces

__all__ = ["Detector", "Face", "draw_faces", "find_faces", "make_detector", "select_faces"]
