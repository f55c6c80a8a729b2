"""A host's process, in which the project is imported and used. Prints as JSON what that changed: python tests/unharmed_host.py HOST FOLDER

HOST: core (a program that uses gpen_core), webui (its stand-in), comfyui (a real one, run by its Python).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))
LITE = "GPEN-BFR-256-lite"
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostby", "urllib.Request")


def have_ways_of_its_own() -> None:
    """Sets what a host may have set, to values that nobody has by chance: so that what is put back to a default is noticed as well."""
    import random

    import cv2
    import numpy as np
    import torch
    from PIL import Image, ImageFile

    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)
    np.seterr(over="ignore", divide="raise")
    cv2.setNumThreads(3)
    torch.set_num_threads(2)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK = 999_999, True, 1 << 17
    warnings.filterwarnings("error", "a host's own filter")
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger().addHandler(logging.NullHandler())
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    os.environ["A_HOSTS_OWN"] = "1"


def portrait() -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(ROOT / "examples" / "portrait.png") as picture:
        return np.asarray(picture.convert("RGB").resize((160, 160), Image.Resampling.LANCZOS))


def work_of_the_core(core: ModuleType, pictures: ModuleType, folder: Path) -> None:
    """Restores, fails, and reads and writes files."""
    import numpy as np

    picture = portrait()
    options = {"model": LITE, "device": "cpu", "occlusion": "change", "output_size": "factor", "factor": 1.5, "guard": True}
    result = core.FaceRestorer(core.RestoreOptions(**options))(picture)
    assert [face.status for face in result.faces] == ["restored"]
    for bad in ({"model": "GPEN-BFR-512"}, {"detector": "retinaface-r50", "model": LITE}):
        with contextlib.suppress(core.GpenError):
            core.FaceRestorer(core.RestoreOptions(**bad), models_dir=folder)(picture)
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        path = pictures.write_picture(pictures.from_array(picture), folder / f"a{suffix}")
        with pictures.pixels_at_most(1000), contextlib.suppress(core.GpenError):
            pictures.read_picture(path)
        path.write_bytes(path.read_bytes()[:-500])
        with contextlib.suppress(core.GpenError):
            pictures.read_picture(path)
    big = pictures.write_picture(pictures.from_array(np.zeros((1500, 1500), np.uint8)), folder / "above the host's limit.webp")
    assert pictures.read_picture(big).width == 1500


def core(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    sys.path.insert(0, str(ROOT))  # as where it is installed

    def use() -> None:
        work_of_the_core(importlib.import_module("gpen_core"), importlib.import_module("gpen_core.pictures"), folder)
        with contextlib.suppress(ImportError):
            importlib.import_module("av")
            video_files = importlib.import_module("video_files")
            restore = importlib.import_module("gpen_core.video.restore").restore_video
            stub = importlib.import_module("stub_restorer").StubRestorer()
            restore(video_files.make_video(folder / "a.mp4"), folder / "b.mkv", stub, codec="av1" if sys.platform == "linux" else "h264")

    return lambda: importlib.import_module("gpen_core"), use


def webui(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    sys.path.insert(0, str(HERE / "a1111" / "standin"))
    names = ("paths", "shared", "scripts", "script_callbacks", "face_restoration", "ui_components")
    parts = {name: importlib.import_module(f"modules.{name}") for name in names}
    parts["paths"].models_path = str(folder / "models")
    parts["shared"].opts.face_restoration_model = "GPEN"

    def load() -> None:
        parts["scripts"].load_scripts(ROOT, [])
        parts["script_callbacks"].run("before_ui")

    def use() -> None:
        parts["shared"].opts.gpen_model = LITE
        picture = portrait()
        assert (parts["face_restoration"].restore_faces(picture) != picture).any()
        parts["shared"].opts.gpen_model = "GPEN-BFR-512"  # which is not there: the picture stays
        assert (parts["face_restoration"].restore_faces(picture) == picture).all()

    return load, use


def comfyui(folder: Path) -> tuple[Callable[[], Any], Callable[[], Any]]:
    comfy = os.environ["GPEN_TEST_COMFY"]
    sys.argv = ["main.py", "--cpu", "--base-directory", str(folder), "--disable-api-nodes"]
    sys.path.insert(0, comfy)
    importlib.import_module("comfy.options").enable_args_parsing()
    for name in ("utils.extra_config", "server"):  # are there before any pack is loaded; ours asks the server to replace nodes
        importlib.import_module(name)
    host = importlib.import_module("nodes")

    def use() -> None:
        restored_in_comfy(host.NODE_CLASS_MAPPINGS)
        with contextlib.suppress(Exception):
            ran(host.NODE_CLASS_MAPPINGS["GPENLoadModel"], model="GPEN-BFR-512", precision="fp32")  # which is not there

    return lambda: asyncio.run(host.load_custom_node(str(ROOT))), use


def second_copy(folder: Path) -> dict[str, Any]:
    """Loads a second copy of the nodes into a ComfyUI that has the first, and uses both. Returns what was logged, and whether both work."""
    import torch

    host, lines = sys.modules["nodes"], []
    first = dict(host.NODE_CLASS_MAPPINGS)
    copy = folder / "custom_nodes" / "another copy"
    for name in ("gpen_core", "nodes", "web"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "__init__.py", copy)
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)
    asyncio.run(host.load_custom_node(str(copy)))
    both = (first, host.NODE_CLASS_MAPPINGS)
    results = [restored_in_comfy(nodes) for nodes in (*both, first)]
    models = [ran(nodes["GPENLoadModel"], model=LITE, precision="fp32")[0] for nodes in both]
    mixed = [restored_in_comfy(nodes, model) for nodes, model in zip(both, reversed(models), strict=True)]
    folders = sys.modules["folder_paths"].folder_names_and_paths["GPEN"][0]
    alike = all(torch.equal(results[0], other) for other in (*results, *mixed))
    return {"lines": lines, "alike": alike, "twice": len(folders) - len(set(folders)), "copy": str(copy)}


def restored_in_comfy(nodes: dict[str, Any], model: Any = None) -> Any:
    import torch

    picture = torch.from_numpy(portrait().astype("float32") / 255)[None]
    model = model or ran(nodes["GPENLoadModel"], model=LITE, precision="fp32")[0]
    node = nodes["GPENRestoreFaces"]
    kinds = node.INPUT_TYPES()["required"].items()
    inputs = {name: kind[1]["default"] for name, kind in kinds if len(kind) > 1 and "default" in kind[1]}
    made = ran(node, image=picture, model=model, **inputs)[0]
    assert not torch.equal(made, picture)
    return made


def ran(node: Any, **inputs: Any) -> Any:
    """A node's outputs; newer versions of ComfyUI have it in another form, which answers with an object."""
    answer = getattr(node(), node.FUNCTION)(**inputs)
    return answer["result"] if isinstance(answer, dict) else answer.result


def main() -> None:
    import host_state

    name, folder = sys.argv[1], Path(sys.argv[2])
    have_ways_of_its_own()
    if sys.version_info < (3, 11):  # pytest and fastapi, which hosts and the tests use, bring it; it changes how errors are printed
        with contextlib.suppress(ImportError):
            importlib.import_module("exceptiongroup")
    load, use = {"core": core, "webui": webui, "comfyui": comfyui}[name](folder)
    connections: list[str] = []
    sys.addaudithook(lambda event, given: connections.append(f"{event} {given[-1]}") if event.startswith(NETWORK) else None)
    used_to = host_state.snapshot()
    offline = os.environ.pop("GPEN_OFFLINE")  # loading reaches for no network, though it may
    load()
    os.environ["GPEN_OFFLINE"] = offline
    loaded = host_state.snapshot()
    use()
    told: dict[str, Any] = {"loading": host_state.changes(used_to, loaded), "compared": len(used_to)}
    told["connections"] = list(connections)
    told["using"] = host_state.changes(used_to, host_state.snapshot())
    if name == "comfyui":
        told["copies"] = second_copy(folder)
    print(f"\n{json.dumps(told)}")


if __name__ == "__main__":
    main()
