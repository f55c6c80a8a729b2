"""The routes /gpen/restore and /gpen/models. fastapi is the WebUI's; where it is not installed, test_real_webui.py asks a real one."""

from __future__ import annotations

import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpen_core.pictures import sent

pytest.importorskip("fastapi", reason="the WebUI brings fastapi")
pytest.importorskip("httpx", reason="fastapi's test client needs httpx")
LITE = "GPEN-BFR-256-lite"
WEIGHTS = Path(__file__).resolve().parents[2] / "gpen_core" / "weights" / "embedded" / f"{LITE}.safetensors"


def png(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def send(client, values):
    """Sends raw JSON, because httpx itself rejects some valid JSON values."""
    return client.post("/gpen/restore", content=json.dumps(values), headers={"Content-Type": "application/json"})


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


HOSTILE = ["~nobody", "~nobody/x.pth", "~", ".", "..", "", "a" * 300, "a" * 300 + ".pth", "x\0.pth", "\ud800.pth", "con", "a/b", "😀"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_no_model_has_are_4xx(client, portrait, name):
    answer = send(client, {"image": png(portrait), "model": name})
    assert answer.status_code in (422, 503), answer.text  # 503: a file's name, and it is not on disk
    assert "model" in answer.text or "weight" in answer.text


@pytest.mark.parametrize("device", ["meta", "", "cuda:99", "cpu:-1", "hpu", "xla", "ipu", "\ud800", "a" * 300, "gpu"])
def test_devices_that_cannot_be_used_are_422(client, portrait, device):
    answer = send(client, {"image": png(portrait), "model": LITE, "device": device})
    assert answer.status_code == 422 and ("device" in answer.text or "setting" in answer.text), answer.text


@pytest.mark.parametrize(
    "values",
    [{"strength": float("nan")}, {"strength": 10**400}, {"\ud800": 1}, {"order": "\ud800"}, {"faces": "\ud800"}, {"image": "\ud800"}],
)
def test_values_that_json_cannot_send_back_are_422(client, portrait, values):
    assert send(client, {"image": png(portrait), **values}).status_code == 422


def test_an_answer_does_not_repeat_the_picture(client, portrait):
    sent = {"image": png(portrait), "strenght": 1}
    answer = client.post("/gpen/restore", json=sent)
    assert answer.status_code == 422 and "strenght" in answer.text and sent["image"][:80] not in answer.text
    answer = client.post("/gpen/restore", json=[sent["image"]])
    assert answer.status_code == 422 and sent["image"][:80] not in answer.text


def test_a_model_is_not_looked_for_in_the_working_directory(client, portrait, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.safetensors").write_bytes(WEIGHTS.read_bytes())
    answer = client.post("/gpen/restore", json={"image": png(portrait), "model": "own.safetensors"})
    assert answer.status_code == 503 and "own.safetensors" in answer.text
    (tmp_path / "models" / "GPEN").mkdir(parents=True)
    (tmp_path / "models" / "GPEN" / "own.safetensors").write_bytes(WEIGHTS.read_bytes())
    assert client.post("/gpen/restore", json={"image": png(portrait), "model": "own.safetensors"}).status_code == 200


def test_answers_name_no_folder_of_the_machine(host, client, portrait, tmp_path):
    answer = client.post("/gpen/restore", json={"image": png(portrait), "model": "GPEN-BFR-512"})
    assert answer.status_code == 503 and str(tmp_path) not in answer.text and "models" in answer.json()["detail"]
    assert str(tmp_path) in host.reported[-1]  # where the owner of the machine reads it


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(host, client, monkeypatch, form):
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200)).save(buffer, form)
    body = {"image": base64.b64encode(buffer.getvalue()).decode(), "model": LITE}
    assert client.post("/gpen/restore", json=body).status_code == 200
    monkeypatch.setattr(sent, "MAX_PIXELS", 300 * 200 - 1)
    from PIL import ImageFile

    decoded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self))
    answer = client.post("/gpen/restore", json=body)
    assert answer.status_code == 422 and "300x200 pixels are too many" in answer.text and not decoded


def test_a_file_of_too_many_bytes_is_refused(host, client, portrait, monkeypatch):
    api = host.ours("api")
    monkeypatch.setattr(sent, "MAX_BYTES", 1000)
    read: list[object] = []
    monkeypatch.setattr(sent, "decode_picture", lambda *given: read.append(given))
    assert client.post("/gpen/restore", json={"image": png(portrait)}).status_code == 413
    # Said by the header: not even read.
    monkeypatch.setattr(api.RestoreRequest, "__init__", lambda *_, **__: read.append("parsed"))
    answer = client.post("/gpen/restore", content=b"x", headers={"Content-Length": "999999"})
    assert answer.status_code == 413 and not read


def test_pictures_are_decoded_and_encoded_one_at_a_time(host, client, portrait, monkeypatch):
    """Neither waiting nor finished requests keep pixels in memory."""
    lock, seen = host.module("call_queue").queue_lock, []
    for name in ("decode_picture", "encode_picture"):
        real = getattr(sent, name)
        monkeypatch.setattr(sent, name, lambda *given, name=name, real=real: seen.append((name, lock.locked())) or real(*given))
    lock.acquire()
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(client.post, "/gpen/restore", json={"image": png(portrait), "model": LITE}) for _ in range(3)]
        time.sleep(0.05)
        assert seen == []
        lock.release()
        assert [answer.result().status_code for answer in answers] == [200] * 3
    assert seen == [("decode_picture", True), ("encode_picture", True)] * 3


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


def test_the_person_is_a_picture_and_never_a_path(host, client, portrait, tmp_path):
    """Whoever may call the API may not read this machine's files."""
    path = tmp_path / "person.png"
    Image.fromarray(portrait).save(path)
    for text in (str(path), path.as_uri(), "data:," + str(path), "etc/passwds", "!"):
        answer = client.post("/gpen/restore", json={"image": png(portrait), "model": LITE, "person": text})
        assert answer.status_code == 422 and "person" in answer.text and "recogniser" not in answer.text, answer.text
    answer = client.post("/gpen/restore", json={"image": png(portrait), "model": LITE, "person": png(portrait)})
    assert answer.status_code == 503 and "w600k_r50.onnx" in answer.text, "a picture is taken; here the recogniser is missing"
