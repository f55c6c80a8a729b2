"""Hundreds of hostile weight files are refused, each in one sentence, without running code, reaching for other files, or much memory."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_weights import corpus
from safetensors.torch import save_file
from weights_help import tiny_state

READER = Path(__file__).with_name("guarded_reading.py")
FOUND = Path(__file__).parent / "soak" / "corpus.zip"  # by the fuzzer of tests/soak


def read_all(folder: Path) -> list[dict[str, Any]]:
    """What reading the folder's files did (see guarded_reading.py), in a process of its own."""
    run = subprocess.run(
        [sys.executable, str(READER), str(folder)], cwd=folder, capture_output=True, encoding="utf-8", timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return [json.loads(line) for line in run.stdout.splitlines()]


def good_files(folder: Path) -> None:
    """What a reader imports late, it imports for these."""
    torch.save(tiny_state(), folder / "warm-up-zip.pth")
    torch.save(tiny_state(), folder / "warm-up-stream.pth", _use_new_zipfile_serialization=False)
    save_file(tiny_state(), folder / "warm-up.safetensors")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("hostile")
    good_files(folder)
    for name, content in corpus():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(FOUND) as archive:
        for name in archive.namelist():
            (folder / f"found-{Path(name).name}").write_bytes(archive.read(name))
    lines = read_all(folder)
    left = {path.name for path in folder.iterdir()} - {line["name"] for line in lines}
    assert all(name.startswith("warm-up") for name in left), "something was written beside the files"
    return lines


def test_there_are_hundreds_of_each_kind(lines: list[dict[str, Any]]) -> None:
    kinds = Counter(line["name"].rsplit(".", 1)[1] for line in lines)
    assert kinds["pth"] > 500 and kinds["safetensors"] > 60 and kinds["onnx"] > 100, kinds


def test_no_file_makes_python_do_anything(lines: list[dict[str, Any]]) -> None:
    assert [(line["name"], line["did"]) for line in lines if line["did"]] == []


def test_every_file_is_refused_in_one_sentence(lines: list[dict[str, Any]]) -> None:
    odd = [
        (line["name"], said)
        for line in lines
        for said in line["said"]
        if said.startswith("!") or not said.isprintable() or len(said) > 1200
    ]
    assert odd == []
    # None is a generator; some are a tensor or two without a purpose, whose head may be read.
    assert [line["name"] for line in lines if not line["said"][2]] == []


def test_none_costs_much(lines: list[dict[str, Any]]) -> None:
    assert max(line["memory"] for line in lines) < 256, "MiB"
    slow = [(line["name"], line["seconds"]) for line in lines if line["seconds"] > 30]
    assert slow == []


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    """Reads with torch's own unpickler instead, which runs what it is given."""
    reader = tmp_path / "reader.py"
    reader.write_text(
        READER.read_text(encoding="utf-8")
        .replace("Path(__file__).resolve().parents[1]", f"Path({str(READER.parents[1])!r})")
        .replace("    readers = (", "    import pickle\n    readers = (lambda path: pickle.loads(path.read_bytes()),) or ("),
        encoding="utf-8",
    )
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.pth").write_bytes(b"cos\nsystem\nX\x04\x00\x00\x00echo\x85R.")
    run = subprocess.run(
        [sys.executable, str(reader), str(folder)], cwd=folder, capture_output=True, encoding="utf-8", timeout=120, check=True
    )
    line = json.loads(run.stdout.splitlines()[-1])
    assert any(event.startswith("pickle.find_class") for event in line["did"]) and any(
        event.startswith("os.system") for event in line["did"]
    )
