"""Colourising and inpainting in the WebUI: the accordion in Extras and the routes /gpen/colorize and /gpen/inpaint."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from test_a1111_api import pixels, png, start

from gpen_core.pictures import sent
from gpen_core.task_options import FACE_TASKS, TaskOptions

LUMA = (0.299, 0.587, 0.114)


@pytest.fixture
def own(host, recipe, monkeypatch):
    """Weights made from seeds as models/GPEN/own.pth, which are also what `auto` finds."""
    state = recipe.make_state_dict(recipe.gpen_shapes(64, 2, 0.125))
    (host.models / "GPEN").mkdir(parents=True)
    path = host.models / "GPEN" / "own.pth"
    torch.save({key: torch.from_numpy(value) for key, value in state.items()}, path)
    engine = host.ours("engine")
    real = engine.find_model
    monkeypatch.setattr(engine, "find_model", lambda model, *given, **more: real("own.pth" if model == "auto" else model, *given, **more))
    return path.name


def painted(portrait):
    """Its eyes painted white."""
    broken = portrait.copy()
    broken[28:38, 58:82] = 255
    return broken


def done(host, picture, **arguments):
    pp = host.module("scripts_postprocessing").PostprocessedImage(picture)
    host.extras("GpenTasks").process(pp, enable=True, **arguments)
    return pp


# --- Extras ----------------------------------------------------------------------------------------------------------


def test_nothing_is_done_unless_asked(host, portrait):
    picture = Image.fromarray(portrait)
    controls = host.extras("GpenTasks").ui()
    for enable in (None, False):
        pp = host.module("scripts_postprocessing").PostprocessedImage(picture)
        host.extras("GpenTasks").process(pp, enable=enable, **dict.fromkeys(set(controls) - {"enable"}))
        assert pp.image is picture and pp.info == {}


def test_the_accordion_agrees_with_the_table(host):
    controls = host.extras("GpenTasks").ui()
    assert not controls.pop("enable").value and tuple(controls.pop("task").arguments["choices"]) == FACE_TASKS
    table = {option.name: option for task in FACE_TASKS for option in TaskOptions.table(task)}
    for name, control in controls.items():
        assert control.value == table[name].default and control.label.startswith(table[name].label)
        assert tuple(control.arguments.get("choices", ())) == table[name].choices
    # What is not in the accordion is in Settings, but the host's device, and the person, whom only the API takes here.
    elsewhere = {option.name for option in host.ours("fields").settings()}
    assert set(table) - set(controls) - elsewhere == {"device", "person", "person_likeness"}


def test_a_grey_picture_gets_colours_and_keeps_its_alpha(host, portrait, own):
    grey = Image.fromarray(portrait).convert("L")
    alpha = Image.fromarray(np.tile(np.arange(160, dtype=np.uint8), (160, 1)))
    pp = done(host, Image.merge("LA", (grey, alpha)), task="colorize", official=False, rest="keep", max_faces=0, order="largest")
    image = np.asarray(pp.image).astype(int)
    assert image.shape == (160, 160, 4) and np.array_equal(image[..., 3], np.asarray(alpha))
    assert np.abs(image[..., :3] @ LUMA - np.asarray(grey)).max() <= 0.501
    assert (image[..., 0] != image[..., 2])[30:50, 60:80].mean() > 0.9 and (image[100:, :, 0] == image[100:, :, 2]).all()
    assert pp.info == {"GPEN colorize model": "own", "GPEN colorize": "1 of 1 face"}


def test_white_paint_is_filled_and_nothing_else(host, portrait, own):
    broken = painted(portrait)
    pp = done(host, Image.fromarray(broken), task="inpaint", rest="grey")  # "Colorize only", says its label
    image = np.asarray(pp.image)
    changed = (image != broken).any(axis=2)
    assert changed[29:37, 60:80].all() and not changed[:20].any() and not changed[50:].any()
    assert pp.info == {"GPEN inpaint model": "own", "GPEN inpaint": "1 of 1 face"}


@pytest.mark.parametrize(("task", "given"), [("colorize", {"rest": "grey"}), ("inpaint", {}), ("colorize", {"aligned": True})])
def test_every_control_is_heard(host, portrait, own, task, given):
    picture = Image.fromarray(painted(portrait))
    plain = np.asarray(done(host, picture, task=task).image)
    for change in ({"official": True}, {"faces": "3"}, given):
        pp = done(host, picture, task=task, **change)
        assert not change or not np.array_equal(np.asarray(pp.image), plain), change
        assert all(pp.info[f"GPEN {task} {name}"] == value for name, value in change.items())


def test_what_the_accordion_lacks_comes_from_settings(host, portrait, own):
    host.opts.gpen_min_size, host.opts.gpen_strength, host.opts.gpen_mask = 4000, 0.5, "parsing"
    pp = done(host, Image.fromarray(painted(portrait)), task="inpaint")
    assert pp.info["GPEN inpaint min size"] == 4000 and pp.info["GPEN inpaint"] == "0 of 0 faces"


def test_missing_weights_leave_the_picture_and_are_told(host, portrait):
    picture = Image.fromarray(portrait)
    pp = done(host, picture, task="colorize")
    assert pp.image is picture and list(pp.info) == ["GPEN colorize"] and "GPEN-Colorization-1024" in pp.info["GPEN colorize"]
    assert "GPEN-Colorization-1024" in host.reported[-1]
    assert "there is no task" in done(host, picture, task="restore").info["GPEN restore"]


def test_restoring_after_a_task_uses_the_restorers_own_network(host, portrait, own):
    engine, options = host.ours("engine").ENGINE, host.ours("settings").current
    lite = {"model": "GPEN-BFR-256-lite"}
    before = engine.run(portrait, options(lite)).image
    assert engine.run(portrait, TaskOptions("colorize")).model == "own"
    again = engine.run(portrait, options(lite))
    assert again.model == "GPEN-BFR-256-lite" and np.array_equal(again.image, before)


# --- API -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(host):
    pytest.importorskip("fastapi", reason="the WebUI brings fastapi")
    pytest.importorskip("httpx", reason="fastapi's test client needs httpx")
    return start(host)


@pytest.mark.parametrize("task", FACE_TASKS)
def test_the_api_agrees_with_the_table(host, client, task):
    api = host.ours("api")
    schema = {"colorize": api.ColorizeRequest, "inpaint": api.InpaintRequest}[task].schema()["properties"]
    table = {option.name: option for option in TaskOptions.table(task)}
    assert set(schema) == {"image", *table, *(["hole"] if task == "inpaint" else [])}
    for name, option in table.items():
        assert schema[name]["default"] == option.default
        assert name == "person" or schema[name]["description"] == option.help  # the person is a picture there, not a path
        assert tuple(schema[name].get("enum", ())) == option.choices
    assert client.get("/openapi.json").json()["paths"][f"/gpen/{task}"]["post"]["summary"]


def test_colours_over_the_api(client, portrait, own):
    grey = np.asarray(Image.fromarray(portrait).convert("L"))
    answer = client.post("/gpen/colorize", json={"image": png(grey), "model": own}).json()
    image = pixels(answer).astype(int)
    assert answer["model"] == "own" and [face["status"] for face in answer["faces"]] == ["restored"]
    assert image.shape == (160, 160, 3) and np.abs(image @ LUMA - grey).max() <= 0.501
    others = [pixels(client.post("/gpen/colorize", json={"image": png(portrait), "model": own, **one}).json()) for one in
              ({}, {"rest": "grey"}, {"official": True}, {"feather": 0}, {"threshold": 1})]  # fmt: skip
    assert all(not np.array_equal(others[0], other) for other in others[1:])


def test_a_hole_over_the_api_and_at_full_depth(client, portrait, own):
    deep = portrait.astype(np.uint16).mean(axis=2).astype(np.uint16) * 257
    buffer = io.BytesIO()
    Image.fromarray(deep).save(buffer, "PNG")
    hole = np.zeros((160, 160), np.uint8)
    hole[28:38, 58:82] = 255
    sent = {"image": base64.b64encode(buffer.getvalue()).decode(), "hole": png(hole), "model": own}
    answer = client.post("/gpen/inpaint", json=sent).json()
    image = pixels(answer)
    assert image.dtype.itemsize >= 2 and np.array_equal(image[hole == 0], deep[hole == 0]) and (image != deep)[hole > 0].mean() > 0.9
    white = client.post("/gpen/inpaint", json={"image": png(painted(portrait)), "model": own}).json()
    assert (pixels(white) != painted(portrait))[29:37, 60:80].any(axis=2).all()


@pytest.mark.parametrize(
    ("task", "change", "told"),
    [
        ("colorize", {"strength": 0.5}, "strength"),
        ("colorize", {"hole": ""}, "hole"),
        ("inpaint", {"rest": "grey"}, "rest"),
        ("inpaint", {"mask": "landmarks"}, "mask"),
        ("inpaint", {"hole": "%%%"}, "hole is not base64"),
        ("inpaint", {"hole": base64.b64encode(b"no picture").decode()}, "in `hole`"),
        ("inpaint", {"hole": png(np.zeros((9, 9), np.uint8))}, "9x9"),
        ("inpaint", {"model": "../own.pth"}, "not a path"),
        ("colorize", {"model": "GPEN-BFR-256-lite"}, "another task"),
        ("restore", {"model": "GPEN-Inpainting-1024"}, "another task"),
        ("restore", {"hole": ""}, "hole"),
    ],
)
def test_what_does_not_apply_or_fit_is_422(client, portrait, own, task, change, told):
    answer = client.post(f"/gpen/{task}", json={"image": png(portrait), "model": own, **change})
    assert answer.status_code == 422 and told in answer.text, answer.text


def test_missing_weights_are_503(client, portrait):
    answer = client.post("/gpen/inpaint", json={"image": png(portrait)})
    assert answer.status_code == 503 and "GPEN-Inpainting-1024" in answer.text


def test_only_inpainting_takes_two_pictures(host, client, monkeypatch):
    monkeypatch.setattr(sent, "MAX_BYTES", (3 << 20) // 4)
    long = {"Content-Length": str(3 << 19)}
    codes = {task: client.post(f"/gpen/{task}", content=b"x", headers=long).status_code for task in ("restore", "colorize", "inpaint")}
    assert codes == {"restore": 413, "colorize": 413, "inpaint": 422}
