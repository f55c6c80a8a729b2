"""The pack beside the Impact Pack and ReActor in one ComfyUI: they load in either order, and hand each other what they make.

GPEN_NEIGHBOURS names a folder with checkouts of both, ComfyUI-Impact-Pack and ComfyUI-ReActor. Their packages have to be in the Python
that GPEN_COMFYUI_PYTHON names (GPEN_COMFYUI: a ComfyUI's folder). What needs a checkpoint, a detector's weights or the network is not run:
the detailers, ReActor's swap, restoration and mask helper.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import host
import numpy as np
import pytest
from comfy_server import ComfyServer

PACKS = ("ComfyUI-Impact-Pack", "ComfyUI-ReActor")
MODEL = "GPEN-BFR-256-lite"

given = os.environ.get("GPEN_NEIGHBOURS", "")
pytestmark = pytest.mark.skipif(not given, reason=f"needs other packs: GPEN_NEIGHBOURS names a folder with {' and '.join(PACKS)}")


@pytest.fixture(scope="module", params=["ours first", "theirs first"])
def both(request, comfy_python, tmp_path_factory):
    """A ComfyUI with all three. What is in its own folder is loaded before what extra_model_paths.yaml names."""
    base = tmp_path_factory.mktemp("neighbours")
    theirs = [base / "copies" / name for name in PACKS]
    for path in theirs:  # they write into their folders
        shutil.copytree(Path(given) / path.name, path, ignore=shutil.ignore_patterns(".git"))
    sub = base / "copies" / PACKS[0] / "impact_subpack"
    if not sub.exists():  # its install.py fetches it: detectors that need weights
        (sub / "impact").mkdir(parents=True)
        (sub / "impact" / "subpack_nodes.py").write_text("NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = {}, {}\n", encoding="utf-8")
    first, later = ([host.ROOT], theirs) if request.param == "ours first" else (theirs, [host.ROOT])
    (base / "later").mkdir()
    for path in later:
        (base / "later" / path.name).symlink_to(path, target_is_directory=True)
    paths = base / "extra_model_paths.yaml"
    paths.write_text(json.dumps({"later": {"base_path": str(base), "custom_nodes": "later"}}), encoding="utf-8")
    (base / "input").mkdir()
    shutil.copy(host.ROOT / "examples" / "portrait.png", base / "input" / "mine.png")
    # ReActor downloads its own into an empty folder, and swaps with a model only.
    for name in ("facerestore_models/GPEN-BFR-512.onnx", "GPEN/mine.safetensors", "insightface/swapper.onnx"):
        path = base / "models" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"listed, not read")
    environ = {**host.ENVIRON, "OMP_NUM_THREADS": "2"}
    with ComfyServer(host.COMFY, comfy_python, base, first, environ, ["--extra-model-paths-config", str(paths)]) as running:
        yield running


def node(both, name, **given):
    """A node of the prompt with its defaults, and what is given."""
    listed = both.get(f"/object_info/{name}")[name]["input"]["required"]
    plain = {key: spec[1]["default"] for key, spec in listed.items() if len(spec) > 1 and "default" in spec[1]}
    return {"class_type": name, "inputs": {**plain, **given}}


def saved(both, result, folder):
    """The pictures of every SaveImage, by its prefix."""
    from PIL import Image

    found = {}
    for path in sorted(both.download(result, folder)):
        if "kept_" in path.name:
            with Image.open(path) as picture:
                found.setdefault(path.name.split("kept_")[1].split("_")[0], []).append(np.asarray(picture.convert("RGB")).astype(int))
    return found


def restoring(both):
    """The start of every prompt here: a picture, our model, the faces, and the picture restored by our nodes alone."""
    return {
        "image": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "model": node(both, "GPENLoadModel", model=MODEL),
        "faces": node(both, "GPENDetectFaces", image=["image", 0]),
        "alone": node(both, "GPENRestoreFaces", image=["image", 0], model=["model", 0], detected_faces=["faces", 0]),
        **keep("alone", ["alone", 0]),
    }


def keep(name, source):
    return {f"keep {name}": {"class_type": "SaveImage", "inputs": {"images": source, "filename_prefix": f"kept_{name}"}}}


def near(one, other, source):
    """Whether two restored pictures differ little beside what restoring changes: a face found again is not found to the same pixel."""
    return np.abs(one - other).mean() < 0.1 * np.abs(other - source).mean()


def test_all_load_and_nothing_of_them_collides(both):
    assert "IMPORT FAILED" not in both.log()
    listed = both.get("/object_info")
    packs = {name: info["python_module"].rpartition(".")[2] for name, info in listed.items() if "custom_nodes." in info["python_module"]}
    assert {name for name in packs if packs[name] == host.ROOT.name} == {name for name in packs if name.startswith("GPEN")}
    counts = {pack: list(packs.values()).count(pack) for pack in set(packs.values())}
    assert set(counts) >= {host.ROOT.name, *PACKS} and counts[host.ROOT.name] == 20 and min(counts[pack] for pack in PACKS) > 10
    assert {"GPEN", "facerestore_models"} <= set(both.get("/models"))
    assert both.get("/models/GPEN") == ["mine.safetensors"]
    kind, settings = listed["GPENLoadModel"]["input"]["required"]["model"]
    models = settings["options"] if kind == "COMBO" else kind  # the newer and the older form
    assert {"mine.safetensors", "GPEN-BFR-512.onnx"} <= set(models)
    assert "GPEN-BFR-512.onnx" in listed["ReActorRestoreFace"]["input"]["required"]["model"][0]


def test_our_segs_pass_the_impact_packs_nodes_and_come_back(both, tmp_path):
    prompt = restoring(both)
    prompt |= {
        "segs": node(both, "GPENFacesToSEGS", faces=["faces", 0], crop_factor=2.0),
        "preview": node(both, "SEGSPreview", segs=["segs", 0], fallback_image_opt=["image", 0]),
        "mask": node(both, "SegsToCombinedMask", segs=["segs", 0]),
        "seen": {"class_type": "MaskToImage", "inputs": {"mask": ["mask", 0]}},
        "ours": node(both, "GPENFacesToMask", faces=["faces", 0]),
        "own": {"class_type": "MaskToImage", "inputs": {"mask": ["ours", 0]}},
        "parts": node(both, "ImpactDecomposeSEGS", segs=["segs", 0]),
        "part": node(both, "ImpactFrom_SEG_ELT", seg_elt=["parts", 1]),
        "again": node(both, "ImpactAssembleSEGS", seg_header=["parts", 0], seg_elt=["part", 0]),
        "large": node(both, "ImpactSEGSRangeFilter", segs=["again", 0], target="area(=w*h)", min_value=100),
        "first": node(both, "ImpactSEGSOrderedFilter", segs=["large", 0], target="confidence"),
        "named": node(both, "ImpactSEGSLabelFilter", segs=["first", 0], preset="all", labels="face"),
        "soft": node(both, "ImpactGaussianBlurMaskInSEGS", segs=["named", 0]),
        "wide": node(both, "ImpactDilateMaskInSEGS", segs=["soft", 0]),
        "back": node(both, "GPENFacesFromSEGS", image=["image", 0], segs=["wide", 0]),
        "restored": node(both, "GPENRestoreFaces", image=["image", 0], model=["model", 0], detected_faces=["back", 0]),
        # The usual way of a detailer: pictures go with the SEGS, and are pasted.
        "pictured": node(both, "SetDefaultImageForSEGS", segs=["segs", 0], image=["alone", 0]),
        "pasted": node(both, "SEGSPaste", image=["image", 0], segs=["pictured", 0], feather=0),
        **keep("mask", ["seen", 0]),
        **keep("own", ["own", 0]),
        **keep("restored", ["restored", 0]),
        **keep("pasted", ["pasted", 0]),
        **keep("source", ["image", 0]),
    }
    result = both.run(prompt)
    assert result["state"] == "success" and not result["node_errors"], result
    assert result["outputs"]["preview"]["images"], "they show our SEGS"
    assert "1 of 1 boxes contain a face" in result["outputs"]["back"]["text"][0]
    (mask,), (own,), (alone,), (restored,), (pasted,), (source,) = (
        saved(both, result, tmp_path)[name] for name in ("mask", "own", "alone", "restored", "pasted", "source")
    )
    assert np.abs(mask - own)[own > 0].mean() < 1, "the same shape"
    assert near(restored, alone, source), "the face was found again where it was"
    assert (np.abs(pasted - alone) <= 2).mean() > 0.99 and (pasted != source).any(), "the restored face, put in by theirs"


def test_the_impact_packs_segs_become_faces(both, tmp_path):
    prompt = restoring(both)
    prompt |= {
        "ours": node(both, "GPENFacesToMask", faces=["faces", 0], shape="box"),
        "theirs": node(both, "MaskToSEGS", mask=["ours", 0]),
        "back": node(both, "GPENFacesFromSEGS", image=["image", 0], segs=["theirs", 0]),
        "restored": node(both, "GPENRestoreFaces", image=["image", 0], model=["model", 0], detected_faces=["back", 0]),
        "empty": node(both, "EmptySegs"),
        **keep("restored", ["restored", 0]),
        **keep("source", ["image", 0]),
    }
    result = both.run(prompt)
    assert result["state"] == "success" and not result["node_errors"], result
    pictures = saved(both, result, tmp_path)
    assert near(pictures["restored"][0], pictures["alone"][0], pictures["source"][0])
    prompt["back"]["inputs"]["segs"] = ["empty", 0]
    result = both.run(prompt)
    assert result["state"] == "success" and "no face" in result["outputs"]["restored"]["text"][0]
    assert np.array_equal(saved(both, result, tmp_path / "empty")["restored"][0], pictures["source"][0])


def test_reactors_pictures_are_restored_and_ours_go_through_its_nodes(both, tmp_path):
    swap = node(both, "ReActorFaceSwap", enabled=False, input_image=["plain", 0], facedetection="YOLOv5n", face_restore_model="none")
    swap["inputs"]["swap_model"] = "swapper.onnx"
    prompt = restoring(both)
    prompt |= {
        "plain": node(both, "ImageRGBA2RGB", image=["image", 0]),
        "swap": swap,
        "restored": node(both, "GPENRestoreFaces", image=["swap", 0], model=["model", 0]),
        "unload": node(both, "ReActorUnload", trigger=["restored", 0]),
        "off": node(both, "ReActorRestoreFace", image=["unload", 0], facedetection="YOLOv5n", model="none"),
        "list": node(both, "ReActorImageDublicator", image=["image", 0], count=2),
        "each": node(both, "GPENRestoreFaces", image=["list", 0], model=["model", 0]),
        **keep("restored", ["off", 0]),
        **keep("each", ["each", 0]),
    }
    result = both.run(prompt)
    assert result["state"] == "success" and not result["node_errors"], result
    pictures = saved(both, result, tmp_path)
    for picture in (*pictures["restored"], *pictures["each"]):
        assert np.array_equal(picture, pictures["alone"][0])
    assert len(pictures["each"]) == 2
    # A FACE_MODEL is who somebody is, FACES are where: ComfyUI does not let one be taken for the other.
    prompt["restored"]["inputs"]["detected_faces"] = ["swap", 1]
    assert "FACE_MODEL" in json.dumps(both.run(prompt)["node_errors"]["restored"])
