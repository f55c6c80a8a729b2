"""The face restorer in a stand-in of the host: what comes out, and that a picture is never lost."""

from __future__ import annotations

import subprocess
import sys
import weakref
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]
LITE = "GPEN-BFR-256-lite"


@pytest.fixture
def chosen(host):
    host.opts.face_restoration_model = "GPEN"
    host.opts.gpen_model = LITE
    return host


def test_it_is_listed_once_however_often_the_ui_is_reloaded(host):
    shared = host.module("shared")
    for _ in range(3):
        assert [restorer.name() for restorer in shared.face_restorers] == ["GPEN"]
        before = shared.face_restorers[0]
        host.reload_ui()
        assert shared.face_restorers[0] is not before  # the old one is replaced
    allowed = [message for message in host.reported if "gpen_face_api" in message]  # where fastapi is not installed
    assert host.reported == allowed


def test_it_gives_what_the_core_gives(chosen, portrait):
    picture = np.asarray(np.moveaxis(np.ascontiguousarray(np.moveaxis(portrait, 2, 0)), 0, 2))
    assert not picture.flags.c_contiguous  # as the host hands it over
    before = picture.copy()
    done = chosen.restore_faces(picture)
    expected = FaceRestorer(RestoreOptions(model=LITE, device="cpu"))(portrait).image
    np.testing.assert_array_equal(done, expected)
    assert done.dtype == np.uint8 and done.flags.c_contiguous
    assert (done != portrait).any()
    np.testing.assert_array_equal(picture, before)
    assert "gpen" in chosen.module("devices").asked


def test_sd_next_hands_over_its_processing_too(chosen, portrait):
    restorer = chosen.module("shared").face_restorers[0]
    np.testing.assert_array_equal(restorer.restore(portrait, object()), restorer.restore(portrait))


def test_settings_count_from_the_next_picture_on(chosen, portrait):
    whole = chosen.restore_faces(portrait)
    chosen.opts.gpen_strength = 0.0
    np.testing.assert_array_equal(chosen.restore_faces(portrait), portrait)
    chosen.opts.gpen_strength = 1
    np.testing.assert_array_equal(chosen.restore_faces(portrait), whole)
    chosen.opts.gpen_min_size = 4000
    np.testing.assert_array_equal(chosen.restore_faces(portrait), portrait)


def test_a_network_is_loaded_once_and_replaced_when_another_file_is_chosen(chosen, portrait, monkeypatch):
    engine = chosen.ours("engine")
    loaded: list[str] = []
    real = engine.load_network
    monkeypatch.setattr(engine, "load_network", lambda path, *rest: loaded.append(path.name) or real(path, *rest))
    folder = chosen.models / "GPEN"
    folder.mkdir(parents=True)
    own = folder / "my own.safetensors"
    own.write_bytes((ROOT / "gpen_core" / "weights" / "embedded" / f"{LITE}.safetensors").read_bytes())
    first = chosen.restore_faces(portrait)
    chosen.restore_faces(portrait)
    chosen.opts.gpen_model = own.name
    np.testing.assert_array_equal(chosen.restore_faces(portrait), first)
    assert loaded == [f"{LITE}.safetensors", own.name]
    assert own.name in chosen.ours("models").choices()


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("gpen_model", "GPEN-BFR-512", "GPEN-BFR-512"),  # not on disk, and there is no network
        ("gpen_model", "GPEN-Colorization-1024", "GPEN-Colorization-1024"),
        ("gpen_faces", "first", "first"),
        ("gpen_strength", 7, "strength"),
    ],
)
def test_a_setting_that_cannot_be_met_leaves_the_picture_and_says_why(chosen, portrait, setting, value, told):
    setattr(chosen.opts, setting, value)
    assert chosen.restore_faces(portrait) is portrait
    assert chosen.reported[-1].startswith("GPEN: the picture is unchanged") and told in chosen.reported[-1]
    assert chosen.ours("engine").ENGINE.model is None


def test_a_missing_model_is_said_in_this_hosts_words(chosen, portrait):
    chosen.opts.gpen_model = "GPEN-BFR-512"
    chosen.restore_faces(portrait)
    told = chosen.reported[-1]
    assert "--gpen-models-path" in told and "GPEN_MODELS_DIR" not in told and len(told.splitlines()) <= 5


