"""The node Load GPEN Model."""

from __future__ import annotations

from typing import Any

from ..gpen_core.options import PRECISIONS, RestoreOptions
from .folders import AUTO, model_names
from .model import GPEN_MODEL, NODE_OF_TASK, fingerprint, load_model

CATEGORY = "image/face restoration"


class LoadModel:
    TITLE = "Load GPEN Model"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Loads GPEN weights: a catalogue name (downloaded to models/GPEN on first use), a file of your own, the small model that "
        "comes with the nodes (GPEN-BFR-256-lite), or auto: GPEN-BFR-2048, else the best model on disk."
    )
    SEARCH_ALIASES = ("gpen", "face restore model", "GPEN-BFR-2048")
    FUNCTION = "load"
    RETURN_TYPES = (GPEN_MODEL,)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The loaded model, for the other GPEN nodes.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        table = {option.name: option for option in RestoreOptions.table()}
        tip = "Which weights to load. auto is GPEN-BFR-2048, downloaded on first use (285 MB); offline, it is the best model on disk."
        return {
            "required": {
                "model": (model_names(), {"default": AUTO, "tooltip": tip}),
                "precision": (list(PRECISIONS), {"default": AUTO, "tooltip": table["precision"].help}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, model: str, precision: str, **_: Any) -> str:
        return f"{fingerprint(model)}|{precision}"

    def load(self, model: str, precision: str) -> dict[str, Any]:
        loaded = load_model(model, precision)
        lines = [loaded.note, f"{loaded.name}: {NODE_OF_TASK[loaded.task]}, {loaded.size} pixels"]
        return {"ui": {"text": ["\n".join(line for line in lines if line)]}, "result": (loaded,)}
