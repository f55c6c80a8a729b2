"""Decoding and encoding videos on an NVIDIA card, by choice. What the card cannot do, the CPU does, and one line says so. Unmeasured."""

from __future__ import annotations

import importlib
import logging
from fractions import Fraction
from typing import Any

log = logging.getLogger(__name__)

ENCODER = "h264_nvenc"
_FORMATS = ("yuv420p", "yuv444p")  # that every card with an H.264 encoder takes


def opened(av: Any, path: str, **options: Any) -> Any:
    """av.open() for reading, decoding on the card. Raises what av.open() raises where the CPU cannot open the file either."""
    try:
        accelerator = importlib.import_module("av.codec.hwaccel").HWAccel("cuda", allow_software_fallback=True)
        return av.open(path, hwaccel=accelerator, **options)
    except Exception as error:  # an older PyAV, no driver, no card, and also files that nothing can open
        container = av.open(path, **options)
        log.warning("%s: the graphics card cannot decode this video (%s); the CPU decodes it", path, error)
        return container


def encoder_options(av: Any, crf: int, width: int, height: int, form: str, rate: Fraction) -> dict[str, str] | None:
    """The options of ENCODER for a video of that quality, size and pixel format; None where the card cannot encode it."""
    # constqp: like x264's crf, a lower number is better, and 0 is the best there is.
    options = {"rc": "constqp", "qp": str(crf)}
    try:
        if form not in _FORMATS:
            raise ValueError(f"it does not take the pixel format {form}")
        trial = av.CodecContext.create(ENCODER, "w")
        trial.width, trial.height, trial.pix_fmt = width, height, form
        trial.time_base, trial.options = 1 / rate, options
        trial.open()
    except Exception as error:  # no encoder in this PyAV, no driver, no card, a size that it does not take
        log.warning("the graphics card cannot encode this video (%s); the CPU encodes it", error)
        return None
    return options
