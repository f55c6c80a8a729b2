"""The extension in a real WebUI: WEBUI=path/to/checkout pytest tests/a1111

WEBUI_PYTHON: the WebUI's Python, if it is not in the checkout's venv. The WebUI starts without a checkpoint, on the CPU, in a temporary
data folder; the checkout itself is not changed. Written for A1111 1.10.1, Forge, Forge Neo and reForge.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpen_core import FaceRestorer, RestoreOptions
from tests.hosts.family import named
from tests.hosts.server import Server

CHECKOUT = os.environ.get("WEBUI")
NAME = named(Path(CHECKOUT)) if CHECKOUT else ""
ROOT = Path(__file__).resolve().parents[2]
PROBE = Path(__file__).parent / "probe"
LITE = "GPEN-BFR-256-lite"
MINE = {"face_restoration_model": "GPEN", "gpen_model": LITE}

pytestmark = pytest.mark.skipif(not CHECKOUT, reason="needs a real WebUI: set WEBUI to the folder of a checkout (docs/a1111.md)")


def _python(checkout: Path) -> str:
    given = os.environ.get("WEBUI_PYTHON")
    places = [checkout / "venv" / "bin" / "python", checkout / "venv" / "Scripts" / "python.exe"]
    return given or next((str(place) for place in places if place.exists()), sys.executable)


@pytest.fixture(scope="module")
def webui(tmp_path_factory):
    checkout = Path(CHECKOUT or "")
    data = tmp_path_factory.mktemp("webui data")
    running = Server(NAME, checkout, _python(checkout), data, {"gpen-probe": PROBE})
    yield running
    running.close()


def png(array) -> str:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def image(text):
    return Image.open(io.BytesIO(base64.b64decode(text.split(",")[-1])))


def pixels(text):
    return np.asarray(image(text))


@pytest.fixture(scope="module")
def expected(portrait):
    """The core's result for the portrait in this process; another build of torch or OpenCV may differ slightly."""
    return FaceRestorer(RestoreOptions(model=LITE, device="cpu"))(portrait).image.astype(int)


def alike(done, expected):
    return done.shape == expected.shape and np.abs(done.astype(int) - expected).max() <= 6


def test_everything_is_registered_once_and_after_two_reloads_too(webui):
    for loads in (1, 2, 3):
        state = webui.get("/gpen-probe/state")
        assert state["loads"] == loads
        assert state["restorers"].count("GPEN") == 1 and state["extras"].count("GPEN") == 1
        assert [label for label in state["axes"] if "GPEN" in label] == ["[GPEN] Model", "[GPEN] Strength", "[GPEN] Fidelity"]
        assert "gpen_model" in state["settings"] and len(state["infotext_scripts"]) == 1
        # By now A1111 has taken the extension's root off sys.path; its forks have not.
        assert state["on_path"] == [] or NAME != "a1111"
        assert state["read_back"] == {"face_restoration_model": "GPEN", "gpen_strength": 0.35}
        if loads < 3:
            webui.post("/gpen-probe/reload_ui")
            webui.wait(loads + 1)
    assert "GPEN" in [row["name"] for row in webui.get("/sdapi/v1/face-restorers")]
    # Forges fix the list of settings their API tells when the first built-in extension imports it, before any other extension is loaded.
    assert NAME != "a1111" or webui.get("/sdapi/v1/options")["gpen_strength"] == 1


def test_the_hosts_restorer_is_ours(webui, portrait, expected):
    done = pixels(webui.post("/gpen-probe/restore_faces", image=png(portrait), settings=MINE)["image"])
    assert alike(done, expected) and (done != portrait).any()
    unload = {**MINE, "face_restoration_unload": True}
    np.testing.assert_array_equal(pixels(webui.post("/gpen-probe/restore_faces", image=png(portrait), settings=unload)["image"]), done)
    missing = {**MINE, "gpen_model": "GPEN-BFR-512"}
    np.testing.assert_array_equal(pixels(webui.post("/gpen-probe/restore_faces", image=png(portrait), settings=missing)["image"]), portrait)
    assert "GPEN: the picture is unchanged" in webui.text()


def test_a_generation_runs_to_its_end_and_says_what_was_done(webui, portrait, expected):
    answer = webui.post("/gpen-probe/process", image=png(portrait), settings={**MINE, "gpen_max_faces": 3})
    assert np.abs(pixels(answer["image"]).astype(int) - expected).max() <= 7  # the host truncates where it makes 8 bits
    for text in ("Face restoration: GPEN", f"GPEN model: {LITE}", "GPEN max faces: 3"):
        assert text in answer["infotext"]
    weaker = webui.post("/gpen-probe/process", image=png(portrait), settings={**MINE, "gpen_strength": 0.0})
    assert np.abs(pixels(weaker["image"]).astype(int) - portrait).max() <= 1 and "GPEN strength: 0.0" in weaker["infotext"]


