"""Every setting of a restoration, in one validated, frozen table.

ComfyUI inputs, WebUI sliders, infotext, HTTP fields and command-line flags are all generated from `RestoreOptions.table()`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from .errors import SettingsError

Value = str | int | float | bool
Kind = Literal["choice", "text", "int", "float", "bool"]
# What a setting is about: the network, how the restored face looks, where faces are looked for and which of them count, how they are
# pasted, how large the picture becomes, what is given in, and where it is computed. Doors make their lists from it.
Group = Literal["model", "look", "finding", "choosing", "pasting", "size", "input", "machine"]

AUTO = "auto"
DETECTORS = ("retinaface-mobile", "retinaface-r50", "yunet")
ORDERS = ("largest", "smallest", "left", "right", "top", "bottom", "centre", "confidence")
MASKS = ("landmarks", "parsing")
OUTPUT_SIZES = ("keep", "factor", "native")
BACKGROUNDS = ("lanczos", "realesrgan")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Option:
    """One setting: what a door needs to show it and to check it."""

    name: str
    group: Group
    kind: Kind
    default: Value
    label: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()

    def checked(self, value: object) -> Value:
        """The value in its own type. Raises SettingsError, naming the setting, where it cannot be met."""
        if self.kind == "bool":
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.strip().lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
                return value.strip().lower() in ("true", "yes", "on", "1")
            raise SettingsError(f"{self.name} is yes or no; {value!r} is neither")
        if self.kind in ("int", "float"):
            return self._number(value)
        if not isinstance(value, str):
            raise SettingsError(f"{self.name} is a text; {value!r} is not")
        if self.kind == "choice" and value not in self.choices:
            near = difflib.get_close_matches(value, self.choices, 1, 0.5)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SettingsError(f"{self.name} is one of {', '.join(self.choices)}; {value!r} is not{hint}")
        return value

    def _number(self, value: object) -> int | float:
        try:
            if isinstance(value, bool):
                raise TypeError
            number = float(cast(Any, value))
            if not math.isfinite(number) or (self.kind == "int" and number != int(number)):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            wanted = "a whole number" if self.kind == "int" else "a number"
            raise SettingsError(f"{self.name} is {wanted}; {value!r} is not") from None
        low, high = self.minimum, self.maximum
        if (low is not None and number < low) or (high is not None and number > high):
            between = f"between {low:g} and {high:g}" if low is not None and high is not None else f"at least {low:g}"
            raise SettingsError(f"{self.name} is {between}; {number:g} is not")
        return int(number) if self.kind == "int" else number


def _option(
    group: Group,
    default: Any,
    kind: Kind,
    label: str,
    text: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field that carries its Option (all but the name, which is the field's)."""
    partial = Option("", group, kind, default, label, text, minimum, maximum, step, choices)
    return field(default=default, metadata={"option": partial})


