"""What is tried in a running WebUI. Each check returns a line that says what was seen, or raises AssertionError."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .family import Host
from .server import ROOT, Server

LITE = "GPEN-BFR-256-lite"
GPEN = {"face_restoration_model": "GPEN", "gpen_model": LITE}
HERE = Path(__file__).resolve().parent
# Where the picture has its face, and where a restoration may change anything.
FACE, AROUND = np.s_[40:110, 352:410], np.s_[20:130, 325:435]
RESTORED = "GPEN restored: 1 of 1 face"

Check = Callable[[Server, Host, Path], str]


def picture() -> np.ndarray:
    """(320, 560, 3) uint8: one blurred face at the right, noise at the left."""
    with Image.open(ROOT / "examples" / "portrait.png") as portrait:
        face = np.asarray(portrait.convert("RGB").resize((96, 96), Image.Resampling.LANCZOS).resize((320, 320)))
    noise = np.random.default_rng(1).integers(0, 256, (320, 240, 3), np.uint8)
    return np.concatenate([noise, face], axis=1)


def encoded(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def decoded(text: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(text.split(",")[-1]))) as image:
        return np.asarray(image.convert("RGB"))


def only_the_face(done: np.ndarray) -> str:
    """Says how much the face changed; the rest must be the same to the bit."""
    before = picture()
    assert done.shape == before.shape, done.shape
    change = np.abs(done.astype(int) - before)
    inside = change[FACE].mean()
    change[AROUND] = 0
    assert not change.any(), "pixels that belong to no face changed"
    assert inside > 2, f"the face changed by only {inside:.2f} levels"
    return f"the face changed by {inside:.1f} levels, nothing else"


def restorer(server: Server, host: Host, out: Path) -> str:
    """Settings > Face restoration"""
    status, answer = server.ask("/sdapi/v1/face-restorers")
    if not host.restores:
        assert status in (200, 404) and '"GPEN"' not in json.dumps(answer), (status, answer)  # SD.Next lists its detailers there
        return "the WebUI has no face restorers; none of ours was loaded"
    names = [row["name"] for row in answer]
    assert names.count("GPEN") == 1, names
    done = server.post("/gpen-probe/restore_faces", image=encoded(picture()), settings=GPEN)
    return f"listed beside {', '.join(name for name in names if name != 'GPEN') or 'none'}; {only_the_face(decoded(done['image']))}"


def adetailer(server: Server, host: Host, out: Path) -> str:
    """ADetailer, Restore faces after ADetailer: only the sampling is replaced, by what it was given."""
    done = []
    for restore in (True, False):
        given = {"ad_model": "mediapipe_face_full", "ad_restore_face": restore}
        answer = server.post("/gpen-probe/process", image=encoded(picture()), settings=GPEN, adetailer=given)
        assert "ADetailer model: mediapipe_face_full" in answer["infotext"], answer["infotext"]
        done.append(decoded(answer["image"]).astype(int))
    assert done[0].shape == done[1].shape
    change = np.abs(done[0] - done[1])
    inside = change[FACE].mean()
    change[AROUND] = 0
    assert inside > 2 and not change.any(), (inside, change.max())
    return f"with Restore faces after ADetailer, the face differs by {inside:.1f} levels from without, nothing else"


def reactor(server: Server, host: Host, out: Path) -> str:
    """sd-webui-reactor, Restore Face: GPEN."""
    seen = server.post("/gpen-probe/reactor", image=encoded(picture()))
    order = seen["order"]
    assert seen["gpen"] + seen["gfpgan"] == 1 and order["GPEN"] != order["ReActor"], seen
    what = "runs GPEN" if seen["gpen"] else "runs GFPGAN instead"
    return f"{what}; in Extras, GPEN comes {'before' if order['GPEN'] < order['ReActor'] else 'after'} its swap"


def own_api(server: Server, host: Host, out: Path) -> str:
    """POST /gpen/restore, GET /gpen/models"""
    assert LITE in [row["name"] for row in server.get("/gpen/models")]
    answer = server.post("/gpen/restore", image=encoded(picture()), model=LITE)
    assert [face["status"] for face in answer["faces"]] == ["restored"], answer["faces"]
    status, _ = server.ask("/gpen/restore", {"image": encoded(picture()), "strenght": 1})
    assert status == 422, status
    return only_the_face(decoded(answer["image"]))


def extras_api(server: Server, host: Host, out: Path) -> str:
    """POST /sdapi/v1/extra-single-image"""
    body: dict[str, Any] = {"image": encoded(picture()), "upscaling_resize": 1, "upscaler_1": "None"}
    status, answer = server.ask("/sdapi/v1/extra-single-image", body)
    if status != 200:
        return _without_us(server, status, answer)
    assert np.array_equal(decoded(answer["image"]), picture()), "the picture changed though nobody asked for GPEN"
    if not host.by_script:
        return "answers as without GPEN"
    body["script_args"] = {"GPEN": {"enable": True, "model": LITE}}
    return "with script_args, " + only_the_face(decoded(server.post("/sdapi/v1/extra-single-image", **body)["image"]))


def _without_us(server: Server, status: int, answer: Any) -> str:
    assert "gpen" not in (str(answer) + server.text()[-4000:]).lower(), answer
    try:
        told = json.loads(answer).get("errors") or answer
    except (TypeError, ValueError, AttributeError):
        told = answer
    return f"the WebUI itself answers {status} ({' '.join(str(told).split())[:90]})"


def clicks(server: Server, host: Host, out: Path, python: str) -> dict[str, Any]:
    """The Extras tab in a browser."""
    given = out / "picture.png"
    Image.fromarray(picture()).save(given)
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome"))
    browser = next((path for path in found if path), None)
    assert browser, "needs a browser: install Chromium or Chrome"
    command = [python, str(HERE / "browse.py"), server.url, browser, host.tab, host.section, str(given), str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=1500, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)


def page(server: Server, host: Host, out: Path, python: str) -> str:
    """Judges what the browser saw."""
    seen = clicks(server, host, out, python)
    (out / "seen.json").write_text(json.dumps(seen, indent=1), encoding="utf-8")
    assert "error" not in seen, seen["error"]
    assert RESTORED in seen["told"], seen["told"]
    assert seen["titles"] == seen["titles open"] == 1, f"{seen['titles']} and {seen['titles open']} titles say GPEN"
    with Image.open(out / "result.png") as result:
        said = only_the_face(np.asarray(result.convert("RGB")))
    assert seen["section"] >= 1, "Settings lack our section"
    ours = [line for line in seen["trouble"] if "gpen" in line.lower()]
    assert not ours, ours
    return f"{seen['switch']}, Model {LITE}, Generate: {said}"


def log(server: Server, host: Host, out: Path) -> str:
    """No traceback through our files, and no complaint about them, in the console."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", server.text()).splitlines()
    ours = [line for line in lines if "gpen" in line.lower() and re.search(r"error|warning|exception|\*\*\*", line, re.I)]
    assert not ours, ours[:5]
    starts = [number for number, line in enumerate(lines) if "Traceback (most recent call last)" in line]
    for start in starts:
        indent = len(lines[start]) - len(lines[start].lstrip())
        trace = [line for line in lines[start + 1 :] if len(line) - len(line.lstrip()) <= indent]
        end = lines.index(trace[0], start + 1) if trace else len(lines)
        told = "\n".join(lines[start : end + 1])
        assert "gpen" not in told.lower(), told[-2000:]
    return "nothing of ours" + (f" ({len(starts)} of the WebUI's own tracebacks)" if starts else "")
