"""Both forms of the nodes, ComfyUI's older and newer one, are the same nodes: in what they say, and in what ComfyUI makes of them.

Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else).
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest
import workflows
from in_process import MODEL, PACKS_MODULE, ROOT

RUN = ("Crop, edit, paste", "Pick faces by number")


@pytest.fixture(scope="module")
def io(comfy):
    """ComfyUI's newer form; in versions of 2025 with the words that it has had since."""
    real = import_module("comfy_api.latest").io
    with pytest.MonkeyPatch.context() as now:
        if not can_say_all(real):
            now.setattr(real, "Schema", type("Schema", (real.Schema,), {"__init__": with_aliases(real.Schema)}))
            for kind in (real.Combo, real.Int, real.Float, real.Boolean, real.String):
                now.setattr(kind, "Input", type("Input", (kind.Input,), {"__init__": with_advanced(kind.Input)}))
        yield real


def can_say_all(io):
    return "search_aliases" in signature(io.Schema).parameters and "advanced" in signature(io.Int.Input).parameters


def with_aliases(schema):
    return lambda self, *given, search_aliases, **named: schema.__init__(self, *given, **named)


def with_advanced(form):
    def made(self, *given, advanced=None, **named):
        form.__init__(self, *given, **named)
        self.extra_dict = {**self.extra_dict, "advanced": advanced}

    return made


@pytest.fixture(scope="module")
def ours(comfy):
    return import_module(f"{PACKS_MODULE}.nodes")


@pytest.fixture(scope="module")
def form(comfy):
    return import_module(f"{PACKS_MODULE}.nodes.newer")


@pytest.fixture(scope="module")
def forms(comfy, io, ours, form):
    """{form: the nodes that ComfyUI's loader registers where it gets the pack in it}."""
    before, known = ours.comfy_entrypoint, {}
    try:
        for name, entrypoint in (("older", None), ("newer", form.entrypoint(ours.NODE_CLASS_MAPPINGS))):
            ours.comfy_entrypoint = entrypoint
            assert asyncio.run(comfy.load_custom_node(str(ROOT)))
            known[name] = {id: comfy.NODE_CLASS_MAPPINGS[id] for id in ours.NODE_CLASS_MAPPINGS}
        yield known
    finally:
        ours.comfy_entrypoint = before
        assert asyncio.run(comfy.load_custom_node(str(ROOT)))


def test_comfyui_gets_the_newer_form_where_it_can_say_all(comfy, ours):
    io = import_module("comfy_api.latest").io
    newer = [issubclass(comfy.NODE_CLASS_MAPPINGS[name], io.ComfyNode) for name in ours.NODE_CLASS_MAPPINGS]
    assert newer == [can_say_all(io)] * len(newer)


def test_there_are_two_forms(forms, io):
    assert len(forms["newer"]) == len(forms["older"]) == 20
    assert all(issubclass(node, io.ComfyNode) for node in forms["newer"].values())
    assert not any(issubclass(node, io.ComfyNode) for node in forms["older"].values())


def said(kind, given):
    """An input as both forms can say it."""
    given = {key: value for key, value in given.items() if key not in ("multiselect", "multiline")}
    return ("COMBO", {**given, "options": kind}) if isinstance(kind, list) else (str(kind), given)


def test_both_forms_say_the_same(forms):
    for name, older in forms["older"].items():
        info, kinds = forms["newer"][name].GET_NODE_INFO_V1(), older.INPUT_TYPES()
        assert list(info["input_order"]) == list(kinds)
        for part in ("required", "optional"):
            assert [*info["input"].get(part, {})] == [*kinds.get(part, {})] == [*info["input_order"].get(part, [])], name
            for key, given in kinds.get(part, {}).items():
                assert said(*info["input"][part][key]) == said(*given), f"{name}.{key}"
        assert {key: value[0] for key, value in info["input"].get("hidden", {}).items()} == kinds.get("hidden", {})
        wanted = {
            "name": name,
            "display_name": older.TITLE,
            "category": older.CATEGORY,
            "description": older.DESCRIPTION,
            "output": list(older.RETURN_TYPES),
            "output_name": list(older.RETURN_NAMES),
            "output_tooltips": list(older.OUTPUT_TOOLTIPS),
            "output_node": getattr(older, "OUTPUT_NODE", False),
            "python_module": older.RELATIVE_PYTHON_MODULE,
        }
        if "search_aliases" in info:
            wanted["search_aliases"] = list(older.SEARCH_ALIASES)
        assert {key: info[key] for key in wanted} == wanted
        assert forms["newer"][name].__module__ == older.__module__  # by which a second copy is known


