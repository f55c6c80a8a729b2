"""The landmarks of the example portrait, as other software finds them (portrait_mesh.json says which)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
MESH = np.array(json.loads((HERE / "portrait_mesh.json").read_text("utf-8"))["points"])
# Where the 68 points of iBUG 300-W are in MediaPipe's mesh: jaw, brows, nose, eyes, mouth.
IBUG = [
    *(127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91, 78, 82, 13, 312, 308, 317, 14, 87),
]
