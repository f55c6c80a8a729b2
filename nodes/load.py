"""The node Load GPEN Model."""

from __future__ import annotations

from typing import Any

from ..gpen_core.options import PRECISIONS, RestoreOptions
from .devices import DEFAULT, device_choices, is_device
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
    HAS_INTERMEDIATE_OUTPUT = True  # what it says is shown again where it does not run, as nodes with an output "report" have it
    OUTPUT_TOOLTIPS = ("The loaded model, for the other GPEN nodes.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        table = {option.name: option for option in RestoreOptions.table()}
        where = (
            "Where the model runs. default: where ComfyUI runs models. cpu: the processor. gpu:0, gpu:1...: one of several graphics cards; "
            "on a machine without it, the default device."
        )
        tip = "Which weights to load. auto is GPEN-BFR-2048, downloaded on first use (285 MB); offline, it is the best model on disk."
        return {
            "required": {
                "model": (model_names(), {"default": AUTO, "tooltip": tip}),
                "precision": (list(PRECISIONS), {"default": AUTO, "tooltip": table["precision"].help}),
            },
            # Later than workflows that were saved and prompts that are sent.
            "optional": {"device": (device_choices(), {"default": DEFAULT, "tooltip": where, "advanced": True})},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, device: str = DEFAULT) -> bool | str:
        """Lets a workflow in that was saved on a machine with more cards: load() says what runs instead."""
        return is_device(device) or f"device: {device!r} is not default, cpu or a card such as gpu:0."

    @classmethod
    def IS_CHANGED(cls, model: str, precision: str, device: str = DEFAULT, **_: Any) -> str:
        return f"{fingerprint(model)}|{precision}|{device}"

    def load(self, model: str, precision: str, device: str = DEFAULT) -> dict[str, Any]:
        loaded = load_model(model, precision, device)
        lines = [loaded.note, f"{loaded.name}: {NODE_OF_TASK[loaded.task]}, {loaded.size} pixels"]
        return {"ui": {"text": ["\n".join(line for line in lines if line)]}, "result": (loaded,)}
