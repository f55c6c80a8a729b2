"""POST /gpen/v1/restore and GET /gpen/v1/models: the WebUI's fields, and its rules."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.options import RestoreOptions as Options
from gpen_core.pictures import sent
from gpen_page import api
from gpen_page.guard import Guard

LITE = "GPEN-BFR-256-lite"


@pytest.fixture
def client(engine):
    starlette = pytest.importorskip("starlette.applications", reason="gradio brings starlette")
    pytest.importorskip("httpx", reason="starlette's test client needs httpx")
    from starlette.testclient import TestClient

    return TestClient(Guard(starlette.Starlette(routes=api.routes(engine))), base_url="http://127.0.0.1:7860")


@pytest.fixture
def image(portrait):
    return base64.b64encode(portrait.read_bytes()).decode()


def pixels(answer):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["image"]))))


def test_a_picture_is_restored(client, image, portrait):
    answer = client.post("/gpen/v1/restore", json={"image": image, "model": LITE, "precision": "fp32"})
    assert answer.status_code == 200
    told = answer.json()
    assert set(told) == {"image", "faces", "seconds", "model", "scale", "stopped"} and told["model"] == LITE
    (face,) = told["faces"]
    assert face["status"] == "restored" and len(face["landmarks"]) == 5 and face["index"] == 0
    given = np.asarray(Image.open(portrait))
    np.testing.assert_array_equal(pixels(told), FaceRestorer(RestoreOptions(model=LITE, precision="fp32"))(given).image)


def test_the_fields_are_those_of_the_webuis_api():
    assert set(api.FIELDS) == {"image", "preset", *(option.name for option in Options.table())}


@pytest.mark.parametrize("option", Options.table(), ids=lambda option: option.name)
def test_every_field_is_checked(engine, image, option):
    wrong = 7 if option.kind in ("choice", "text") else "much"
    with pytest.raises(api.Refused, match=option.name) as refused:
        api.restored(engine, {"image": image, "model": LITE, option.name: wrong})
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"strenght": 1}, 422, "did you mean strength"),
        ({"image": ""}, 422, "image is missing"),
        ({"image": "%%%"}, 422, "image is not base64"),
        ({"image": "aGVsbG8="}, 422, "in `image`"),
        ({"image": ["a"]}, 422, "must be text"),
        ({"preset": "wedding"}, 422, "preset"),
        ({"model": "/etc/passwd"}, 422, "there is no model"),
        ({"model": "../GPEN.pth"}, 422, "there is no model"),
        ({"model": "C:x.pth"}, 422, "there is no model"),
        ({"model": "..\\x.pth"}, 422, "there is no model"),
        ({"model": "nothing.pth"}, 422, "there is no model of this name; there are auto, "),
        ({"model": "GPEN-Colorization-1024"}, 422, "another task"),
        ({"model": "GPEN-BFR-512"}, 503, "GPEN-BFR-512 is not on disk"),
        ({"person": "/etc/passwd"}, 422, "person"),
        ({"person": "aGVsbG8="}, 422, "in `person`"),
    ],
)
def test_what_is_wrong_is_explained(client, image, change, status, told):
    answer = client.post("/gpen/v1/restore", json={"image": image, "model": LITE, **change})
    assert answer.status_code == status and told in answer.json()["detail"]


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_what_is_no_request_is_refused(client, body):
    assert client.post("/gpen/v1/restore", content=body).status_code == 422


def test_answers_name_no_folder(client, image, engine, caplog):
    answer = client.post("/gpen/v1/restore", json={"image": image, "model": "GPEN-BFR-512"})
    assert str(engine.models_dir) not in answer.text and str(engine.models_dir) in caplog.text


def test_a_request_that_is_too_large_is_refused(client, monkeypatch):
    monkeypatch.setattr(sent, "MAX_BYTES", 1000)
    assert client.post("/gpen/v1/restore", content=b"x" * 70_000).status_code == 422, "of two pictures and the settings"
    assert client.post("/gpen/v1/restore", content=b"x" * 71_000).status_code == 413
    told = client.post("/gpen/v1/restore", json={"image": "x" * 2500})
    assert told.status_code == 413 and told.json()["detail"].startswith("image is too large")


def test_a_picture_that_is_too_large_is_refused(client, image, monkeypatch):
    monkeypatch.setattr(sent, "MAX_PIXELS", 1000)
    answer = client.post("/gpen/v1/restore", json={"image": image, "model": LITE})
    assert answer.status_code == 422 and "pixels" in answer.json()["detail"]


def test_models_are_listed(client):
    listed = {row["name"]: row for row in client.get("/gpen/v1/models").json()}
    assert listed[LITE]["on_disk"] and listed[LITE]["embedded"] and listed[LITE]["size"] == 256
    assert not listed["GPEN-BFR-2048"]["on_disk"]


def test_another_web_page_may_not_ask(client, image):
    body = json.dumps({"image": image, "model": LITE})
    answer = client.post("/gpen/v1/restore", content=body, headers={"Origin": "https://evil.example", "Content-Type": "text/plain"})
    assert answer.status_code == 403
    assert client.get("/gpen/v1/models", headers={"Host": "evil.example"}).status_code == 403


def test_nothing_is_left_behind(client, image, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert client.post("/gpen/v1/restore", json={"image": image, "model": LITE}).status_code == 200
    assert list(tmp_path.iterdir()) == []
