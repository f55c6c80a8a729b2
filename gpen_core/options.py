"""Every setting of a restoration in one checked, immutable table.

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
from .presets import NO_PRESET, PRESETS

Value = str | int | float | bool
Kind = Literal["choice", "text", "int", "float", "bool"]
# What a setting is about: the network, the look of the restored face, finding faces, choosing among them, pasting them, the output size,
# the input, frames that follow each other, and the machine. Hosts and the command line group their settings by it.
Group = Literal["model", "look", "finding", "choosing", "pasting", "size", "input", "frames", "machine"]

AUTO = "auto"
DETECTORS = ("retinaface-mobile", "retinaface-r50", "yunet")
ORDERS = ("largest", "smallest", "left", "right", "top", "bottom", "centre", "confidence")
MASKS = ("landmarks", "parsing")
OCCLUSIONS = ("off", "auto", "xseg", "parsing", "change")
REGIONS = (
    "skin", "nose", "glasses", "eyes", "brows", "ears", "mouth", "lips", "hair", "hat", "earrings", "necklace", "neck", "cloth",
)  # fmt: skip
OFFICIAL_REGIONS = tuple(name for name in REGIONS if name not in ("hat", "cloth"))
OUTPUT_SIZES = ("keep", "factor", "native")
BACKGROUNDS = ("lanczos", "realesrgan")
SPARED = ("off", "large", "all")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Option:
    """One setting, with everything that hosts and the command line need to show and check it."""

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
        """The value converted to its type. Raises SettingsError, which names the setting, for an invalid value."""
        if self.kind == "bool":
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.strip().lower() in ("true", "yes", "on", "1", "false", "no", "off", "0"):
                return value.strip().lower() in ("true", "yes", "on", "1")
            raise SettingsError(f"{self.name} must be yes or no; {value!r} is neither")
        if self.kind in ("int", "float"):
            return self._number(value)
        if not isinstance(value, str):
            raise SettingsError(f"{self.name} must be text; {value!r} is not")
        if self.kind == "choice" and value not in self.choices:
            near = difflib.get_close_matches(value, self.choices, 1, 0.5)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SettingsError(f"{self.name} must be one of {', '.join(self.choices)}; {value!r} is not{hint}")
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
            raise SettingsError(f"{self.name} must be {wanted}; {value!r} is not") from None
        low, high = self.minimum, self.maximum
        if (low is not None and number < low) or (high is not None and number > high):
            between = f"between {low:g} and {high:g}" if low is not None and high is not None else f"at least {low:g}"
            raise SettingsError(f"{self.name} must be {between}; {number:g} is not")
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
    """A dataclass field that carries its Option, without the name, which the field has."""
    partial = Option("", group, kind, default, label, text, minimum, maximum, step, choices)
    return field(default=default, metadata={"option": partial})


@dataclass(frozen=True)
class RestoreOptions:
    """All settings of a restoration, checked on creation and immutable. Raises SettingsError.

    Sizes in pixels refer to the input picture.
    """

    model: str = _option(
        "model",
        AUTO,
        "text",
        "Model",
        "Weights: a catalogue name, a file in models/GPEN, a path or auto (GPEN-BFR-2048, downloaded on first use, else the best on disk).",
    )
    strength: float = _option(
        "look", 1.0, "float", "Strength",
        "How much of the restored face to blend in: 0 keeps the original, 1 shows only the restored face.",
        minimum=0, maximum=1, step=0.05,
    )  # fmt: skip
    fidelity: float = _option(
        "look", 0.0, "float", "Fidelity",
        "How much of the original face's overall structure and tone to keep. The fine detail is always new.",
        minimum=0, maximum=1, step=0.05,
    )  # fmt: skip
    detail: float = _option(
        "look", 1.0, "float", "Detail",
        "How much of the picture's own detail to keep where it is finer than the model can draw. Noise and JPEG blocks are left out.",
        minimum=0, maximum=1, step=0.05,
    )  # fmt: skip
    colour_match: bool = _option("look", False, "bool", "Match colours", "Give the restored face the colours of the original face.")
    auto_strength: str = _option(
        "look", SPARED[0], "choice", "Spare sharp faces",
        "Blend less into faces that are sharp already, and leave the sharpest alone. large: only those larger than the model can draw, "
        "which it cannot improve. all: small ones too (in AI pictures they are often sharp and still wrong).",
        choices=SPARED,
    )  # fmt: skip
    guard: bool = _option(
        "look", False, "bool", "Guard",
        "Keep the original face if the restored one has another shape, moved landmarks, or is no longer found as a face.",
    )  # fmt: skip
    min_likeness: float = _option(
        "look", 0.0, "float", "Minimum likeness",
        "Keep the original face if a face recogniser finds the restored one less like it than this (0: off; needs w600k_r50.onnx).",
        minimum=0, maximum=1, step=0.05,
    )  # fmt: skip
    detector: str = _option(
        "finding", DETECTORS[0], "choice", "Detector",
        "Finds the faces. retinaface-mobile is included, retinaface-r50 needs facexlib, yunet needs its model file.",
        choices=DETECTORS,
    )  # fmt: skip
    threshold: float = _option(
        "finding", 0.9, "float", "Detection threshold",
        "Minimum confidence of a face. A lower value finds more faces, but also more false ones.",
        minimum=0.05, maximum=1, step=0.01,
    )  # fmt: skip
    look_closer: bool = _option(
        "finding", True, "bool", "Look closer", "Also search an enlarged copy of the picture, which finds small faces better."
    )
    rotations: bool = _option(
        "finding", False, "bool", "Rotated faces", "Also search the picture rotated by 90, 180 and 270 degrees (slower)."
    )
    min_size: int = _option(
        "choosing", 0, "int", "Minimum face size", "Skip faces whose box is smaller than this on its shorter side, in pixels.",
        minimum=0, maximum=16384, step=1,
    )  # fmt: skip
    max_size: int = _option(
        "choosing", 0, "int", "Maximum face size",
        "Skip faces whose box is larger than this on its shorter side, in pixels (0: no limit).",
        minimum=0, maximum=16384, step=1,
    )  # fmt: skip
    order: str = _option("choosing", ORDERS[0], "choice", "Face order", "How faces are sorted and numbered, from 0.", choices=ORDERS)
    max_faces: int = _option(
        "choosing", 0, "int", "Maximum faces", "Restore only this many faces, the first in the chosen order (0: all).",
        minimum=0, maximum=1000, step=1,
    )  # fmt: skip
    faces: str = _option("choosing", "", "text", "Which faces", "Restore only the faces with these numbers, such as 0,2,4-6 (empty: all).")
    person: str = _option(
        "choosing", "", "text", "Person",
        "Restore only one person's faces: a picture of that person (empty: anyone's). Needs a face recogniser's file, w600k_r50.onnx.",
    )  # fmt: skip
    person_likeness: float = _option(
        "choosing", 0.3, "float", "Likeness of the person",
        "How alike a face has to be to count as the person: lower it for blurred or old pictures, raise it if others are taken for them.",
        minimum=0, maximum=1, step=0.05,
    )  # fmt: skip
    mask: str = _option(
        "pasting", MASKS[0], "choice", "Mask",
        "Which area is pasted back. landmarks: a soft shape around the landmarks. parsing: the face as a parser sees it (needs facexlib or "
        "a BiSeNet file).",
        choices=MASKS,
    )  # fmt: skip
    feather: float = _option(
        "pasting", 0.5, "float", "Feather",
        "How soft the edge of the pasted face is: 0 is narrow, 1 is wide.", minimum=0, maximum=1, step=0.05
    )  # fmt: skip
    mask_regions: str = _option(
        "pasting", ",".join(OFFICIAL_REGIONS), "text", "Mask regions",
        f"Which parts of the face the mask 'parsing' pastes: any of {', '.join(REGIONS)} (empty: all but hat and cloth).",
    )  # fmt: skip
    occlusion: str = _option(
        "pasting", OCCLUSIONS[0], "choice", "Occlusion",
        "Keeps what is in front of the face. xseg: by FaceFusion's XSeg file. parsing: by the face parser, in the original. change: where "
        "the model changed it beyond reason. auto: xseg if its file is there, else change.",
        choices=OCCLUSIONS,
    )  # fmt: skip
    output_size: str = _option(
        "size", OUTPUT_SIZES[0], "choice", "Output size",
        "keep: as the input. factor: upscaled by the factor. native: upscaled until no restored face has to be shrunk.",
        choices=OUTPUT_SIZES,
    )  # fmt: skip
    factor: float = _option("size", 2.0, "float", "Upscale factor", "How many times larger the output is with the output size 'factor'.",
                            minimum=1, maximum=8, step=0.25)  # fmt: skip
    background: str = _option(
        "size", BACKGROUNDS[0], "choice", "Background upscaler",
        "Upscales the rest of the picture: lanczos, or realesrgan (needs spandrel and its weights).",
        choices=BACKGROUNDS,
    )  # fmt: skip
    aligned: bool = _option(
        "input",
        False,
        "bool",
        "Aligned face",
        "The picture is one face, already cropped to the model's alignment template: restore all of it.",
    )
    steady: float = _option(
        "frames", 1.0, "float", "Steady faces",
        "How much to calm faces that flicker in videos and animations: 0 restores every frame on its own. No effect on single pictures.",
        minimum=0, maximum=1, step=0.05,
    )  # fmt: skip
    precision: str = _option(
        "machine", PRECISIONS[0], "choice", "Precision",
        "Number format of the network. auto is bf16 on CPUs that support it, otherwise fp32.",
        choices=PRECISIONS,
    )  # fmt: skip
    device: str = _option("machine", AUTO, "text", "Device", "Where the network runs: auto, cpu, cuda, cuda:1, mps or xpu.")

    def __post_init__(self) -> None:
        for option in self.table():
            object.__setattr__(self, option.name, option.checked(getattr(self, option.name)))
        if not self.model.strip():
            raise SettingsError("model is empty; give a catalogue name, a file or auto")
        parse_indices(self.faces)
        parse_regions(self.mask_regions)

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
        """Options from names and values, as sent by a host. Raises SettingsError for an unknown name and suggests the nearest names.

        The name "preset" gives what is not among the values.
        """
        known = [option.name for option in cls.table()]
        preset = PRESET.checked(values.get(PRESET.name, NO_PRESET))
        values = {**_values_of(preset), **{name: value for name, value in values.items() if name != PRESET.name}}
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, 3, 0.5)
                raise SettingsError(f"there is no setting {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
        return cls(**cast("dict[str, Any]", values))

    @classmethod
    def from_controls(cls, values: Mapping[str, object]) -> RestoreOptions:
        """from_mapping() for controls, which always have a value: below a preset, a value at its default counts as not set."""
        if values.get(PRESET.name, NO_PRESET) != NO_PRESET:
            defaults = {option.name: option for option in cls.table()}
            values = {n: v for n, v in values.items() if n not in defaults or defaults[n].checked(v) != defaults[n].default}
        return cls.from_mapping(values)

    @classmethod
    def preset(cls, name: str, **explicit: object) -> RestoreOptions:
        """A preset's settings, and explicit ones, which win over them. Raises SettingsError."""
        return cls.from_mapping({PRESET.name: name, **explicit})

    def changed(self) -> dict[str, Value]:
        """The settings that differ from their defaults."""
        return {o.name: getattr(self, o.name) for o in self.table() if getattr(self, o.name) != o.default}