@dataclass(frozen=True)
class RestoreOptions:
    """All settings of a restoration; checked when made, never changed. Raises SettingsError.

    Pixels are those of the picture given in. Angles, scales and thresholds as each help text says.
    """

    model: str = _option(
        "model",
        AUTO,
        "text",
        "Model",
        "Weights: a catalogue name, a file in models/GPEN, a path, or auto (GPEN-BFR-2048, fetched on first use; else the best on disk).",
    )
    strength: float = _option(
        "look", 1.0, "float", "Strength", "How much of the restored face is shown: 0 keeps the picture, 1 shows it whole.",
        minimum=0, maximum=1, step=0.05,
    )  # fmt: skip
    fidelity: float = _option(
        "look", 0.0, "float", "Fidelity",
        "How much of the face's own coarse structure and tone is kept; the fine detail is new either way.",
        minimum=0, maximum=1, step=0.05,
    )  # fmt: skip
    detail: float = _option(
        "look", 1.0, "float", "Detail",
        "How much of the picture's own detail is kept where it is finer than the network can draw. Noise and JPEG blocks are left out.",
        minimum=0, maximum=1, step=0.05,
    )  # fmt: skip
    colour_match: bool = _option("look", False, "bool", "Match colours", "Give the restored face the colours of the face it replaces.")
    detector: str = _option(
        "finding", DETECTORS[0], "choice", "Detector",
        "Who finds the faces: retinaface-mobile ships with the project, retinaface-r50 needs facexlib, yunet needs its file.",
        choices=DETECTORS,
    )  # fmt: skip
    threshold: float = _option(
        "finding", 0.9, "float", "Detection threshold",
        "Least confidence of a face. Lower finds more faces, and more things that are none.",
        minimum=0.05, maximum=1, step=0.01,
    )  # fmt: skip
    look_closer: bool = _option(
        "finding", True, "bool", "Look closer", "Look again at the enlarged picture, where small faces are found better."
    )
    rotations: bool = _option(
        "finding", False, "bool", "Turned heads", "Look at the picture turned by 90, 180 and 270 degrees as well (slower)."
    )
    min_size: int = _option(
        "choosing", 0, "int", "Smallest face", "Leave faces alone whose box is smaller than this on its shorter side, in pixels.",
        minimum=0, maximum=16384, step=1,
    )  # fmt: skip
    max_size: int = _option(
        "choosing", 0, "int", "Largest face",
        "Leave faces alone whose box is larger than this on its shorter side, in pixels (0: no limit).",
        minimum=0, maximum=16384, step=1,
    )  # fmt: skip
    order: str = _option("choosing", ORDERS[0], "choice", "Order", "How faces are counted, by their boxes.", choices=ORDERS)
    max_faces: int = _option(
        "choosing", 0, "int", "At most", "Restore only the first so many faces of that order (0: all).", minimum=0, maximum=1000, step=1
    )  # fmt: skip
    faces: str = _option(
        "choosing", "", "text", "Which faces", "Restore only these positions of that order, counted from 0: 0,2,4-6 (empty: all)."
    )
    mask: str = _option(
        "pasting", MASKS[0], "choice", "Mask",
        "What of the face is pasted: a soft shape from its landmarks, or the parts ParseNet sees (needs facexlib).",
        choices=MASKS,
    )  # fmt: skip
    feather: float = _option(
        "pasting", 0.5, "float", "Feather",
        "How soft the edge of the pasted face is: 0 is narrow, 1 is wide.", minimum=0, maximum=1, step=0.05
    )  # fmt: skip
    output_size: str = _option(
        "size", OUTPUT_SIZES[0], "choice", "Output size",
        "keep: the picture's own. factor: enlarged by the factor. native: enlarged until no restored face has to be shrunk.",
        choices=OUTPUT_SIZES,
    )  # fmt: skip
    factor: float = _option("size", 2.0, "float", "Factor", "How much larger the picture becomes with the output size 'factor'.",
                            minimum=1, maximum=8, step=0.25)  # fmt: skip
    background: str = _option(
        "size", BACKGROUNDS[0], "choice", "Background",
        "What enlarges the rest of the picture: lanczos, or realesrgan (needs basicsr and its weights).",
        choices=BACKGROUNDS,
    )  # fmt: skip
    aligned: bool = _option(
        "input", False, "bool", "Aligned face", "The picture is one face, cropped to the model's template: restore all of it."
    )
    precision: str = _option(
        "machine", PRECISIONS[0], "choice", "Precision",
        "Numbers the network computes with; auto is bf16 on processors that have it, else fp32.",
        choices=PRECISIONS,
    )  # fmt: skip
    device: str = _option("machine", AUTO, "text", "Device", "Where the network runs: auto, cpu, cuda, cuda:1, mps, xpu.")

    def __post_init__(self) -> None:
        for option in self.table():
            object.__setattr__(self, option.name, option.checked(getattr(self, option.name)))
        if not self.model.strip():
            raise SettingsError("model is empty; give a catalogue name, a file or auto")
        parse_indices(self.faces)

    @classmethod
    def table(cls) -> tuple[Option, ...]:
        """Every setting in order."""
        return _TABLE

    @classmethod
    def of(cls, *groups: Group) -> tuple[Option, ...]:
        """The settings of these groups, in the table's order."""
        return tuple(option for option in cls.table() if option.group in groups)

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> RestoreOptions:
        """Options from names and values, as a door receives them. Unknown names are an error with the nearest names."""
        known = [option.name for option in cls.table()]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, 3, 0.5)
                raise SettingsError(f"there is no setting {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
        return cls(**cast("dict[str, Any]", dict(values)))

    def changed(self) -> dict[str, Value]:
        """The settings that are not at their default."""
        return {o.name: getattr(self, o.name) for o in self.table() if getattr(self, o.name) != o.default}


_TABLE: tuple[Option, ...] = tuple(dataclasses.replace(cast(Option, f.metadata["option"]), name=f.name) for f in fields(RestoreOptions))


_MOST_FACES = 10_000  # positions in one text: what is more is a slip of the finger


def parse_indices(text: str) -> tuple[int, ...]:
    """Positions from a text such as "0,2,4-6" -> (0, 2, 4, 5, 6); empty: (). A position is counted once, where it is first named.

    A comma after the last one is no matter: whoever types is not done yet.

    Raises SettingsError for anything else.
    """
    positions: dict[int, None] = {}
    parts = re.split(r"[,;]", text) if text.strip() else []
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    for part in parts:
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        if match is None:
            raise SettingsError(f"{text!r} names no faces; write their positions from 0, like 0,2,4-6.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise SettingsError(f"{part.strip()!r} in {text!r} runs backwards; write {last}-{first}.")
        if last - first >= _MOST_FACES or len(positions) >= _MOST_FACES:
            raise SettingsError(f"{text!r} names more than {_MOST_FACES} faces.")
        positions.update(dict.fromkeys(range(first, last + 1)))
    return tuple(positions)
