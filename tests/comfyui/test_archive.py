"""What the Comfy Registry would publish: the tracked files without those of .comfyignore, installed into a real ComfyUI."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile

import host
import numpy as np
import pytest
import workflows
from comfy_server import ComfyServer

NETWORK = {"urllib", "http", "ssl", "socket", "socketserver", "requests", "aiohttp", "ftplib", "telnetlib"}
# Where the archive reaches for the network: it downloads weights, and nothing else. docs/publishing.md names them.
DOWNLOADS = {"gpen_core/weights/connection.py", "gpen_core/weights/mirrors.py", "gpen_core/weights/web.py"}


def listed(*options: str) -> set[str]:
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", *options], cwd=host.ROOT, capture_output=True, encoding="utf-8", check=False
    )
    return set(filter(None, done.stdout.split("\0")))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The archive, made as `comfy node publish` does: tracked files without those that .comfyignore names."""
    if shutil.which("git") is None or not (host.ROOT / ".git").exists():
        pytest.skip("needs git and its folder: run the tests in a clone")
    left_out = listed("--ignored", "--exclude-from=.comfyignore")
    path = tmp_path_factory.mktemp("registry") / "node.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(listed() - left_out):
            packed.write(host.ROOT / name, name)
    return path


@pytest.fixture(scope="module")
def files(archive):
    with zipfile.ZipFile(archive) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_only_what_runs_is_published(files):
    tops = {name.split("/")[0] for name in files}
    assert tops == {
        *("__init__.py", "gpen_core", "nodes", "web", "locales", "example_workflows", "subgraphs", "examples"),
        *("pyproject.toml", "requirements.txt", "README.md", "CHANGELOG.md", "LICENSE"),
    }
    assert [name for name in files if name.startswith("examples/")] == ["examples/portrait.png"]
    assert not [name for name in files if name.startswith("nodes/texts/")]  # what locales and help pages are written from
    languages = {path.name for path in (host.ROOT / "locales").iterdir()}
    assert len(languages) > 4 and {f"locales/{language}/nodeDefs.json" for language in languages} <= set(files)
    assert {f"web/docs/GPENRestoreFaces/{language}.md" for language in languages - {"en"}} <= set(files)
    assert sum(map(len, files.values())) < 25_000_000


def test_no_module_asks_for_one_that_is_left_out(files):
    """Most are imported only when a node runs, so that the nodes load without them."""
    known = {name.removesuffix(".py").removesuffix("/__init__") for name in files if name.endswith(".py")}
    for name in (name for name in files if name.endswith(".py")):
        for node in ast.walk(ast.parse(files[name])):
            if isinstance(node, ast.ImportFrom) and node.level:
                place = "/".join(name.split("/")[: -node.level])
                asked = "/".join(filter(None, (place, (node.module or "").replace(".", "/"))))
                named = {f"{asked}/{alias.name}".removeprefix("/") for alias in node.names}
                assert asked in known or named <= known, f"{name}: {asked}"


def test_the_scanner_finds_no_program_that_is_started(files):
    """The registry's scanner reports every subprocess, os.system, eval and exec, and asks a person to look at network access."""
    network = set()
    for name, content in files.items():
        if not name.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(content)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            tops = {module.split(".")[0] for module in modules}
            assert not tops & {"subprocess", "pickle", "marshal", "pip", "runpy"}, name
            network |= {name} if tops & NETWORK else set()
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "__import__", "os.system", "os.popen", "torch.load"), f"{name}: {called}"
    assert network == DOWNLOADS
    said = (host.ROOT / "docs" / "publishing.md").read_text("utf-8")
    assert all(name in said for name in DOWNLOADS)


def test_no_opencv_has_a_way_out_without_the_installer(files, tmp_path):
    """install.py is not published; what it would do is said."""
    from install import HEADLESS

    for name, content in files.items():
        if name.startswith(("nodes/", "gpen_core/errors")) and name.endswith(".py"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
    (tmp_path / "nodes" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "gpen_core" / "__init__.py").write_text("", encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path.parent)!r}); import importlib; "
    code += f"print(importlib.import_module({tmp_path.name!r} + '.nodes.packages').advice())"
    said = host.run([sys.executable, "-I", "-c", code])
    assert f'-m pip install --no-deps "{HEADLESS}"' in said and "install.py" not in said


def test_the_dependencies_are_the_same_in_both_lists():
    text = (host.ROOT / "pyproject.toml").read_text("utf-8")
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    static = [line.strip().strip(",").strip('"').replace("'", '"') for line in block[1].splitlines()]
    lines = (host.ROOT / "requirements.txt").read_text("utf-8").splitlines()
    assert static == [line for line in lines if line and not line.startswith("#")]


def test_what_is_published_restores_a_face(archive, comfy_python, tmp_path):
    """Unpacked as ComfyUI Manager does, beside nothing else of this project."""
    from PIL import Image

    pack = tmp_path / "custom_nodes" / "gpen-face-restoration"
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(pack)
    graph = workflows.read(pack / "example_workflows" / "Fix a portrait.json")
    with ComfyServer(host.COMFY, comfy_python, tmp_path, [], {**host.ENVIRON, "OMP_NUM_THREADS": "2"}) as server:
        assert sum(name.startswith("GPEN") for name in server.get("/object_info")) >= 16
        result = server.run(workflows.prompt(graph))
        assert result["state"] == "success", result
        (saved,) = (path for path in server.download(result, tmp_path / "seen") if "GPEN" in path.name)
    before, after = (np.asarray(Image.open(path).convert("RGB")).astype(int) for path in (pack / "examples" / "portrait.png", saved))
    assert after.shape == before.shape and np.abs(after - before).max() > 20
