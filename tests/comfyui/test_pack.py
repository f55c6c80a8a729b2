"""The pack without ComfyUI: its nodes' inputs, its texts, and that it does nothing elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import host
import pages
import pytest
import workflows

from gpen_core.options import PRESET_CONTROL, RestoreOptions
from gpen_core.presets import PRESETS

PACK = pages.load_pack()
NODES = PACK.NODE_CLASS_MAPPINGS
RESTORE = pages.inputs(PACK, "GPENRestoreFaces")


def test_inputs_are_those_of_the_table():
    names = sys.modules[f"{pages.PACK}.nodes.inputs"]
    for option in RestoreOptions.table():
        key = names.NAMES.get(option.name, option.name)
        if option.name in names.ELSEWHERE:
            assert not pages.is_setting(RESTORE.get(key, (None,))[0]), f"{option.name} is said elsewhere in a graph"
            continue
        kind, extra = RESTORE[key]
        default = "" if option.name == "mask_regions" else names.DEFAULTS.get(option.name, option.default)  # a label fits beside it
        assert extra["default"] == default and extra["tooltip"] == option.help
        if option.kind == "choice":
            assert tuple(kind) == option.choices
        elif option.kind in ("int", "float"):
            assert (extra["min"], extra["max"], extra["step"]) == (option.minimum, option.maximum, option.step)


def test_defaults_make_default_options():
    names = sys.modules[f"{pages.PACK}.nodes.inputs"]
    values = {key: extra["default"] for key, (kind, extra) in RESTORE.items() if pages.is_setting(kind)}
    assert names.options_from(values).changed() == names.options_from({}).changed() == names.DEFAULTS == {"steady": 0.0}
    changed = names.options_from({**values, "mask_kind": "parsing", "strength": 0.25, "model": object(), "mask": object()})
    assert changed.changed() == {"mask": "parsing", "strength": 0.25, **names.DEFAULTS}


def test_the_device_comes_last_because_workflows_store_values_by_position():
    assert list(pages.inputs(PACK, "GPENLoadModel")) == ["model", "precision", "device"]
    assert pages.inputs(PACK, "GPENLoadModel")["device"][0] == ["default", "cpu"], "written where no card is"


def test_a_preset_changes_what_is_at_its_default():
    names = sys.modules[f"{pages.PACK}.nodes.inputs"]
    assert list(RESTORE)[-2:] == ["preset", "steady"] and RESTORE["preset"][0] == ["none", *PRESETS]
    assert RESTORE["preset"][1]["tooltip"] == PRESET_CONTROL.help
    values = {key: extra["default"] for key, (kind, extra) in RESTORE.items() if pages.is_setting(kind)}
    for preset in PRESETS:
        made = names.options_from({**values, "preset": preset, "feather": 0.25})
        assert made.changed() == RestoreOptions.preset(preset, feather=0.25, steady=0.0).changed()
        assert set(PRESETS[preset].values) <= {option.name for option in RestoreOptions.table()} - set(names.ELSEWHERE)


class NodeReplace:
    def __init__(self, *given):
        self.new, self.old, self.widgets, self.inputs, self.outputs = given


@pytest.mark.parametrize("able", [True, False], ids=["a ComfyUI that replaces nodes", "an older one"])
def test_replacements_say_all_that_the_new_node_needs(monkeypatch, able):
    """With ComfyUI's API as it is called in 0.33; the real one does it in test_server.py."""
    seen = []
    replacement = SimpleNamespace(register=seen.append)
    api = SimpleNamespace(
        io=SimpleNamespace(**({"NodeReplace": NodeReplace} if able else {})),
        ComfyAPISync=lambda: SimpleNamespace(node_replacement=replacement),
    )
    monkeypatch.setitem(sys.modules, "comfy_api", SimpleNamespace(latest=api))
    monkeypatch.setitem(sys.modules, "comfy_api.latest", api)
    replaces = sys.modules[f"{pages.PACK}.nodes.replaces"]
    replaces.offer_replacements({name: _Known(name) for name in NODES})
    assert {"ReActorRestoreFace", "ReActorRestoreFaceAdvanced", "FaceRestoreCFWithModel", "FaceRestoreModelLoader"} == set(
        replaces.STAND_INS
    )
    assert [one.old for one in seen] == (list(replaces.STAND_INS) if able else [])
    for one in seen:
        new = pages.inputs(PACK, one.new)
        given = {entry["new_id"]: entry for entry in one.inputs}
        moved = {entry["old_id"] for entry in one.inputs if "old_id" in entry and entry["old_id"] not in (entry["new_id"], *one.widgets)}
        assert moved <= set(given), "replaced before the node at its other end, a link is looked for under its old name"
        assert set(PACK.INPUTS[one.new]["required"]) <= set(given) <= set(new) | moved and len(given) == len(one.inputs)
        for name, entry in given.items():
            if name in moved:
                continue
            assert "old_id" in entry or entry["set_value"] == new[name][1]["default"]
            assert "old_id" not in entry or entry["old_id"] in one.widgets or not pages.is_setting(new[name][0])
        assert one.outputs == [{"new_idx": 0, "old_idx": 0}]


class _Known:
    """A node whose inputs were asked for while there was a list of folders."""

    def __init__(self, name):
        self.name = name

    def INPUT_TYPES(self):
        return PACK.INPUTS[self.name]


