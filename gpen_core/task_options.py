"""The settings of colourising and inpainting: those of RestoreOptions that apply to a task, and two of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from .errors import SettingsError
from .options import AUTO, Option, RestoreOptions, Value

FaceTask = Literal["colorize", "inpaint"]
FACE_TASKS: tuple[FaceTask, ...] = ("colorize", "inpaint")
RESTS = ("keep", "grey")

_MODEL = Option(
    "model", "model", "text", AUTO, "Model",
    "Weights: a catalogue name, a file in models/GPEN, a path or auto (GPEN's for the task).",
)  # fmt: skip
_REST = Option(
    "rest", "look", "choice", RESTS[0], "Rest of the picture",
    "keep: everything but the faces stays as it was. grey: it becomes black and white. (An aligned face has no rest.)",
    choices=RESTS,
)  # fmt: skip
_OFFICIAL = {
    "colorize": Option(
        "official", "look", "bool", False, "Official",
        "Process each face exactly as GPEN's authors do. Otherwise its brightness stays exactly as it was.",
    ),
    "inpaint": Option(
        "official", "look", "bool", False, "Official",
        "Process each face exactly as GPEN's authors do: all of it is replaced. Otherwise only the holes are, with soft borders.",
    ),
}  # fmt: skip

_ALIGNED = "The picture is one face or portrait: change all of it, without looking for faces."
_FEATHER = "How far the surroundings reach into a hole, for a soft border: 0 is not at all, 1 is wide. Official: as for restoring."


@dataclass(frozen=True)
class TaskOptions:
    """All settings of a task, checked on creation and immutable. Raises SettingsError.

    shared: those of RestoreOptions. Changing one that does not apply to the task is an error.
    """

    task: FaceTask
    shared: RestoreOptions = field(default_factory=RestoreOptions)
    rest: str = RESTS[0]
    official: bool = False

    def __post_init__(self) -> None:
        if self.task not in FACE_TASKS:
            raise SettingsError(f"there is no task {self.task!r}; choose one of {', '.join(FACE_TASKS)}")
        table = {option.name: option for option in self.table(self.task)}
        own = {"rest": self.rest, "official": self.official}
        for name, value in own.items():
            if name in table:
                object.__setattr__(self, name, table[name].checked(value))
        changed = [*self.shared.changed(), *(["rest"] if self.rest != RESTS[0] else [])]
        self._check_names(self.task, changed)

    @classmethod
    def table(cls, task: FaceTask) -> tuple[Option, ...]:
        """Every setting that applies to the task, in order."""
        return _TABLES[task]

    @classmethod
    def from_mapping(cls, task: FaceTask, values: Mapping[str, object]) -> TaskOptions:
        """Options from names and values, as sent by a host. Raises SettingsError."""
        if task in FACE_TASKS:
            cls._check_names(task, values)
        own = {name: value for name, value in values.items() if name in ("rest", "official")}
        shared = RestoreOptions.from_mapping({name: value for name, value in values.items() if name not in own})
        return cls(task, shared, **cast("dict[str, Any]", own))

    @classmethod
    def _check_names(cls, task: FaceTask, names: Iterable[str]) -> None:
        known = [option.name for option in cls.table(task)]
        for name in names:
            if name not in known:
                raise SettingsError(f"{task} has no setting {name!r}; it has {', '.join(known)}")

    def changed(self) -> dict[str, Value]:
        """The settings that differ from their defaults."""
        own: dict[str, Value] = {"rest": self.rest, "official": self.official}
        values = {**{option.name: getattr(self.shared, option.name) for option in self.shared.table()}, **own}
        return {option.name: values[option.name] for option in self.table(self.task) if values[option.name] != option.default}


def _table(task: FaceTask) -> tuple[Option, ...]:
    own = (_REST, _OFFICIAL[task]) if task == "colorize" else (_OFFICIAL[task],)
    pasting = [o if task == "colorize" else replace(o, help=_FEATHER) for o in RestoreOptions.of("pasting") if _pastes(o, task)]
    choosing = [replace(o, help=o.help.replace("Restore only", "Change only")) for o in RestoreOptions.of("finding", "choosing")]
    inputs = [replace(o, help=_ALIGNED) if o.name == "aligned" else o for o in RestoreOptions.of("input")]
    return (_MODEL, *own, *choosing, *pasting, *inputs, *RestoreOptions.of("machine"))


def _pastes(option: Option, task: FaceTask) -> bool:
    """Whether a setting for pasting applies: where a hole is filled says its mask, and what is in front of a face gets its colours too."""
    return option.name == "feather" or (task == "colorize" and option.name != "occlusion")


_TABLES: dict[FaceTask, tuple[Option, ...]] = {task: _table(task) for task in FACE_TASKS}