_TABLE: tuple[Option, ...] = tuple(dataclasses.replace(cast(Option, f.metadata["option"]), name=f.name) for f in fields(RestoreOptions))


# Not a setting, but a name for several: no RestoreOptions has it.
PRESET = Option(
    "preset", "input", "choice", NO_PRESET, "Preset",
    f"Settings for a kind of picture ({'; '.join(f'{name}: {preset.help}' for name, preset in PRESETS.items())}). Your own settings win.",
    choices=(NO_PRESET, *PRESETS),
)  # fmt: skip
# Of controls, which always have a value.
PRESET_CONTROL = dataclasses.replace(PRESET, help=PRESET.help.replace("Your own", "It changes only settings at their default; your other"))


def _values_of(preset: Value) -> Mapping[str, Value]:
    return {} if preset == NO_PRESET else PRESETS[str(preset)].values


_MOST_FACES = 10_000  # numbers in one text: more is a typing mistake


def parse_indices(text: str) -> tuple[int, ...]:
    """Parses face numbers: "0,2,4-6" -> (0, 2, 4, 5, 6); empty: (). A repeated number counts once, at its first position.

    A comma at the end is allowed, because the user may still be typing.

    Raises SettingsError for anything else.
    """
    positions: dict[int, None] = {}
    parts = re.split(r"[,;]", text) if text.strip() else []
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    for part in parts:
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        if match is None:
            raise SettingsError(f"faces: {text!r} is not a list of face numbers; write them like 0,2,4-6, counting from 0.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise SettingsError(f"faces: {part.strip()!r} in {text!r} runs backwards; write {last}-{first}.")
        if last - first >= _MOST_FACES or len(positions) >= _MOST_FACES:
            raise SettingsError(f"faces: {text!r} lists more than {_MOST_FACES} faces.")
        positions.update(dict.fromkeys(range(first, last + 1)))
    return tuple(positions)


def parse_regions(text: str) -> tuple[str, ...]:
    """Parses names of REGIONS: "skin, eyes" -> ("skin", "eyes"); empty: the official ones. A comma at the end is allowed.

    Raises SettingsError for an unknown name.
    """
    names = [name.strip().lower() for name in re.split(r"[,;]", text)]
    names = list(dict.fromkeys(name for name in names if name))
    for name in names:
        if name not in REGIONS:
            near = difflib.get_close_matches(name, REGIONS, 1, 0.5)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SettingsError(f"mask_regions: there is no region {name!r}{hint}; there are {', '.join(REGIONS)}")
    return tuple(names) or OFFICIAL_REGIONS
