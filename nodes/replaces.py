"""Tells ComfyUI which nodes of other packs ours can stand in for, where a workflow has them and their pack is missing.

From ComfyUI 0.13 on: the page offers the replacement, and a prompt sent to the server is changed without asking. A pack that is installed
keeps its nodes.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

log = logging.getLogger(__name__)

_REACTOR = ["facedetection", "model", "visibility", "codeformer_weight"]
_CHOICE_OF_FACES = ["face_selection", "sort_by", "reverse_order", "take_start", "take_count"]

# For each node of another pack: our node, which of its inputs are taken over {ours: theirs}, and its widgets in the order in which a
# workflow stores their values. Only inputs that mean the same: CodeFormer's weight has no counterpart, nor have the names of its weights.
STAND_INS: dict[str, tuple[str, dict[str, str], list[str]]] = {
    # ReActor
    "ReActorRestoreFace": ("GPENRestoreFaces", {"image": "image", "strength": "visibility"}, _REACTOR),
    # Its choice of faces counts in another order than ours: all faces are restored, as at its defaults.
    "ReActorRestoreFaceAdvanced": ("GPENRestoreFaces", {"image": "image", "strength": "visibility"}, [*_REACTOR, *_CHOICE_OF_FACES]),
    # facerestore_cf
    "FaceRestoreCFWithModel": (
        "GPENRestoreFaces",
        {"image": "image", "model": "facerestore_model"},
        ["facedetection", "codeformer_fidelity"],
    ),
    "FaceRestoreModelLoader": ("GPENLoadModel", {}, ["model_name"]),
}


def offer_replacements(nodes: dict[str, Any]) -> None:
    """Registers STAND_INS with ComfyUI. Does nothing where it cannot replace nodes, or has no server. nodes: ours, by their names."""
    try:
        api: Any = importlib.import_module("comfy_api.latest")
        make, register = api.io.NodeReplace, api.ComfyAPISync().node_replacement.register
        for old, (new, taken, widgets) in STAND_INS.items():
            register(make(new, old, widgets, mapping(nodes[new], taken, widgets), [{"new_idx": 0, "old_idx": 0}]))
    except (ImportError, AttributeError) as error:
        log.debug("this ComfyUI replaces no nodes: %s", error)


def mapping(node: Any, taken: dict[str, str], widgets: list[str]) -> list[dict[str, Any]]:
    """Where the new node's inputs come from: the old node, else our defaults, since ComfyUI wants a value for every required one.

    A link that gets another name is there under its old one, too: ComfyUI (up to 0.38 at least) looks for that when it replaces the node at
    the link's other end later than this one, in no fixed order, and without it the prompt ends in an error 500. Nothing else reads it.
    """
    inputs = node.INPUT_TYPES()["required"]
    fixed = {name: settings["default"] for name, (_, settings) in inputs.items() if name not in taken and "default" in settings}
    return [
        *({"new_id": new, "old_id": old} for new, old in taken.items()),
        *({"new_id": old, "old_id": old} for new, old in taken.items() if old not in (new, *widgets)),
        *({"new_id": name, "set_value": value} for name, value in fixed.items()),
    ]
