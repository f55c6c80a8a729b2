"""Every setting keeps its promise through the WebUI: Settings with Restore faces, the Extras accordion, the API."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from option_promises import NAMES, PROMISES, Promise, Run
from option_world import LITE, Drawn, Scene, World, draw, own_model, tinted
from PIL import Image

from gpen_core.options import RestoreOptions

# A picture that is being generated keeps its size, and is no cropped face; the device is the host's.
NOT_IN_SETTINGS = ("output_size", "factor", "background", "aligned", "device", "person", "person_likeness", "steady")
NOT_IN_EXTRAS = ("device", "steady")  # there are no videos
NOT_IN_THE_API = ("steady",)


def promises(leave_out: tuple[str, ...]) -> pytest.MarkDecorator:
    kept = [promise for promise in PROMISES if promise.name not in leave_out]
    return pytest.mark.parametrize("promise", kept, ids=[promise.name for promise in kept])


@pytest.fixture
def world(host: Any, monkeypatch: pytest.MonkeyPatch) -> World:
    own_model(host.models)
    return World(monkeypatch, doors=("gpen_webui.engine",))


def png(scene: Scene) -> str:
    """A drawing as PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(scene.pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def floats(image: Any) -> np.ndarray:
    return np.asarray(image, np.float32) / 255


@promises(NOT_IN_SETTINGS)
def test_settings_keep_the_promise(promise: Promise, host: Any, world: World) -> None:
    host.opts.face_restoration_model = "GPEN"

    def through(scene: Scene, settings: Mapping[str, Any]) -> np.ndarray:
        for name, value in settings.items():
            assert f"gpen_{name}" in host.opts.data_labels, name
            setattr(host.opts, f"gpen_{name}", value)
        image = host.restore_faces(scene.pixels)
        assert not [text for text in host.reported if "left as it was" in text], host.reported
        return floats(image)

    promise.check(world, through)


@promises(NOT_IN_EXTRAS)
def test_extras_keep_the_promise(promise: Promise, host: Any, world: World) -> None:
    """Options that the accordion lacks come from Settings."""
    shown = {option.name for option in host.ours("fields").extras()}

    def through(scene: Scene, settings: Mapping[str, Any]) -> np.ndarray:
        given = {name: value for name, value in settings.items() if name in shown}
        if "person" in given:
            given["person"] = Image.fromarray(given["person"].pixels) if given["person"] else None
        for name, value in settings.items():
            if name not in shown:
                setattr(host.opts, f"gpen_{name}", value)
        pp = host.module("scripts_postprocessing").PostprocessedImage(Image.fromarray(scene.pixels))
        host.extras().process(pp, enable=True, **given)
        assert "not restored" not in str(pp.info), pp.info
        return floats(pp.image)

    promise.check(world, through)


def test_what_is_left_out_is_left_out_on_purpose(host: Any) -> None:
    fields = host.ours("fields")
    assert {option.name for option in RestoreOptions.table()} - {option.name for option in fields.settings()} == set(NOT_IN_SETTINGS)
    assert {option.name for option in RestoreOptions.table()} == set(NAMES)
    # The host says where its face restorers run.
    assert not set(NOT_IN_EXTRAS) & {option.name for option in (*fields.extras(), *fields.settings())}


def test_the_device_is_the_hosts(host: Any, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    host.opts.face_restoration_model = "GPEN"

    def through(scene: Scene, settings: Mapping[str, Any]) -> np.ndarray:
        monkeypatch.setattr(host.module("devices"), "get_device_for", lambda task: torch.device(settings["device"]))
        return floats(host.restore_faces(scene.pixels))

    next(promise for promise in PROMISES if promise.name == "device").check(world, through)


def api(host: Any) -> Run:
    """Sends settings and a scene's picture to the API, and returns the restored picture."""
    fastapi = pytest.importorskip("fastapi", reason="the WebUI brings fastapi")
    client = pytest.importorskip("fastapi.testclient", reason="fastapi's test client needs httpx")
    app = fastapi.FastAPI()
    host.module("script_callbacks").run("app_started", None, app)
    ask = client.TestClient(app)

    def through(scene: Scene, settings: Mapping[str, Any]) -> np.ndarray:
        given = {"image": png(scene), **settings}
        if given.get("person"):
            given["person"] = png(given["person"])
        answer = ask.post("/gpen/restore", json=given)
        assert answer.status_code == 200, answer.text
        return floats(Image.open(io.BytesIO(base64.b64decode(answer.json()["image"]))))

    return through


@promises(NOT_IN_THE_API)
def test_the_api_keeps_the_promise(promise: Promise, host: Any, world: World) -> None:
    promise.check(world, api(host))


def test_the_api_puts_a_preset_below_what_is_sent(host: Any, world: World) -> None:
    scene, ask = draw((90, 180), Drawn("clear", (45, 45)), Drawn("doubtful", (135, 45), score=0.75)), api(host)
    world.paint = tinted  # a face that the preset's guard lets pass
    for sent, wanted in (
        ({}, {"clear"}),
        ({"preset": "group"}, {"clear", "doubtful"}),
        ({"preset": "group", "threshold": 0.9}, {"clear"}),  # the default, but it was sent
    ):
        assert scene.painted(ask(scene, {"model": LITE, **sent})) == wanted, sent
