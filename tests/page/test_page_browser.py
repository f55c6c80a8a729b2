"""The page in a headless browser, with the real gradio: files in, faces switched, restored, cancelled, downloaded."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from html import unescape
from pathlib import Path

import numpy as np
import page_host
import pytest
from group_picture import composed
from PIL import Image
from video_files import make_video

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.pictures import from_array, read_picture, write_picture

HERE = Path(__file__).resolve().parent
PASSWORD = "ein Geheimnis ä"
KNOWN = "Basic " + base64.b64encode(f"anyone:{PASSWORD}".encode()).decode()
TWO = "two ü हिन्दी.png"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The inputs: 16-bit with alpha, broken, 87 faces, a video."""
    made = tmp_path_factory.mktemp("page")
    face = np.asarray(Image.open(page_host.ROOT / "examples" / "portrait.png"))[20:180, 100:260].astype(np.uint16) * 257
    alpha = np.tile(np.arange(320, dtype=np.uint16) * 100 + 30_007, (160, 1))
    write_picture(from_array(np.dstack([np.concatenate([face, face], axis=1), alpha])), made / TWO)
    (made / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    write_picture(from_array(np.rint(np.concatenate([composed().pixels] * 3) * 255).astype(np.uint8)), made / "crowd.png")
    make_video(made / "clip.mp4")
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(address, folder of temporary files) of a running page."""
    python = page_host.environment()
    temporary = tmp_path_factory.mktemp("temporary")
    environ = {**os.environ, "GPEN_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "2"}
    environ |= {"TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary)}
    command = [str(python), "-m", "gpen_core", "page", "--no-browser", "--password", PASSWORD]
    command += ["--models-dir", str(tmp_path_factory.mktemp("models"))]
    with (tmp_path_factory.mktemp("log") / "log.txt").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=page_host.ROOT, env=environ, stdout=log, stderr=log)
        try:
            yield address(process, Path(log.name)), temporary
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    if sys.platform != "win32":  # there it is killed at once
        assert list(temporary.glob("gpen-*")) == [], "temporary files are left"


def address(process, log):
    for _ in range(600):
        said = log.read_text("utf-8")
        if "The page is at " in said:
            url = said.split("The page is at ")[1].split()[0]
            for _ in range(100):
                try:
                    urllib.request.urlopen(url)
                except urllib.error.HTTPError:
                    return url
                except OSError:
                    time.sleep(0.2)
        assert process.poll() is None, said
        time.sleep(0.2)
    raise AssertionError(log.read_text("utf-8"))


@pytest.fixture(scope="module")
def seen(served, folder):
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    browser = next((path for path in found if path), None)
    if browser is None:
        pytest.skip("needs a browser: install Chromium or Chrome")
    command = [str(page_host.environment()), str(HERE / "browse_page.py"), served[0], browser, PASSWORD, str(folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env={**os.environ, "PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def status(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("path", ["/", "/config", "/gpen/v1/models", "/gradio_api/info", "/theme.css"])
def test_nothing_is_there_without_the_password(served, path):
    assert status(served[0] + path) == 401


def test_every_setting_is_on_the_page_with_its_label_and_help(served):
    with urllib.request.urlopen(urllib.request.Request(served[0] + "/config", headers={"Authorization": KNOWN})) as answer:
        config = json.load(answer)
    shown = {part["props"].get("elem_id"): part["props"] for part in config["components"]}
    texts = [unescape(str(part["props"].get("value", ""))) for part in config["components"]]
    for option in RestoreOptions.table():
        control = shown[f"gpen-{option.name}"]
        assert control["label"] == option.label
        if option.name != "model":  # whose list says more
            assert control.get("info") == option.help or any(option.help in text for text in texts)
        for limit in ("minimum", "maximum", "step") if option.kind in ("int", "float") else ():
            assert control[limit] == getattr(option, limit)
    assert not config["analytics_enabled"]


def test_no_other_file_can_be_read(served):
    assert status(served[0] + "/gpen/v1/models", Authorization=KNOWN) == 200
    for path in (page_host.ROOT / "README.md", page_host.ROOT / "gpen_page" / "page.py", Path("/etc/passwd")):
        assert status(f"{served[0]}/gradio_api/file={urllib.parse.quote(path.as_posix())}", Authorization=KNOWN) in (403, 404)


def test_the_example_is_restored_as_the_core_does(seen, folder):
    assert "1 face found." in seen["example"]
    assert "portrait.png: 1 of 1 face restored with GPEN-BFR-256-lite in" in seen["portrait"]
    given = read_picture(page_host.ROOT / "examples" / "portrait.png")
    expected = FaceRestorer(RestoreOptions(model="GPEN-BFR-256-lite"))(given).image
    np.testing.assert_allclose(read_picture(folder / "portrait-restored.png").pixels, expected.pixels, atol=2 / 255)


def test_models_are_listed_with_their_size_and_place(seen):
    assert any("GPEN-BFR-2048 (a download of 285 MB)" in line for line in seen["models"])
    assert seen["place"] == "Faces of 256 pixels; 15.5 MB, included"


def test_only_the_face_that_is_switched_on_is_restored_with_16_bits_and_alpha(seen, folder):
    assert f"{TWO}: 1 of 1 face restored" in seen["report of two"] and seen["downloaded"] == TWO
    before, after = read_picture(folder / TWO), read_picture(folder / "two-restored.png")
    assert after.form.dtype == np.uint16
    np.testing.assert_array_equal(before.alpha, after.alpha)
    changed = (before.pixels != after.pixels).any(axis=2)
    assert changed[:, 30:130].any() != changed[:, 190:290].any()


def test_a_broken_file_is_one_line_and_stops_no_other(seen):
    line = next(line for line in seen["report of two"].splitlines() if "broken.png" in line)
    assert "Traceback" not in seen["report of two"] and "gpen-page" not in line


def test_cancel_keeps_what_is_done(seen):
    done, of = seen["cancelled"].split(": ")[1].split(" faces")[0].split(" of ")
    assert 0 <= int(done) < int(of) == 87


def test_a_video_is_restored(seen):
    assert "clip.mp4: 12 frames" in seen["clip"]


def test_errors_are_said_on_the_page(seen):
    assert "Choose a picture or a video first" in seen["nothing"]
    for text in (seen["wrong"], seen["wrong report"]):
        assert "'the first one' is not a list of face numbers" in text and "Traceback" not in text
    assert seen["trouble"] == []


def test_the_browser_asks_nobody_else(seen):
    assert seen["asked"] > 50 and seen["elsewhere"] == []


def test_a_page_that_is_closed_stops_its_work_and_leaves_no_results(seen, served):
    """The browser closed it in the middle of a restoration."""
    for _ in range(100):
        left = list(served[1].glob("gpen-page-*/results-*"))
        if not left:
            break
        time.sleep(0.2)
    time.sleep(1)  # what was being written
    assert left == list(served[1].glob("gpen-page-*/results-*")) == []


def test_everything_fits_a_phone(seen):
    assert seen["clipped"] == [] and seen["wider than the phone"] <= 0
