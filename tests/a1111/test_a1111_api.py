"""The routes /gpen/restore and /gpen/models. fastapi is the WebUI's; where it is not installed, test_real_webui.py asks a real one."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the WebUI brings fastapi")
pytest.importorskip("httpx", reason="fastapi's test client needs httpx")
LITE = "GPEN-BFR-256-lite"


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def pixels(answer):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["image"]))))


@pytest.fixture
def client(host):
    return start(host)


def start(host):
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()
    host.module("script_callbacks").run("app_started", None, app)
    return TestClient(app)


def test_a_picture_is_restored_with_its_alpha(host, client, portrait):
    from gpen_core import FaceRestorer, RestoreOptions

    alpha = np.tile(np.arange(160, dtype=np.uint8), (160, 1))
    host.opts.gpen_strength = 0.1  # of the page; the API has its own defaults
    answer = client.post("/gpen/restore", json={"image": png(np.dstack([portrait, alpha])), "model": LITE}).json()
    assert (answer["model"], answer["scale"], answer["stopped"]) == (LITE, 1, False) and answer["seconds"] > 0
    (face,) = answer["faces"]
    assert face["status"] == "restored" and len(face["landmarks"]) == 5 and len(face["box"]) == 4 and 0.9 <= face["score"] <= 1
    done = pixels(answer)
    np.testing.assert_array_equal(done[:, :, :3], FaceRestorer(RestoreOptions(model=LITE, device="cpu"))(portrait).image)
    np.testing.assert_array_equal(done[:, :, 3], alpha)
    assert not host.module("call_queue").queue_lock.locked() and host.state.job == ""


def test_every_option_is_taken(client, portrait):
    sent = {"image": "data:image/png;base64," + png(portrait), "output_size": "factor", "factor": 2, "strength": 0, "device": "cpu"}
    answer = client.post("/gpen/restore", json=sent).json()
    assert answer["scale"] == 2 and pixels(answer).shape == (320, 320, 3)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"strength": 2}, "strength"),
        ({"strength": "much"}, "strength"),
        ({"order": "biggest"}, "order"),
        ({"strenght": 1}, "strenght"),
        ({"faces": "first"}, "faces"),
        ({"image": "%%%"}, "image is not base64"),
        ({"image": base64.b64encode(b"no picture").decode()}, "image"),
        ({"model": "GFPGAN"}, "GFPGAN"),
        ({"model": "../weights.pth"}, "not a path"),
        ({"model": "C:\\weights.pth"}, "not a path"),
        ({"model": "/etc/weights.pth"}, "not a path"),
    ],
)
def test_bad_values_are_422(client, portrait, change, told):
    answer = client.post("/gpen/restore", json={"image": png(portrait), **change})
    assert answer.status_code == 422 and told in answer.text, answer.text
    assert "picture: " not in answer.text and "gpen-" not in answer.text  # the temporary file is nobody's business


def test_missing_fields_are_422(client):
    assert client.post("/gpen/restore", json={}).status_code == 422


def test_weights_that_are_not_to_be_had_are_503(client, portrait):
    answer = client.post("/gpen/restore", json={"image": png(portrait), "model": "GPEN-BFR-512"})
    assert answer.status_code == 503 and "GPEN-BFR-512" in answer.json()["detail"]


def test_models_are_listed(client):
    rows = {row["name"]: row for row in client.get("/gpen/models").json()}
    assert rows[LITE]["on_disk"] and rows[LITE]["embedded"] and rows[LITE]["size"] == 256
    assert not rows["GPEN-BFR-2048"]["on_disk"] and "Alibaba" in rows["GPEN-BFR-2048"]["licence"]
    assert "GPEN-Colorization-1024" not in rows


def test_the_routes_are_documented(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert paths["/gpen/restore"]["post"]["summary"] and "503" in paths["/gpen/restore"]["post"]["responses"]
    assert paths["/gpen/models"]["get"]["summary"]


def test_the_hosts_password_is_asked_for(host):
    host.module("shared").cmd_opts.api_auth = "ann:secret,ben:other"
    client = start(host)
    assert client.get("/gpen/models").status_code == 401
    assert client.get("/gpen/models", auth=("ann", "other")).status_code == 401
    assert client.get("/gpen/models", auth=("eve", "secret")).status_code == 401
    assert client.post("/gpen/restore", json={"image": ""}).status_code == 401
    assert client.get("/gpen/models", auth=("ben", "other")).status_code == 200


def test_there_are_no_routes_where_the_hosts_api_is_off(host):
    host.module("shared").cmd_opts.api = False
    assert start(host).get("/gpen/models").status_code == 404
    host.module("shared").cmd_opts.nowebui = True
    assert start(host).get("/gpen/models").status_code == 200
