"""The page: its layout, and what its buttons call. What happens is in `work`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from gpen_core.errors import GpenError
from gpen_core.options import AUTO, PRESET_CONTROL, RestoreOptions
from gpen_core.presets import NO_PRESET

from . import models, work
from .controls import Control, after_preset, control, names, options_of, preset_choices, sections, set_by_presets
from .engine import Engine, Job

gr: Any = import_module("gradio")

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
TITLE = "GPEN face restoration"
OPEN = ("Look of the faces",)
CSS = """
.gradio-container { max-width: 1400px !important; margin: 0 auto; }
.gpen-lines p { margin: 0.2em 0; white-space: pre-line; overflow-wrap: anywhere; }
.gpen-lines .wrong { color: var(--error-text-color, #b91c1c); font-weight: 600; }
.gpen-help { font-size: var(--block-info-text-size); color: var(--block-info-text-color); }
.gpen-grid { display: grid !important; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); align-items: start; }
"""
_NO_SHARING = ["download", "fullscreen"]  # the third button would send the picture to a server
_AT_ONCE = 16  # waiting restorations have a thread each


class Visits:
    """What each open page is doing, and its folder of results. folder: holds them all; the server removes it at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: dict[str, list[Job]] = {}
        self._results: dict[str, Path] = {}
        self._closed: set[str] = set()

    @contextmanager
    def job(self, request: Any, progress: Any) -> Generator[Job, None, None]:
        """A job of this page. Settings may be changed while it runs, which looks for faces: there can be two."""
        job = Job(lambda share, text: progress(0 if share is None else share, desc=text))
        mine = self._jobs.setdefault(_page_of(request), [])
        mine.append(job)
        try:
            yield job
        finally:
            mine.remove(job)
            self._tidy(_page_of(request))

    def cancel(self, request: Any) -> None:
        """Stops what this page does."""
        for job in list(self._jobs.get(_page_of(request), ())):
            job.cancel()

    def results(self, request: Any) -> Path:
        """A new folder for this page's results; the ones before are removed."""
        self._closed.discard(_page_of(request))  # a page that slept comes back
        self._forget(_page_of(request))
        made = Path(tempfile.mkdtemp(prefix="results-", dir=self._folder))
        self._results[_page_of(request)] = made
        return made

    def end(self, request: Any) -> None:
        """The page was closed."""
        self.cancel(request)
        self._closed.add(_page_of(request))
        self._tidy(_page_of(request))

    def cancel_all(self) -> None:
        """The server ends."""
        for job in [job for jobs in list(self._jobs.values()) for job in jobs]:
            job.cancel()

    def _tidy(self, name: str) -> None:
        if name in self._closed and not self._jobs.get(name):  # else the job would write its results again
            self._forget(name)

    def _forget(self, name: str) -> None:
        folder = self._results.pop(name, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _page_of(request: Any) -> str:
    return str(request.session_hash)


def lines(texts: Sequence[str], wrong: Sequence[bool] = ()) -> str:
    """Texts as HTML; those that are wrong stand out."""
    marks = [*wrong, *[False] * len(texts)]
    return "".join(f'<p class="wrong">{escape(t)}</p>' if bad else f"<p>{escape(t)}</p>" for t, bad in zip(texts, marks, strict=False) if t)


def failed(error: BaseException) -> str:
    """An error as HTML."""
    return lines([work.told(error)], [True])


def build(engine: Engine, visits: Visits, devices: Sequence[str]) -> Any:
    """The page, a gradio Blocks."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 24 * 3600)) as page:
        gr.Markdown(f"# {TITLE}\nEverything happens on this machine. A small model is included; larger ones are downloaded on first use.")
        with gr.Row():
            with gr.Column(scale=5, min_width=340):
                files = gr.File(label="Pictures or videos", file_count="multiple", type="filepath", height=160, elem_id="gpen-files")
                if EXAMPLE.is_file():
                    gr.Examples([[[str(EXAMPLE)]]], [files], label="Example", example_labels=["A small, damaged portrait"])
                preset = gr.Dropdown(preset_choices(), value=NO_PRESET, label=PRESET_CONTROL.label, info="Settings for a kind of picture.")
                model = gr.Dropdown(
                    _model_choices(engine),
                    value=AUTO,
                    label="Model",
                    info="The larger, the more detail, memory and time.",
                    elem_id="gpen-model",
                )
                place = gr.HTML(elem_classes="gpen-lines", elem_id="gpen-place")
                download = gr.Button("Download this model now", size="sm", visible=False)
                with gr.Row():
                    go = gr.Button("Restore", variant="primary", elem_id="gpen-restore")
                    cancel = gr.Button("Cancel", elem_id="gpen-cancel")
            with gr.Column(scale=7, min_width=340):
                which = gr.Dropdown([], label="Shown", visible=False)
                with gr.Tabs() as tabs:
                    with gr.Tab("Faces", id="faces"):
                        picture = gr.Image(label="Faces found", interactive=False, elem_id="gpen-found", format="png", buttons=_NO_SHARING)
                        switches = gr.CheckboxGroup([], label="Restore these faces", visible=False, elem_id="gpen-switches")
                        note = gr.HTML(lines(["Choose a picture or take the example."]), elem_classes="gpen-lines", elem_id="gpen-note")
                    with gr.Tab("Result", id="result"):
                        slider = gr.ImageSlider(
                            label="Before and after", interactive=False, elem_id="gpen-slider", format="png", buttons=_NO_SHARING
                        )
                        video = gr.Video(label="Result", visible=False, interactive=False, buttons=["download"])
                        report = gr.HTML(lines(["Nothing was restored yet."]), elem_classes="gpen-lines", elem_id="gpen-report")
                        results = gr.File(label="Download", file_count="multiple", interactive=False, visible=False, elem_id="gpen-results")
        gr.Markdown("## Settings")
        shown = _settings(devices)
        inputs = [model, *(shown[name] for name in names()[1:])]
        found, done, before = gr.State({}), gr.State({}), gr.State(NO_PRESET)

        def look(paths: list[str] | None, *values: Any, request: Any, progress: Any) -> Any:
            """New files, or other settings for finding faces."""
            choices = [(Path(path).name, path) for path in paths or []]
            one = paths[0] if paths else None
            known: dict[str, work.Found] = {}
            listed = gr.update(choices=choices, value=one, visible=len(choices) > 1)
            return [listed, gr.update(selected="faces"), *find(one, known, *values, request=request, progress=progress)]

        def find(one: str | None, known: dict[str, work.Found], *values: Any, request: Any, progress: Any) -> Any:
            wrong = ""
            try:
                if one is not None and one not in known:
                    options = options_of(values)
                    with visits.job(request, progress) as job:
                        known[one] = work.find(engine, Path(one), options, job)
            except GpenError as error:
                wrong = failed(error)
            return [known, *_faces(known, one, wrong)]

        def switch(one: str | None, known: dict[str, work.Found], on: list[int]) -> dict[str, work.Found]:
            if one in known:
                known[one].on = sorted(on)
            return known

        def run(paths: list[str] | None, one: str | None, known: dict[str, work.Found], *values: Any, request: Any, progress: Any) -> Any:
            made: dict[str, work.Done] = {}
            try:
                if not paths:
                    raise GpenError("choose a picture or a video first")
                options = options_of(values)
                on = {Path(path): face.on for path, face in known.items() if face.faces}
                with visits.job(request, progress) as job:
                    finished = work.restore(engine, [Path(path) for path in paths], options, on, visits.results(request), job)
                made = {str(item.source): item for item in finished}
                text = lines([item.line for item in finished], [item.failed for item in finished])
                if len(made) < len(set(paths)):
                    text += lines(["Cancelled: the other files were not done."])
                shown = _result(made, one)
            except Exception as error:
                text, shown = failed(error), _result({}, None)
            ready = [str(item.file) for item in made.values() if item.file]
            return [made, gr.update(selected="result"), text, gr.update(value=ready, visible=bool(ready)), *shown]

        def fetch(name: str, request: Any, progress: Any) -> Any:
            try:
                with visits.job(request, progress) as job:
                    text = lines([work.fetch(engine, name, job)])
            except Exception as error:
                text = failed(error)
            return [text, gr.update(choices=_model_choices(engine)), gr.update(visible=_is_missing(engine, name))]

        def describe(name: str) -> Any:
            return [lines([_place(engine, name)]), gr.update(visible=_is_missing(engine, name))]

        def choose(name: str, last: str, *values: Any) -> Any:
            return [name, *after_preset(name, last, values)]

        settings_of_faces = [shown[o.name] for o in RestoreOptions.of("finding", "choosing", "input") if o.name != "person_likeness"]
        faces = [picture, switches, note]
        result = [slider, video]
        private: dict[str, Any] = {"api_visibility": "private"}
        busy: dict[str, Any] = {**private, "concurrency_limit": _AT_ONCE}
        in_turn: dict[str, Any] = {**private, "concurrency_limit": 1, "concurrency_id": "faces"}  # or an older answer could come last
        gr.on(
            [files.change, *(item.change for item in settings_of_faces)], _asked(look), [files, *inputs], [which, tabs, found, *faces],
            show_progress_on=picture, trigger_mode="always_last", **in_turn,
        )  # fmt: skip
        switches.input(switch, [which, found, switches], [found], show_progress="hidden", queue=False, **private)
        which.input(_asked(find), [which, found, *inputs], [found, *faces], show_progress_on=picture, **in_turn)
        which.input(_result, [done, which], result, show_progress="hidden", **private)
        go.click(lambda: gr.update(selected="result"), None, [tabs], show_progress="hidden", queue=False, **private)
        go.click(_asked(run), [files, which, found, *inputs], [done, tabs, report, results, *result], show_progress_on=slider, **busy)
        cancel.click(_alone(visits.cancel), None, None, queue=False, show_progress="hidden", **private)
        download.click(_asked(fetch), [model], [place, model, download], show_progress_on=place, **busy)
        model.change(describe, [model], [place, download], show_progress="hidden", **private)
        changed = set_by_presets()
        preset.input(
            choose,
            [preset, before, *(shown[n] for n in changed)],
            [before, *(shown[n] for n in changed)],
            show_progress="hidden",
            **private,
        )
        page.load(lambda: gr.update(choices=_model_choices(engine)), None, [model], show_progress="hidden", **private)
        page.load(describe, [model], [place, download], show_progress="hidden", **private)
        page.unload(_alone(visits.end))
    return page


def _asked(work_of: Callable[..., Any]) -> Callable[..., Any]:
    """The function as gradio wants one that knows its page and shows progress. gradio finds both by their types, here known only late."""

    def asked(request: Any, progress: Any = gr.Progress(), *values: Any) -> Any:  # noqa: B008 - how gradio declares it
        return work_of(*values, request=request, progress=progress)

    asked.__annotations__ = {"request": gr.Request}
    return asked


def _alone(work_of: Callable[[Any], None]) -> Callable[..., None]:
    def asked(request: Any) -> None:
        work_of(request)

    asked.__annotations__ = {"request": gr.Request}
    return asked


def _settings(devices: Sequence[str]) -> dict[str, Any]:
    """An accordion for each group. Returns the controls by their settings' names."""
    made: dict[str, Any] = {}
    for title, options in sections():
        with gr.Accordion(title, open=title in OPEN), gr.Row(elem_classes="gpen-grid"):
            for option in options:
                with gr.Column(min_width=100):
                    made[option.name] = component(control(option, devices))
    return made


def component(what: Control) -> Any:
    """The gradio component of a control."""
    option = what.option
    text: dict[str, Any] = {"label": option.label, "info": option.help, "elem_id": f"gpen-{option.name}"}
    if what.look == "picture":
        made = gr.File(label=option.label, file_count="single", type="filepath", height=120, elem_id=text["elem_id"])
        gr.HTML(lines([option.help]), elem_classes="gpen-help")  # a File shows none
        return made
    if what.look in ("dropdown", "several"):
        return gr.Dropdown(list(what.choices), value=what.value, multiselect=what.look == "several", **text)
    if what.look in ("slider", "number"):
        kind = gr.Slider if what.look == "slider" else gr.Number
        limits = {"minimum": option.minimum, "maximum": option.maximum, "step": option.step}
        return kind(value=what.value, **limits, **text)
    return (gr.Checkbox if what.look == "checkbox" else gr.Textbox)(value=what.value, **text)


def _faces(known: dict[str, work.Found], one: str | None, wrong: str = "") -> list[Any]:
    found = known.get(one or "")
    if found is None:
        return [None, gr.update(choices=[], value=[], visible=False), wrong or lines(["Choose a picture or take the example."])]
    choices = [(f"Face {number}", number) for number in range(found.faces)]
    return [found.picture, gr.update(choices=choices, value=found.on, visible=bool(choices)), wrong or lines([found.note], [found.failed])]


def _result(made: dict[str, work.Done], one: str | None) -> list[Any]:
    done = made.get(one or "")
    film = str(done.file) if done is not None and done.is_video and done.file is not None else None
    pair = None if done is None else done.previews()
    return [gr.update(value=pair, visible=film is None), gr.update(value=film, visible=film is not None)]


def _model_choices(engine: Engine) -> list[tuple[str, str]]:
    return [(AUTO, AUTO), *((item.label, item.name) for item in models.listing(engine.models_dir))]


def _place(engine: Engine, name: str) -> str:
    if name == AUTO:
        return models.auto(engine.models_dir)
    return next((item.place for item in models.listing(engine.models_dir) if item.name == name), "")


def _is_missing(engine: Engine, name: str) -> bool:
    wanted = models.AUTO_MODEL if name == AUTO else name
    return any(item.name == wanted and item.path is None for item in models.listing(engine.models_dir))
