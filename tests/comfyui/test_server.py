"""The pack in a running ComfyUI, over HTTP as the page drives it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

import host
import numpy as np
import pytest
import workflows

MODEL = "GPEN-BFR-256-lite"


def inputs_of(server, name, **given):
    """A node of the prompt: its defaults as the server lists them, and what is given."""
    listed = server.get(f"/object_info/{name}")[name]["input"]["required"]
    plain = {key: spec[1]["default"] for key, spec in listed.items() if len(spec) > 1 and "default" in spec[1]}
    return {"class_type": name, "inputs": {**plain, **given}}


@pytest.fixture
def restoring(server):
    """A portrait, restored with the embedded weights and saved."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}},
        "2": inputs_of(server, "GPENLoadModel", model=MODEL),
        "3": inputs_of(server, "GPENRestoreFaces", image=["1", 0], model=["2", 0]),
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "restored"}},
    }


def pictures(server, result, tmp_path, name="restored"):
    from PIL import Image

    files = sorted(path for path in server.download(result, tmp_path) if name in Path(path).name)
    return [np.asarray(Image.open(file).convert("RGB")).astype(int) for file in files]


def picture(server, result, tmp_path):
    return pictures(server, result, tmp_path)[0]


def test_the_pack_was_loaded(server):
    assert not [line for line in server.log().splitlines() if "IMPORT FAILED" in line and host.ROOT.name in line]
    listed = server.get("/object_info")
    ours = {name: info for name, info in listed.items() if name.startswith("GPEN")}
    assert len(ours) == 20
    for name, info in ours.items():
        assert info["category"] == "image/face restoration" and info["description"] and "GPEN" in info["display_name"]
        assert info["python_module"] == f"custom_nodes.{host.ROOT.name}"
        for kind in ("required", "optional"):
            for key, spec in info["input"].get(kind, {}).items():
                assert spec[1].get("tooltip"), f"{name}.{key} has no tooltip"
        assert len(info["output_tooltips"]) == len(info["output"])


def test_help_pages_are_served(server):
    ours = [name for name in server.get("/object_info") if name.startswith("GPEN")]
    for name in ours:
        page = server.get(f"/extensions/{quote(host.ROOT.name)}/docs/{name}.md", raw=True).decode("utf-8")
        assert page.startswith("# ")
    texts = server.get("/i18n")
    languages = {path.name for path in (host.ROOT / "locales").iterdir()}
    assert {"en", "zh", "zh-TW"} <= languages <= set(texts)
    for language in languages:
        assert set(ours) <= set(texts[language]["nodeDefs"])
        page = f"/extensions/{quote(host.ROOT.name)}/docs/GPENRestoreFaces/{language}.md"
        assert language == "en" or server.get(page, raw=True).decode("utf-8").startswith("# ")


def test_templates_are_listed_with_their_pictures(server):
    listed = server.get("/workflow_templates")[host.ROOT.name]
    assert sorted(listed) == [path.stem for path in workflows.files()]
    assert len(listed) >= 5


