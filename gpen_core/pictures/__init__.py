"""Picture input and output: converts files, arrays and PIL images to a `Picture` and back to their original form.

A Picture is float32 RGB in 0..1 with a separate alpha; `Picture.form` keeps everything else (dtype, grey, EXIF, ICC profile, text
chunks). A picture with unchanged pixels is written bit-identical in every lossless format.
"""

from __future__ import annotations

from .arrays import from_array, to_array, to_pil
from .form import Form, Picture
from .libraries import MAX_PIXELS, pixels_at_most
from .metadata import TextChunk
from .reading import SUFFIXES, decode_picture, is_picture_path, read_frames, read_picture
from .writing import WRITE_SUFFIXES, check_frames, encode_picture, frame_file, write_picture

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "WRITE_SUFFIXES",
    "Form",
    "Picture",
    "TextChunk",
    "check_frames",
    "decode_picture",
    "encode_picture",
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
