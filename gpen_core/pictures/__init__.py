"""Pictures in and out of the core: files, arrays and PIL images become a `Picture`, and go out the way they came in.

A Picture is float32 RGB in 0..1 with its alpha beside it; `Picture.form` remembers everything else (numbers, grey, EXIF, ICC profile,
text chunks). A picture whose pixels were not touched leaves bit-identical in every lossless format.
"""

from __future__ import annotations

from .arrays import from_array, to_array, to_pil
from .form import Form, Picture
from .libraries import MAX_PIXELS, pixels_at_most
from .metadata import TextChunk
from .reading import SUFFIXES, is_picture_path, read_frames, read_picture
from .writing import WRITE_SUFFIXES, check_frames, frame_file, write_picture

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "WRITE_SUFFIXES",
    "Form",
    "Picture",
    "TextChunk",
    "check_frames",
    "frame_file",
    "from_array",
    "is_picture_path",
    "pixels_at_most",
    "read_frames",
    "read_picture",
    "to_array",
    "to_pil",
    "write_picture",
]
