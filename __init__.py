"""Gives ComfyUI the nodes. Does nothing anywhere else; the library is `gpen_core`."""

from __future__ import annotations

import sys

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]

WEB_DIRECTORY = "./web"

# The nodes in ComfyUI's older form; None where it takes the newer one from `comfy_entrypoint`, since it looks here first.
classes: dict[str, type] | None = {}
titles: dict[str, str] | None = {}

if __package__ and "folder_paths" in sys.modules:  # imported as a package, by a running ComfyUI
    from . import nodes

    if nodes.comfy_entrypoint is None:
        classes, titles = nodes.NODE_CLASS_MAPPINGS, nodes.NODE_DISPLAY_NAME_MAPPINGS
    else:
        classes = titles = None
        comfy_entrypoint = nodes.comfy_entrypoint

NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = classes, titles