@pytest.mark.parametrize("path", workflows.files(), ids=lambda path: path.stem)
def test_every_example_workflow_restores_a_face_as_shipped(server, path, tmp_path):
    """Nothing is uploaded, nothing is changed; what goes into the node that restores and what comes out of it is saved as well."""
    prompt = workflows.prompt(workflows.read(path))
    (restoring,) = (key for key, node in prompt.items() if node["class_type"] in ("GPENRestoreFaces", "GPENPasteFaces"))
    prompt["changed"] = {"class_type": "MaskToImage", "inputs": {"mask": [restoring, 1]}}
    seen = {"before": prompt[restoring]["inputs"]["image"], "after": [restoring, 0], "where": ["changed", 0]}
    for name, source in seen.items():
        prompt[name] = {"class_type": "SaveImage", "inputs": {"images": source, "filename_prefix": f"seen_{name}"}}
    result = server.run(prompt)
    assert result["state"] == "success", result
    assert [file for file in server.download(result, tmp_path) if "seen_" not in Path(file).name], "the workflow itself shows nothing"
    before, after, where = (pictures(server, result, tmp_path / name, f"seen_{name}") for name in seen)
    assert len(before) == len(after) == len(where) and (len(before) > 1) is ("video" in path.stem)
    for was, now, mask in zip(before, after, where, strict=True):
        face = mask > 200
        least = 1 if path.stem == "Spare good faces" else 3  # of 255: it is another now, or in part
        assert np.abs(now - was)[face].mean() > least
        assert np.abs(now - was)[mask == 0].max() <= 1  # the mask was rounded down to 8 bits
        assert path.stem != "Pick faces by number" or not face[:, mask.shape[1] // 2 :].any()


def test_our_nodes_stand_in_for_those_of_missing_packs(server, restoring, tmp_path):
    """Where ComfyUI can replace nodes (0.13 and later), prompts with ReActor's and facerestore_cf's nodes run."""
    reactor = {"facedetection": "YOLOv5n", "model": "codeformer.pth", "visibility": 0.5, "codeformer_weight": 0.3}
    choosing = {"face_selection": "all"}  # the rest of its inputs are optional
    other = {"facerestore_model": ["2", 0], "facedetection": "YOLOv5l", "codeformer_fidelity": 0.3}
    theirs = {
        **restoring,
        "2": {"class_type": "FaceRestoreModelLoader", "inputs": {"model_name": "codeformer.pth"}, "_meta": {}},
        "3": {"class_type": "FaceRestoreCFWithModel", "inputs": {"image": ["1", 0], **other}, "_meta": {}},
        "5": {"class_type": "ReActorRestoreFace", "inputs": {"image": ["1", 0], **reactor}, "_meta": {}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "half"}},
        "7": {"class_type": "ReActorRestoreFaceAdvanced", "inputs": {"image": ["1", 0], **reactor, **choosing}, "_meta": {}},
        "8": {"class_type": "SaveImage", "inputs": {"images": ["7", 0], "filename_prefix": "advanced"}},
    }
    result = server.run(theirs)
    if not server.offers("/node_replacements"):
        assert result["state"] == "invalid"
        return
    assert result["state"] == "success", result
    (whole,), (half,), (advanced,) = (pictures(server, result, tmp_path / name, name) for name in ("restored", "half", "advanced"))
    before = portrait_of(server)
    assert np.array_equal(advanced, half)
    assert np.abs(half - (before + whole) / 2).max() <= 2 < np.abs(whole - before).max()


def test_stand_ins_for_nodes_that_feed_each_other(server):
    """ComfyUI replaces a prompt's nodes in any order: each of these loaders may come before or after the node that it feeds."""
    if not server.offers("/node_replacements"):
        return
    pairs = {}
    for number in range(12):
        given = {"image": ["0", 0], "facerestore_model": [f"a{number}", 0]}
        pairs[f"a{number}"] = {"class_type": "FaceRestoreModelLoader", "inputs": {"model_name": "codeformer.pth"}, "_meta": {}}
        pairs[f"b{number}"] = {"class_type": "FaceRestoreCFWithModel", "inputs": given, "_meta": {}}
    status, answer = server.queue(pairs)
    assert (status, answer["error"]["type"]) == (400, "prompt_no_outputs")  # whole otherwise; the server's own fault would be 500
    for kinds in server.get("/node_replacements").values():
        for kind in kinds:
            if kind["new_node_id"].startswith("GPEN"):
                assert kind["output_mapping"] == [{"new_idx": 0, "old_idx": 0}], "or the page drops the links"


def portrait_of(server):
    from PIL import Image

    return np.asarray(Image.open(Path(server.base) / "input" / "mine.png").convert("RGB")).astype(int)


def test_a_second_run_is_cached_and_a_changed_setting_is_not(server, restoring, tmp_path):
    restoring["3"]["inputs"]["strength"] = 0.9
    first = server.run(restoring)
    assert first["state"] == "success"
    second = server.run(restoring)
    assert {"2", "3"} <= set(second["cached"])
    if server.get("/object_info/GPENLoadModel")["GPENLoadModel"].get("has_intermediate_output"):  # the reports come all the same
        assert {node: second["outputs"][node]["text"] for node in ("2", "3")} == {
            node: first["outputs"][node]["text"] for node in ("2", "3")
        }
    else:
        assert "COMBO" not in str(server.get("/object_info/GPENLoadModel")["GPENLoadModel"]["input"]["required"]["model"][0]), (
            "the older form"
        )
    restoring["3"]["inputs"]["strength"] = 0.5
    again = server.run(restoring)
    assert "2" in again["cached"] and "3" not in again["cached"]
    assert not np.array_equal(picture(server, again, tmp_path / "b"), picture(server, first, tmp_path / "a"))


