"""The commands colorize, inpaint and seg2face, in process and without weights."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from cli_help import picture, run
from stub_restorer import StubFaceResult

from gpen_core import runtime
from gpen_core.cli.main import flag_of
from gpen_core.options import RestoreOptions
from gpen_core.task_options import FACE_TASKS, TaskOptions


def test_tasks(tmp_path, capsys, monkeypatch):
    asked: list[object] = []

    def load(name, **settings):
        asked.append((name, str(settings["device"]), settings["dtype"]))
        return "network"

    def seg2face(picture, network, *, or_cpu):
        assert or_cpu
        asked.append(("segmentation_to_face", network))
        return picture

    class Task:
        def __init__(self, options, *, models_dir, progress):
            self.options, self.model_name = options, options.shared.model
            asked.append((options, models_dir))

        def prepare(self):
            if "prepared" not in asked[-1:]:  # it is called before every picture
                asked.append("prepared")

        def __call__(self, picture, *, hole):
            asked.append(None if hole is None else hole.shape)
            return SimpleNamespace(image=picture, faces=[StubFaceResult()], scale=1.0)

    monkeypatch.setitem(sys.modules, "gpen_core.network.load", SimpleNamespace(load_network=load))
    monkeypatch.setitem(sys.modules, "gpen_core.restore.whole_picture", SimpleNamespace(segmentation_to_face=seg2face))
    monkeypatch.setitem(sys.modules, "gpen_core.restore.tasks", SimpleNamespace(TaskRestorer=Task))
    a, b, hole = picture(tmp_path / "a.png"), picture(tmp_path / "b.png"), picture(tmp_path / "hole.png")
    monkeypatch.setattr(runtime, "computes_bf16", lambda: False)
    code, out, err = run(capsys, "colorize", a, b, "-o", tmp_path / "1", "--device", "cpu", "--rest", "grey", "--models-dir", tmp_path)
    assert (code, err) == (0, "") and "(1 face, " in out
    code, out, _ = run(capsys, "inpaint", a, "-o", tmp_path / "2", "--hole-mask", hole, "--feather", "0.25", "--official", "--json")
    assert code == 0 and json.loads(out)["inputs"][0]["faces"][0]["status"] == "restored" and json.loads(out)["model"] == "auto"
    assert run(capsys, "seg2face", a, "-o", tmp_path / "3.jpg", "--device", "cpu", "--model", "auto")[0] == 0
    assert asked == [
        (TaskOptions("colorize", RestoreOptions(device="cpu"), rest="grey"), tmp_path), "prepared", None, "prepared", None,
        (TaskOptions("inpaint", RestoreOptions(feather=0.25), official=True), None), "prepared", (16, 24),
        ("GPEN-Seg2face-512", "cpu", torch.float32), ("segmentation_to_face", "network"),
    ]  # fmt: skip
    assert (tmp_path / "3.jpg").is_file()


@pytest.mark.parametrize("task", FACE_TASKS)
def test_every_setting_of_a_task_is_a_flag_and_no_other(tmp_path, capsys, monkeypatch, task):
    options = []

    def make(given, **_):
        options.append(given)
        return SimpleNamespace(prepare=lambda: None, model_name="stub")

    monkeypatch.setitem(sys.modules, "gpen_core.restore.tasks", SimpleNamespace(TaskRestorer=make))
    a = picture(tmp_path / "a.png")
    for option in TaskOptions.table(task):
        texts = {"faces": "1", "mask_regions": "skin", "model": f"./{a}", "device": "cpu", "person": str(a)}
        chosen = option.choices[-1] if option.choices else texts.get(option.name, "1")
        other = {"look_closer": False}.get(option.name, True) if option.kind == "bool" else option.checked(chosen)
        flag = [f"--{'' if other else 'no-'}{flag_of(option)[2:]}"] if option.kind == "bool" else [flag_of(option), chosen]
        assert run(capsys, task, a, "-o", a, "--skip-existing", *flag)[0] == 0
        assert options[-1].changed() == ({option.name: other} if other != option.default else {}), option.name
        assert flag_of(option) in run(capsys, task, "--help")[1]
    for option in RestoreOptions.table():
        if option.name not in [one.name for one in TaskOptions.table(task)]:
            code, _, err = run(capsys, task, a, "-o", a, flag_of(option), "1")
            assert code == 2 and flag_of(option) in err
