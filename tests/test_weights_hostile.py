"""Small files made to cost much, to lie, or to break a reader: each ends at once in one sentence, on little memory."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from weights_help import MIB, refusal, tiny_state, zipped

from gpen_core.errors import DamagedWeightsError, WeightsError
from gpen_core.weights.architecture import Architecture
from gpen_core.weights.checkpoint import read_generator, read_shapes, read_state_dict
from gpen_core.weights.formats import safetensors_reader
from gpen_core.weights.formats.identify import describe_keys

# safetensors


def safetensors(path: Path, header: str | bytes, data: bytes = b"") -> Path:
    raw = header.encode() if isinstance(header, str) else header
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def one(shape: str = "[1]", offsets: str = "[0,4]", dtype: str = '"F32"') -> str:
    return f'{{"x":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'


@pytest.mark.parametrize(
    "header",
    [
        one(shape="[Infinity]"), one(shape="[NaN]"), one(shape="[1e3]"), one(shape="[-1]"),
        one(shape="[true]"), one(shape='"1"'), one(shape="1"),
        one(shape=f"[{'9' * 12_000}]"), one(shape=f"[{'1,' * 100_000}1]"), one(shape=f"[{','.join(['18446744073709551615'] * 16)}]"),
        one(shape="[2]"), one(offsets="[4,0]"), one(offsets="[0,4,8]"), one(offsets="[0]"), one(offsets="[1,5]"), one(offsets="[-4,0]"),
        one(dtype="7"),
        one()[:-1] + "," + one()[1:],  # the same name twice
        one()[:-1] + "," + one()[1:].replace('"x"', '"y"'),  # two tensors of the same bytes
        '{"x":' * 5000 + "1" + "}" * 5000, "[" * 50_000, "{}x", "[]", "1", '{"x":1}', b'{"\xff":1}', '{"__metadata__":{"a":1}',
    ],
)  # fmt: skip
def test_headers_that_lie(tmp_path, header):
    if not str(header).startswith("{"):
        header = b"{" + (header.encode() if isinstance(header, str) else header)
    path = safetensors(tmp_path / "a.safetensors", header, bytes(4))
    assert "damaged" in refusal(path) or "cut off" in refusal(path)
    refusal(path, read_shapes)


def test_a_header_of_megabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_reader, "_LARGEST_HEADER", 10_000)
    path = safetensors(tmp_path / "a.safetensors", b'{"a":1' + b" " * 20_000 + b"}")
    assert "its header has" in refusal(path, most=MIB // 2)


def test_bytes_that_belong_to_no_tensor(tmp_path):
    assert "no tensor" in refusal(safetensors(tmp_path / "a.safetensors", one(), bytes(5)))


def test_a_kind_of_number_that_is_not_read(tmp_path):
    path = safetensors(tmp_path / "a.safetensors", one(dtype='"F4\\u001b[2J"'), bytes(4))
    assert read_shapes(path) == {"x": (1,)}
    assert "F4" in refusal(path)


# Files that change


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be cut there")
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_a_file_that_is_cut_while_it_is_read(tmp_path, monkeypatch, form):
    path = tmp_path / "a.pth"
    state = {f"{n}": torch.zeros(20_000) for n in range(10)}
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    # Cut in the midst of the reading: when the first tensor is made.
    name = "empty" if form == "safetensors" else "frombuffer"
    make = getattr(torch, name)

    def cut(*arguments, **more):
        os.truncate(path, 100_000)
        return make(*arguments, **more)

    monkeypatch.setattr(torch, name, cut)
    with pytest.raises(DamagedWeightsError, match="cut off"):
        read_state_dict(path)


# Names, messages, shapes


def test_what_comes_from_a_file_is_clean_and_short(tmp_path):
    name = "\x1b[2J\x07\u202e" + "n" * 3_000_000
    path = tmp_path / "a.safetensors"
    safetensors(path, json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}), bytes(4))
    assert "unknown network" in refusal(path, read_generator, most=100 * MIB)
    torch.save({name: torch.zeros(1)}, path)
    refusal(path, read_generator, most=100 * MIB)
    path = zipped(tmp_path / "b.pth", b"c\x1b[2Jos\nsystem\n.")
    assert "system" in refusal(path)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes there")
def test_a_files_own_name_is_cleaned(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\x1b[2J\xff\n.pth"))
    path.write_bytes(b"hello there")
    with pytest.raises(WeightsError) as caught:
        read_shapes(path)
    assert str(caught.value).isprintable() and ".pth" in str(caught.value)


@pytest.mark.parametrize("names", [["lora_" * 200_000 + "\n"], ["model" + "RDB1" * 200_000], ["a"] * 100_000])
def test_describing_takes_no_longer_than_reading(names):
    assert describe_keys(names).startswith("a")


@pytest.mark.parametrize("content", [bytes([n]) for n in range(256)])
def test_files_of_one_byte(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        read_shapes(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    assert "pipe" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("key", ["generator.input.input", "ecd0.0.0.weight", "final_linear.0.weight"])
@pytest.mark.parametrize(
    "shape", [(), (0,), (0, 0, 0, 0), (1, 0, 4, 4), (0, 3, 1, 1), (0, 32), (1, 10**30, 4, 4), (10**30, 3, 1, 1), (3, 10**30)]
)
def test_shapes_that_no_network_has(key, shape):
    shapes = {name: tuple(tensor.shape) for name, tensor in tiny_state().items()}
    with pytest.raises(WeightsError):
        Architecture.from_shapes({**shapes, key: shape})


def test_more_blocks_than_a_number_holds():
    shapes = {name: tuple(tensor.shape) for name, tensor in tiny_state().items()}
    many = {f"ecd{n}.0.1.weight": (1,) for n in range(20_000)} | {f"generator.to_rgbs.{n}.conv.weight": (1,) for n in range(20_000)}
    with pytest.raises(WeightsError, match="encoder blocks"):
        Architecture.from_shapes({**shapes, **many})
    layers = {f"generator.style.{n}.weight": (8, 8) for n in range(20_000)}
    with pytest.raises(WeightsError, match="mapping layers"):
        Architecture.from_shapes({**shapes, **layers})


@pytest.mark.parametrize("values", [{"style_dim": 0}, {"narrow": 1 / 1000}, {"narrow": 20}, {"channel_multiplier": 0}, {"n_mlp": 1000}])
def test_networks_too_narrow_or_too_wide(values):
    with pytest.raises(WeightsError, match="a GPEN generator has"):
        Architecture(**{"size": 64, **values})
