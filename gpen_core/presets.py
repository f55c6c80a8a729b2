"""Named sets of settings for kinds of pictures. They lie under what the user sets: explicit settings win over them.

Settings that have a control of their own in one place only (model, device, sizes) are in none, so that every door can offer every preset.
Nor are those that users compare in a plot (strength, fidelity): there, a preset would hide the value 1 or 0 that was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NO_PRESET = "none"


@dataclass(frozen=True)
class Preset:
    """help: for which pictures, in a few words. values: settings of RestoreOptions by name."""

    help: str
    values: Mapping[str, str | int | float | bool]


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "portrait": Preset(
            "one large face",
            MappingProxyType(
                {
                    "max_faces": 1,  # a picture on the wall or a passer-by is not what the portrait is of
                    "order": "largest",
                    "look_closer": False,  # it finds small faces only, and takes most of the time of finding
                }
            ),
        ),
        "group": Preset(
            "many small faces",
            MappingProxyType(
                {
                    "threshold": 0.7,  # small, half hidden or turned faces have lower scores
                    "look_closer": True,
                    "min_size": 12,  # of fewer pixels, a network makes somebody else
                    "guard": True,  # among many there is always one that goes wrong, and nobody looks at each
                }
            ),
        ),
        "old-photo": Preset(
            "scanned prints",
            MappingProxyType(
                {
                    "threshold": 0.8,  # faces are soft and damaged
                    "rotations": True,  # scans often lie on their side
                    "detail": 0.0,  # what is finer than the network draws is grain and paper here
                    "auto_strength": "large",  # a face that is sharp all the same would lose by that
                    "colour_match": True,  # the face keeps the tint of a sepia or faded print
                    "guard": True,  # damage can be taken for features
                }
            ),
        ),
        "anime-safe": Preset(
            "drawings, or pictures with drawings in them",
            MappingProxyType(
                {
                    # Of 320 portraits, half of them badly degraded, 319 score higher. A drawing has to look like a photograph for it.
                    "threshold": 0.98,
                    "look_closer": False,  # enlarged, small drawn faces look more like photographs
                    "rotations": False,
                    "auto_strength": "all",  # drawn lines are sharp
                    "guard": True,
                }
            ),
        ),
        "video": Preset(
            "frames of a video",
            MappingProxyType(
                {
                    "threshold": 0.8,  # a face whose score is about the usual 0.9 would come and go
                    "look_closer": False,  # quicker
                    "rotations": False,
                    "order": "left",  # numbers change less between frames than in the order of size
                }
            ),
        ),
    }
)