def test_extras_single_with_alpha_and_batch(webui, portrait, expected):
    alpha = np.tile(np.arange(160, dtype=np.uint8), (160, 1))
    given = {"enable": True, "model": LITE}
    answer = webui.post("/gpen-probe/extras", images=[png(np.dstack([portrait, alpha]))], arguments=given)
    done = pixels(answer["images"][0])
    assert alike(done[:, :, :3], expected) and "GPEN restored: 1 of 1 face" in answer["info"]
    untouched = pixels(webui.post("/gpen-probe/extras", images=[png(np.dstack([portrait, alpha]))], arguments={})["images"][0])
    np.testing.assert_array_equal(done[:, :, 3:], untouched[:, :, 3:])  # hosts before 1.8 drop alpha themselves
    assert f"GPEN model: {LITE}" in answer["info"]

    given = {**given, "output_size": "factor", "factor": 2}
    batch = webui.post("/gpen-probe/extras", images=[png(portrait), png(portrait[:, ::-1])], arguments=given)["images"]
    assert [image(picture).size for picture in batch] == [(320, 320), (320, 320)]


def test_the_hosts_own_extras_api_is_unharmed(webui, portrait):
    body = {"image": png(portrait), "upscaling_resize": 1, "upscaler_1": "None"}
    np.testing.assert_array_equal(pixels(webui.post("/sdapi/v1/extra-single-image", **body)["image"])[:, :, :3], portrait)
    known = [row["name"] for row in webui.get("/sdapi/v1/upscalers")]
    upscaler, side = ("Lanczos", 320) if "Lanczos" in known else ("None", 160)  # Forge Neo has none without files
    body = {"imageList": [{"data": png(portrait), "name": "a.png"}], "upscaling_resize": 2, "upscaler_1": upscaler}
    (done,) = webui.post("/sdapi/v1/extra-batch-images", **body)["images"]
    assert image(done).size == (side, side)


def test_own_api_with_two_models_in_turn(webui, portrait, expected, tmp_path_factory):
    folder = next(tmp_path_factory.getbasetemp().glob("webui data*")) / "models" / "GPEN"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.safetensors").write_bytes((ROOT / f"gpen_core/weights/embedded/{LITE}.safetensors").read_bytes())
    assert "own.safetensors" in [row["name"] for row in webui.get("/gpen/models")]
    for model in (LITE, "own.safetensors", "auto"):
        answer = webui.post("/gpen/restore", image=png(portrait), model=model)
        assert alike(pixels(answer["image"]), expected) and answer["model"] == LITE
        assert [face["status"] for face in answer["faces"]] == ["restored"]
    assert webui.ask("/gpen/restore", {"image": png(portrait), "strength": 2})[0] == 422
    assert webui.ask("/gpen/restore", {"image": png(portrait), "strenght": 1})[0] == 422
    assert webui.ask("/gpen/restore", {"image": png(portrait), "faces": "first"})[0] == 422
    for change in ({"model": "~nobody"}, {"model": "a" * 300}, {"device": "meta"}, {"faces": "\ud800"}, {"strength": float("nan")}):
        status, told = webui.ask("/gpen/restore", {"image": png(portrait), **change})
        assert status == 422 and png(portrait)[:80] not in told
    assert webui.ask("/gpen/restore", {"image": "A" * (200 << 20)})[0] == 413
    documented = webui.get("/openapi.json")["paths"]
    assert documented["/gpen/restore"]["post"]["summary"] and "/gpen/models" in documented


def test_interrupt_keeps_the_faces_that_are_done(webui, portrait):
    many = np.tile(portrait, (3, 5, 1))
    answers = []
    work = threading.Thread(target=lambda: answers.append(webui.post("/gpen/restore", image=png(many), model=LITE, order="left")))
    work.start()
    said = ""
    while work.is_alive():
        said = webui.get("/sdapi/v1/progress?skip_current_image=true").get("textinfo") or ""
        if re.match(r"GPEN face ([3-9]|1\d)/", said):  # an interrupted face is not finished
            webui.post("/sdapi/v1/interrupt")
            break
        time.sleep(0.02)
    work.join()
    (answer,) = answers
    status = [face["status"] for face in answer["faces"]]
    assert said.endswith("/15") and answer["stopped"]
    assert status[0] == "restored" and status[-1] == "stopped" and status == sorted(status)
    done = pixels(answer["image"])
    assert (done != many).any()
    np.testing.assert_array_equal(done[:, -60:], many[:, -60:])


def test_nothing_of_ours_failed_on_the_way(webui):
    told = [line for line in webui.text().splitlines() if line.startswith("*** Error") and "gpen" in line.lower()]
    assert told == []