def test_a_changed_weight_file_is_read_again(server, restoring):
    folder = Path(server.base) / "models" / "GPEN"
    path = folder / "gpen mine.safetensors"
    path.write_bytes((host.ROOT / "gpen_core" / "weights" / "embedded" / f"{MODEL}.safetensors").read_bytes())
    restoring["2"]["inputs"]["model"] = path.name
    assert server.run(restoring)["state"] == "success"
    assert "2" in server.run(restoring)["cached"]
    os.utime(path, ns=(10**18, 10**18))
    assert "2" not in server.run(restoring)["cached"]
    path.unlink()
    refused = server.run(restoring)
    assert refused["state"] == "invalid" and path.name in json.dumps(refused["node_errors"])


@pytest.mark.parametrize("folder", [("models", "GPEN"), ("weights of mine", "gpen")])
def test_a_list_shows_new_files(server, folder):
    """In models/GPEN, and in the folder that extra_model_paths.yaml names."""
    path = Path(server.base).joinpath(*folder) / "brand new.pth"
    path.write_bytes(b"x")
    kind, settings = server.get("/object_info/GPENLoadModel")["GPENLoadModel"]["input"]["required"]["model"]
    assert path.name in (settings["options"] if kind == "COMBO" else kind)
    path.unlink()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("strength", 1.5, "strength"), ("detector", "eyes", "detector"), ("order", "loudest", "order"), ("min_size", -1, "min_size")],
)
def test_values_out_of_range_are_refused_before_work(server, restoring, name, value, says):
    restoring["3"]["inputs"][name] = value
    refused = server.run(restoring)
    assert refused["state"] == "invalid" and says in json.dumps(refused["node_errors"]["3"])


def test_a_workflow_from_a_machine_with_more_cards_runs(server, restoring):
    restoring["2"]["inputs"]["device"] = "gpu:7"
    result = server.run(restoring)
    assert result["state"] == "success" and "gpu:7 is not in this machine" in result["outputs"]["2"]["text"][0]
    assert "gpu:7 is not in this machine" in result["outputs"]["3"]["text"][0]
    restoring["2"]["inputs"]["device"] = "the other one"
    refused = server.run(restoring)
    assert refused["state"] == "invalid" and "'the other one' is not default, cpu or a card" in json.dumps(refused["node_errors"]["2"])
    del restoring["2"]["inputs"]["device"]  # as in prompts from before it
    assert server.run(restoring)["state"] == "success"


def test_errors_are_sentences_for_users(server, restoring):
    restoring["3"]["inputs"]["faces"] = "first"
    failed = server.run(restoring)
    assert failed["state"] == "error" and "is not a list of face numbers" in failed["error"]["exception_message"]
    restoring["2"]["inputs"]["model"] = "GPEN-BFR-1024"
    message = server.run(restoring)["error"]["exception_message"]
    assert "GPEN-BFR-1024.pth" in message
    assert str(Path(server.base) / "weights of mine" / "gpen") in message  # the user's own folder comes first: there it would be put
    restoring["2"]["inputs"]["model"] = MODEL
    restoring["3"]["inputs"]["faces"] = ""
    assert server.run(restoring)["state"] == "success"  # an error leaves nothing broken


def test_an_interrupt_takes_effect_within_a_face(server, restoring):
    many = {**restoring, "9": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 200}}}
    many["3"]["inputs"]["image"] = ["9", 0]
    status, answer = server.queue(many)
    assert status == 200

    def steps():
        return [e["data"]["value"] for e in server.events if e["type"] == "progress" and e["data"]["prompt_id"] == answer["prompt_id"]]

    server.until(steps)
    server.interrupt()
    entry = server.wait(answer["prompt_id"], timeout=60)
    assert "execution_interrupted" in dict(entry["status"]["messages"])
    assert max(steps()) < 100  # 200 frames are looked at first, then restored
    del many["9"]
    many["3"]["inputs"]["image"] = ["1", 0]
    assert server.run(many)["state"] == "success"
