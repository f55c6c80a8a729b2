"""The accordion "GPEN colorize, inpaint" in the host's Extras tab."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modules import scripts_postprocessing, shared

from gpen_core.errors import GpenError
from gpen_core.options import Option, Value
from gpen_core.task_options import FACE_TASKS, FaceTask, TaskOptions

from . import host
from .engine import ENGINE
from .extras import accordion, rows, summary
from .fields import setting_key, settings

TITLE = f"{host.NAME} colorize, inpaint"
# Says what the control does for which task, as one list of controls serves both.
_HELP = {
    "official": "Process each face exactly as GPEN's authors do. Otherwise colorize keeps the brightness of every pixel, and inpaint "
    "changes only the holes.",
    "rest": "Colorize only. keep: everything but the faces stays as it was. grey: it becomes black and white.",
}
_SHOWN = ("rest", "order", "max_faces", "faces", "official", "aligned")
_TASK = Option(
    "task", "model", "choice", FACE_TASKS[0], "Task",
    "colorize: gives faces in black-and-white pictures colours. inpaint: fills what is painted white in faces (the API also takes a mask).",
    choices=FACE_TASKS,
)  # fmt: skip


class GpenTasks(scripts_postprocessing.ScriptPostprocessing):
    """Colourises or completes the faces of the picture in the Extras tab, before "GPEN" restores them. Other options come from Settings."""

    name = TITLE
    order = 2400

    def ui(self) -> dict[str, Any]:
        """{argument: component}. Without element ids, as the host may show the accordion in several tabs."""
        enable, controls = accordion(TITLE, lambda: rows(shown()))
        return {"enable": enable, **controls}

    def process(self, pp: scripts_postprocessing.PostprocessedImage, enable: bool | None = None, **arguments: Any) -> None:
        """Replaces pp.image and adds to pp.info. The host's own API passes None for every argument: then nothing is done."""
        if not enable or host.is_video(pp):
            return
        task = arguments.pop("task", None) or FACE_TASKS[0]
        key = f"{host.NAME} {task}"
        try:
            options = current(task, arguments)
            result = ENGINE.run(pp.image, options)
        except GpenError as error:
            host.report(f"the picture is unchanged: {error}")
            pp.info[key] = f"not done: {host.public(error)}"
        except Exception as error:
            host.report(f"the picture is unchanged, because of a bug (please report it): {error}", traceback=True)
            pp.info[key] = f"not done: {type(error).__name__}"
        else:
            pp.image = result.image
            told: dict[str, Value] = {f"{key} {name.replace('_', ' ')}": value for name, value in options.changed().items()}
            for name, value in {f"{key} model": result.model, **told, key: summary(result)}.items():
                pp.info[name] = value


def shown() -> tuple[Option, ...]:
    """The accordion's options."""
    table = {option.name: option for task in FACE_TASKS for option in TaskOptions.table(task)}
    return (_TASK, *(_helped(table[name]) for name in _SHOWN))


def _helped(option: Option) -> Option:
    return replace(option, help=_HELP.get(option.name, option.help))


def current(task: FaceTask, given: dict[str, Any]) -> TaskOptions:
    """The task's options: those of the accordion, the others from Settings. Raises SettingsError."""
    applies = {option.name for option in TaskOptions.table(task)} if task in FACE_TASKS else set[str]()
    values = {option.name: getattr(shared.opts, setting_key(option), None) for option in settings() if option.name != "model"}
    values |= {name: value for name, value in given.items() if value is not None}
    return TaskOptions.from_mapping(task, {name: value for name, value in values.items() if name in applies and value is not None})