@pytest.mark.parametrize("name", NODES)
def test_every_node_is_described(name):
    node = NODES[name]
    assert name.startswith("GPEN") and node.CATEGORY == "image/face restoration"
    assert PACK.NODE_DISPLAY_NAME_MAPPINGS[name] == node.TITLE and node.DESCRIPTION
    assert hasattr(node, node.FUNCTION)
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS)
    for key, (_, extra) in pages.inputs(PACK, name).items():
        assert extra.get("tooltip"), f"{name}.{key}"


@pytest.mark.parametrize("path", pages.files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pages_and_translations_are_up_to_date(path):
    assert path.read_text("utf-8") == pages.files()[path], "python tests/comfyui/pages.py writes them anew"


def test_labels_are_written_alike():
    """Each begins with a capital, and no node has one name for two inputs."""
    texts = json.loads((host.ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
    for name, own in texts.items():
        labels = [text["name"] for text in own["inputs"].values()]
        assert len(set(labels)) == len(labels), name
        for label in (*labels, *(text["name"] for text in own["outputs"].values())):
            assert label[0].isupper() and "_" not in label, f"{name}: {label}"


def test_what_people_choose_faces_by_is_no_advanced_setting():
    assert not RESTORE["faces"][1].get("advanced") and not RESTORE["factor"][1].get("advanced")


def test_outputs_that_workflows_are_connected_to_keep_their_places():
    """The page stores links by number: new outputs come last."""
    assert NODES["GPENRestoreFaces"].RETURN_NAMES == ("image", "mask", "faces_before", "faces_after", "faces", "report")
    assert NODES["GPENDetectFaces"].RETURN_NAMES == ("faces", "count", "report")
    assert NODES["GPENRestoreAlignedFaces"].RETURN_NAMES == ("crops", "report")
    assert NODES["GPENPasteFaces"].RETURN_NAMES == ("image", "mask", "report")
    assert NODES["GPENFacesFromBBox"].RETURN_NAMES == ("faces", "count", "report")
    assert NODES["GPENFacesToBBox"].RETURN_NAMES == ("bboxes", "count", "bounding_boxes")


@pytest.mark.parametrize("path", workflows.files(), ids=lambda path: path.stem)
def test_workflows_use_inputs_that_exist(path):
    graph = workflows.read(path)
    assert any(node["type"].startswith("GPEN") for node in graph["nodes"])
    for node in graph["nodes"]:
        if node["type"].startswith("GPEN"):
            assert [given["name"] for given in node["inputs"] if "widget" in given] == [
                key for key, (kind, _) in pages.inputs(PACK, node["type"]).items() if pages.is_setting(kind)
            ]
            assert {given["name"] for given in node["inputs"]} == set(pages.inputs(PACK, node["type"]))
            assert [given["name"] for given in node["outputs"]] == list(NODES[node["type"]].RETURN_NAMES)


@pytest.mark.parametrize("path", workflows.files(), ids=lambda path: path.stem)
def test_workflows_say_what_to_see_and_how_to_go_on(path):
    (text,) = workflows.notes(workflows.read(path))
    assert re.search(r"Press \*Run\*\. .{40}", text)
    assert re.search(r"\*\*Your own (picture|video):\*\* .*\*Load (Image|Video)\*", text)
    assert "285 MB" in text and "`GPEN-BFR-256-lite`" in text


@pytest.mark.parametrize("path", workflows.files(), ids=lambda path: path.stem)
def test_workflows_have_a_square_picture(path):
    """The cards of the templates browser are square."""
    from PIL import Image

    thumbnail = path.with_suffix(".jpg")
    with Image.open(thumbnail) as picture:
        assert picture.width == picture.height >= 400
    assert thumbnail.stat().st_size < 80_000


def test_the_root_does_nothing_outside_comfyui():
    code = "import importlib, sys; m = importlib.import_module(sys.argv[1]); print(len(m.NODE_CLASS_MAPPINGS), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, host.ROOT.name], cwd=host.ROOT.parent, capture_output=True, encoding="utf-8", errors="replace"
    )
    assert done.stdout.split() == ["0", "False"], done.stderr


def test_importing_the_pack_brings_nothing_heavy():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pages; pages.load_pack(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(host.ROOT / "tests" / "comfyui")], capture_output=True, encoding="utf-8", errors="replace"
    )
    loaded = set(done.stdout.split())
    assert f"{pages.PACK}.nodes.restore" in loaded, done.stderr
    assert not loaded & {"torch", "cv2", "numpy", "PIL", "facexlib", "basicsr", "onnxruntime", "gradio"}


def test_the_registry_finds_what_it_wants():
    text = (host.ROOT / "pyproject.toml").read_text("utf-8")
    assert "[tool.comfy]" in text
    for key in ("PublisherId", "DisplayName", "Icon", "requires-comfyui", "includes"):
        assert re.search(rf"^{key} *=", text, re.MULTILINE), key
    assert re.search(r'^name = "(?!.*comfyui)[a-z0-9-]{1,99}"', text, re.MULTILINE)
    assert re.search(r'^version = "[0-9]+\.[0-9]+\.[0-9]+"', text, re.MULTILINE)
    assert (host.ROOT / "docs" / "images" / "icon.png").is_file()