class Keep:
    """An output node that keeps what it gets."""

    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "keep", True, "tests"
    kept = ()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def keep(self, image):
        type(self).kept = (*type(self).kept, image)
        return {}


class Sharpen:
    """In the place of ComfyUI's ImageSharpen, which is not loaded here."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "sharpen", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def sharpen(self, image):
        return (1 - image,)


class Page:
    """ComfyUI's server, with a page that listens."""

    def __init__(self):
        self.client_id, self.last_node_id, self.sockets_metadata = "page", None, {}
        self.prompt_queue = SimpleNamespace(queue_updated=lambda: None)
        self.heard = []

    def send_sync(self, event, data, sid=None):
        self.heard.append((event, data))

    def queue_updated(self):
        pass


def saved(file):
    """A picture's bytes, and what is written beside them in its file: the prompt that made it. Its name differs from run to run."""
    import folder_paths
    from PIL import Image

    with Image.open(Path(folder_paths.get_directory_by_type(file["type"])) / file["subfolder"] / file["filename"]) as picture:
        return hash(picture.tobytes()), dict(picture.info)


def run(comfy, nodes, prompt):
    """What ComfyUI makes of a prompt: what its nodes say to the page, and the pictures that Keep nodes get."""
    import execution

    Keep.kept = ()
    comfy.NODE_CLASS_MAPPINGS.update(nodes, Keep=Keep, ImageSharpen=Sharpen)
    valid, error, outputs, problems = asyncio.run(execution.validate_prompt("one", prompt, None))
    if not valid:
        return error, problems
    page = Page()
    execution.PromptExecutor(page, cache_args={"lru": 0, "ram": 0.0, "ram_inactive": 0.0}).execute(
        prompt, "one", {"client_id": "page"}, outputs
    )
    ends = [(event, data.get("exception_message")) for event, data in page.heard if event in ("execution_success", "execution_error")]
    shown = {data["node"]: data["output"] for event, data in page.heard if event == "executed"}
    shown.update((node, {"images": [saved(file) for file in said["images"]]}) for node, said in shown.items() if "images" in said)
    progress = any(event.startswith("progress") for event, _ in page.heard)
    return ends, shown, progress, Keep.kept


@pytest.mark.parametrize("title", RUN)
def test_both_forms_give_the_same(comfy, torch, forms, title):
    prompt = workflows.prompt(workflows.read(workflows.FOLDER / f"{title}.json"))
    (restoring,) = (key for key, node in prompt.items() if node["class_type"] in ("GPENRestoreFaces", "GPENPasteFaces"))
    prompt["kept"] = {"class_type": "Keep", "inputs": {"image": [restoring, 0]}}
    one, other = (run(comfy, forms[form], prompt) for form in ("older", "newer"))
    assert one[0] == other[0] == [("execution_success", None)]
    assert one[1] == other[1] and any("text" in said for said in one[1].values()) and one[2] and other[2]
    files = [file for said in one[1].values() for file in said.get("images", ())]
    assert files and all("GPENRestoreFaces" in written["prompt"] or "GPENPasteFaces" in written["prompt"] for _, written in files)
    (before,), (after,) = one[3], other[3]
    assert torch.equal(before, after) and before.std() > 0.1