def test_a_fault_of_ours_leaves_the_picture_too(chosen, portrait, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a fault")

    monkeypatch.setattr(chosen.ours("engine"), "FaceRestorer", broken)
    assert chosen.restore_faces(portrait) is portrait
    assert "a fault" in chosen.reported[-1]


def test_interrupt_between_faces_keeps_those_done(chosen, portrait, monkeypatch):
    two = np.ascontiguousarray(np.concatenate([portrait, portrait], axis=1))
    chosen.opts.gpen_order = "left"
    whole = chosen.restore_faces(two)
    looking = "GPEN is looking for faces"
    assert looking in chosen.state.said
    assert [text for text in chosen.state.said if text and text != looking] == [
        f"GPEN is loading {LITE}", "GPEN face 1/2", "GPEN face 1/2", "GPEN face 2/2", "GPEN face 2/2",
    ]  # fmt: skip
    progress = chosen.ours("progress").HostProgress
    real = progress.report

    def pressed(self, done, total, what, preview=None):
        real(self, done, total, what, preview)
        chosen.state.interrupted = done == 1 and what.startswith("face ")

    monkeypatch.setattr(progress, "report", pressed)
    chosen.state.textinfo = "before"
    part = chosen.restore_faces(two)
    np.testing.assert_array_equal(part[:, :160], whole[:, :160])
    np.testing.assert_array_equal(part[:, 160:], two[:, 160:])
    assert chosen.state.textinfo == "before"


def test_skip_before_the_first_face_keeps_the_picture(chosen, portrait):
    chosen.state.skipped = True
    np.testing.assert_array_equal(chosen.restore_faces(portrait), portrait)


def test_interrupt_stops_a_download(host):
    stopped = host.ours("progress").Stopped
    progress = host.ours("progress").HostProgress()
    progress.fetched(45_000_000, 285_000_000)
    assert host.state.textinfo == "GPEN is downloading weights: 45 MB of 285"
    host.state.interrupted = True
    with pytest.raises(stopped):
        progress.fetched(46_000_000, None)


def test_unload_moves_the_network_into_ram_and_the_next_picture_is_the_same(chosen, portrait, monkeypatch):
    first = chosen.restore_faces(portrait)
    engine = chosen.ours("engine").ENGINE
    moved: list[object] = []
    real = engine._network.to
    monkeypatch.setattr(engine._network, "to", lambda *to: moved.append(to[0]) or real(*to))
    before = chosen.module("devices").collected
    chosen.opts.face_restoration_unload = True
    np.testing.assert_array_equal(chosen.restore_faces(portrait), first)
    assert moved == ["cpu"] and chosen.module("devices").collected > before
    np.testing.assert_array_equal(chosen.restore_faces(portrait), first)
    chosen.opts.face_restoration_unload = False
    chosen.module("shared").face_restorers[0].send_model_to("cpu")  # another extension
    assert moved[-1] == "cpu" and len(moved) == 3


class Elsewhere:
    """A stand-in for a network or detector on a device."""

    def __init__(self, device: object) -> None:
        self.device, self.dtype = torch.device(str(device)), torch.float32

    def parameters(self):
        return iter([self])

    def modules(self):
        return iter([self])

    def to(self, device: object, dtype: object = None) -> None:
        self.device = torch.device(str(device))


@pytest.fixture
def gpu(chosen, monkeypatch):
    """The host's device is one that this machine lacks, with stand-ins for everything the engine puts there."""
    engine = chosen.ours("engine")
    made: list[weakref.ref] = []

    def make(device):
        made.append(weakref.ref(thing := Elsewhere(device)))
        return thing

    class Restorer:
        error: BaseException | None = None

        def __init__(self, options, *, network, detector, **more):
            self.options, self.network, self.detector = options, network, detector
            made.append(weakref.ref(self))

        def __call__(self, picture):
            assert self.network.device == self.detector.device == torch.device("mps")
            if self.error is not None:
                raise self.error
            return SimpleNamespace(image=picture + 1, model="stand-in")

    monkeypatch.setattr(chosen.module("devices"), "get_device_for", lambda task: torch.device("mps"))
    monkeypatch.setattr(engine, "load_network", lambda path, device, dtype: make(device))
    monkeypatch.setattr(engine, "make_detector", lambda name, device, weights_folders: make(device))
    monkeypatch.setattr(engine, "FaceRestorer", Restorer)
    chosen.made, chosen.restorer = made, Restorer
    chosen.on_device = lambda: [
        thing for ref in made if (thing := ref()) is not None and getattr(thing, "device", None) == torch.device("mps")
    ]
    return chosen


@pytest.mark.parametrize("detector", ["retinaface-mobile", "retinaface-r50", "yunet"])
def test_unload_takes_the_detector_off_the_device_as_well(gpu, portrait, detector):
    gpu.opts.gpen_detector = detector
    assert (gpu.restore_faces(portrait) == portrait + 1).all() and len(gpu.on_device()) == 2
    gpu.restore_faces(portrait)
    assert len(gpu.made) == 3  # network, detector and restorer stay until they are unloaded
    gpu.opts.face_restoration_unload = True
    gpu.restore_faces(portrait)
    assert gpu.on_device() == []
    assert (gpu.restore_faces(portrait) == portrait + 1).all() and gpu.on_device() == []  # the network goes back, the detector is made anew
    gpu.opts.face_restoration_unload = False
    gpu.restore_faces(portrait)
    gpu.module("shared").face_restorers[0].send_model_to("cpu")
    assert gpu.on_device() == []


def test_the_network_takes_the_form_of_the_device_it_comes_back_to(gpu, portrait, monkeypatch):
    """It waits in RAM unchanged; place() gives it the device's form."""
    placed: list[torch.device] = []
    monkeypatch.setattr(gpu.ours("engine"), "place", lambda network, device: placed.append(device) or network.to(device))
    gpu.opts.face_restoration_unload = True
    gpu.restore_faces(portrait)
    assert not placed  # load_network does it
    gpu.restore_faces(portrait)
    assert placed == [torch.device("mps")]


@pytest.mark.parametrize(
    "error", [torch.cuda.OutOfMemoryError("out of memory"), KeyError("a fault"), SettingsError("too large"), KeyboardInterrupt()]
)
def test_after_an_error_nothing_stays_on_the_device(gpu, portrait, monkeypatch, error):
    gpu.restore_faces(portrait)
    monkeypatch.setattr(gpu.restorer, "error", error)
    collected = gpu.module("devices").collected
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            gpu.restore_faces(portrait)
    else:
        assert gpu.restore_faces(portrait) is portrait
    assert gpu.on_device() == [] and gpu.module("devices").collected > collected
    monkeypatch.setattr(gpu.restorer, "error", None)
    assert (gpu.restore_faces(portrait) == portrait + 1).all()


def test_a_device_that_failed_for_good_does_not_hide_why_and_the_network_is_read_again(gpu, portrait, monkeypatch):
    def refuse(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    gpu.restore_faces(portrait)
    with monkeypatch.context() as failing:

        def break_down(*_: object) -> None:
            failing.setattr(Elsewhere, "to", refuse)
            failing.setattr(gpu.module("devices"), "torch_gc", refuse)
            raise RuntimeError("the first reason")

        failing.setattr(gpu.restorer, "__call__", break_down)
        assert gpu.restore_faces(portrait) is portrait and "the first reason" in gpu.reported[-1]
    assert gpu.on_device() == []
    assert (gpu.restore_faces(portrait) == portrait + 1).all()


@pytest.mark.parametrize("name", ["modules_forge.utils", "modules_forge.forge_util"])
def test_forge_and_reforge_are_asked_for_memory(host, monkeypatch, name):
    asked: list[bool] = []
    package, module = ModuleType("modules_forge"), ModuleType(name)
    module.prepare_free_memory = lambda aggressive=False: asked.append(aggressive)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modules_forge", package)
    monkeypatch.setitem(sys.modules, name, module)
    host.ours("host").make_room()
    host.ours("host").make_room(everything=True)
    assert asked == [False, True]


@pytest.mark.parametrize(("failures", "restored"), [(1, True), (2, False)])
def test_out_of_memory_is_tried_again_with_all_memory_freed(chosen, portrait, monkeypatch, failures, restored):
    expected = chosen.restore_faces(portrait)
    freed: list[bool] = []
    monkeypatch.setattr(chosen.ours("host"), "make_room", lambda everything=False: freed.append(everything))
    restorer, left = chosen.ours("engine").FaceRestorer, [failures]
    real = restorer.__call__

    def call(self, picture):
        left[0] -= 1
        if left[0] >= 0:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(self, picture)

    monkeypatch.setattr(restorer, "__call__", call)
    np.testing.assert_array_equal(chosen.restore_faces(portrait), expected if restored else portrait)
    assert freed == [True] and bool(chosen.reported and "not enough memory" in chosen.reported[-1]) is not restored


def test_the_hosts_torch_modes_do_not_matter(chosen, portrait):
    """Forge generates in inference mode; other hosts may be inside autocast."""
    engine = chosen.ours("engine").ENGINE
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        inside = chosen.restore_faces(portrait)
        assert not any(parameter.is_inference() for parameter in engine._network.parameters())
        engine.unload()
    np.testing.assert_array_equal(chosen.restore_faces(portrait), inside)
    expected = FaceRestorer(RestoreOptions(model=LITE, device="cpu"))(portrait).image
    np.testing.assert_array_equal(inside, expected)


def test_no_reader_of_torch_is_needed_and_nothing_is_imported_by_root_later():
    """The host removes the extension's root from sys.path after loading, renames the folder and replaces torch.load."""
    code = f"""
import os, sys, tempfile
from pathlib import Path
import numpy as np, torch
def refused(*a, **k): raise AssertionError("torch.load was called")
torch.load = refused
os.chdir(tempfile.gettempdir())
os.environ["GPEN_OFFLINE"] = "1"
sys.path = [entry for entry in sys.path if entry and Path(entry).resolve() != Path({str(ROOT)!r})]
sys.path.insert(0, {str(ROOT / "tests" / "a1111" / "standin")!r})
from modules import errors, face_restoration, paths, script_callbacks, scripts, shared
paths.models_path = str(Path(tempfile.gettempdir()) / "no such folder")
scripts.load_scripts(Path({str(ROOT)!r}), [])
script_callbacks.run("before_ui")
assert {str(ROOT)!r} not in sys.path
shared.opts.face_restoration_model = "GPEN"
from PIL import Image
picture = np.asarray(Image.open(Path({str(ROOT)!r}) / "examples" / "portrait.png").convert("RGB").resize((160, 160)))
done = face_restoration.restore_faces(picture)
assert (done != picture).any(), errors.reported
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