def test_both_forms_refuse_the_same(comfy, forms):
    """What ComfyUI checks before a run (a saved workflow's card that is not here is let in), and an error in it."""
    loaded = {"class_type": "GPENLoadModel", "inputs": {"model": MODEL, "precision": "fp32", "device": "gpu:7"}}
    restored = {"class_type": "GPENRestoreFaces", "inputs": {**defaults(forms), "image": ["picture", 0], "model": ["model", 0]}}
    prompt = {
        "picture": {"class_type": "GPENExamplePicture", "inputs": {"subject": "portrait"}},
        "model": loaded,
        "restored": restored,
        "kept": {"class_type": "Keep", "inputs": {"image": ["restored", 0]}},
    }
    prompt["picture"]["inputs"] = {
        key: given[1]["default"] for key, given in forms["older"]["GPENExamplePicture"].INPUT_TYPES()["required"].items()
    }
    for form in ("older", "newer"):
        ends, shown, *_ = run(comfy, forms[form], prompt)
        assert ends == [("execution_success", None)] and "gpu:7" in shown["model"]["text"][0]
    for node, key, value in (("model", "device", "toaster"), ("restored", "strength", 2.0), ("restored", "order", "by name")):
        wrong = {**prompt, node: {**prompt[node], "inputs": {**prompt[node]["inputs"], key: value}}}
        older, newer = (run(comfy, forms[form], wrong) for form in ("older", "newer"))
        assert older[0]["type"] == "prompt_outputs_failed_validation", key
        if key == "order" and not isinstance(newer[0], dict):  # versions of 2025, which get the older form, check no lists of the newer
            assert newer[0][0][0] == "execution_error" and "order must be one of" in newer[0][0][1]
            continue
        assert newer[0]["type"] == older[0]["type"] and older[1][node]["errors"][0]["type"] == newer[1][node]["errors"][0]["type"]
    wrong = {**prompt, "restored": {**restored, "inputs": {**restored["inputs"], "faces": "first"}}}
    older, newer = (run(comfy, forms[form], wrong) for form in ("older", "newer"))
    assert older[0] == newer[0] and older[0][0][0] == "execution_error" and "list of face numbers" in older[0][0][1]


def defaults(forms):
    required = forms["older"]["GPENRestoreFaces"].INPUT_TYPES()["required"]
    return {key: given[1]["default"] for key, given in required.items() if "default" in given[1]}


def test_a_prompt_from_before_later_settings_runs_in_both(comfy, torch, forms):
    """Workflows and programs of the pack's first version send only the inputs that there were."""
    first = {"model": MODEL, "precision": "fp32"}
    prompt = {
        "picture": {"class_type": "GPENExamplePicture", "inputs": {}},
        "model": {"class_type": "GPENLoadModel", "inputs": first},
        "restored": {"class_type": "GPENRestoreFaces", "inputs": {**defaults(forms), "image": ["picture", 0], "model": ["model", 0]}},
        "kept": {"class_type": "Keep", "inputs": {"image": ["restored", 0]}},
    }
    kinds = forms["older"]["GPENExamplePicture"].INPUT_TYPES()["required"]
    prompt["picture"]["inputs"] = {key: given[1]["default"] for key, given in kinds.items()}
    one, other = (run(comfy, forms[form], prompt) for form in ("older", "newer"))
    assert one[0] == other[0] == [("execution_success", None)] and torch.equal(one[3][0], other[3][0])


def test_a_changed_file_of_weights_is_noticed_in_both(comfy, forms, monkeypatch):
    """ComfyUI asks the newer form by another name."""
    seen = []
    load = sys.modules[f"{PACKS_MODULE}.nodes.load"]
    monkeypatch.setattr(load, "fingerprint", lambda name: seen.append(name) or name)
    assert forms["older"]["GPENLoadModel"].IS_CHANGED("auto", "fp32") == "auto|fp32|default"
    assert forms["newer"]["GPENLoadModel"].fingerprint_inputs(model="auto", precision="fp32") == "auto|fp32|default"
    assert seen == ["auto", "auto"]


@pytest.mark.parametrize("trouble", [TypeError("another argument"), AttributeError("no such class"), ValueError("ids must be unique")])
def test_where_the_newer_form_is_another_the_older_one_is_used(io, ours, form, monkeypatch, trouble):
    assert form.entrypoint(ours.NODE_CLASS_MAPPINGS) is not None

    def refused(*_, **__):
        raise trouble

    monkeypatch.setattr(io.Schema, "validate", refused)
    assert form.entrypoint(ours.NODE_CLASS_MAPPINGS) is None


def test_a_comfyui_without_the_newer_form_has_all_nodes(ours, form, monkeypatch):
    monkeypatch.setitem(sys.modules, "comfy_api.latest", None)
    assert form.entrypoint(ours.NODE_CLASS_MAPPINGS) is None
