"""Reading good files: every format, container and layout, without torch.load."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from weights_help import tiny_state

from gpen_core.errors import WeightsError
from gpen_core.weights.checkpoint import read_architecture, read_generator, read_shapes, read_state_dict

LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def same(got, wanted) -> bool:
    return set(got) == set(wanted) and all(torch.equal(got[key], wanted[key]) and got[key].dtype == wanted[key].dtype for key in wanted)


@pytest.fixture(autouse=True)
def never_torch_load(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", refuse)


@LAYOUTS
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("wrap", ["bare", "g_ema", "params_ema", "params", "state_dict", "module."])
def test_containers(tmp_path, zipped, protocol, wrap):
    state = tiny_state()
    if wrap == "module.":
        content = {f"module.{key}": value for key, value in state.items()}
    else:
        content = state if wrap == "bare" else {"other": {"x": torch.zeros(1)}, wrap: state}
    path = tmp_path / "weights.bin"  # the extension says nothing
    torch.save(content, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    assert same(read_generator(path), state)
    assert read_shapes(path) == {key: tuple(value.shape) for key, value in state.items()}


@LAYOUTS
def test_self_trained_checkpoint_with_optimisers(tmp_path, zipped):
    state, other = tiny_state(), tiny_state(seed=1)
    layer = torch.nn.Linear(3, 4)
    optimiser = torch.optim.Adam(layer.parameters())
    layer(torch.randn(2, 3)).sum().backward()
    optimiser.step()
    parameters = {key: torch.nn.Parameter(value) for key, value in state.items()}
    content = {"g": other, "d": layer.state_dict(), "g_ema": parameters, "g_optim": optimiser.state_dict(), "more": (3, 1.5, None, True)}
    path = tmp_path / "100000.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    got = read_generator(path)
    assert same(got, state)
    assert not any(isinstance(value, torch.nn.Parameter) or value.requires_grad for value in got.values())


@LAYOUTS
def test_module_state_dict_with_metadata(tmp_path, zipped):
    layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    path = tmp_path / "layer.pth"
    torch.save(layer.state_dict(), path, _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(path), layer.state_dict())


@LAYOUTS
def test_types_views_and_shared_storages(tmp_path, zipped):
    whole = torch.arange(24.0)
    state = {
        "half": torch.randn(5).half(),
        "bfloat": torch.randn(5).bfloat16(),
        "double": torch.randn(2, 2).double(),
        "whole": torch.arange(4),
        "bytes": torch.arange(4).to(torch.uint8),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "turned": torch.randn(3, 4).t(),
        "view": whole[4:10],
        "other view": whole[8:20:2],
        "grid": whole.view(4, 6)[1:3, 2:4],
    }
    path = tmp_path / "types.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(path), state)


def test_safetensors(tmp_path):
    state = {key: value.half() for key, value in tiny_state().items()}
    path = tmp_path / "weights.pth"  # misnamed on purpose
    save_file(state, path, metadata={"name": "tiny"})
    assert same(read_generator(path), state)
    assert read_architecture(path).size == 64


def test_kernels_may_be_missing(tmp_path):
    state = {key: value for key, value in tiny_state().items() if not key.endswith(".kernel")}
    torch.save(state, tmp_path / "a.pth")
    assert same(read_generator(tmp_path / "a.pth"), state)


@LAYOUTS
def test_big_endian_files(tmp_path, zipped):
    values = torch.tensor([1.0, -2.5, 3e7])
    path = tmp_path / "big.pth"
    torch.save({"x": values}, path, _use_new_zipfile_serialization=zipped)
    raw, turned = values.numpy().tobytes(), values.numpy().byteswap().tobytes()
    if zipped:
        out = io.BytesIO()
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
            for name in old.namelist():
                data = old.read(name)
                if not name.endswith("byteorder"):
                    new.writestr(name, data.replace(raw, turned))
            new.writestr(f"{name.partition('/')[0]}/byteorder", b"big")  # torch 2.0 does not write it itself
        path.write_bytes(out.getvalue())
    else:
        data = path.read_bytes().replace(raw, turned).replace((3).to_bytes(8, "little"), (3).to_bytes(8, "big"))
        # the pickled flag: "little_endian" followed by memo and NEWTRUE
        place = data.index(b"little_endian")
        data = data[:place] + data[place:].replace(b"\x88", b"\x89", 1)
        path.write_bytes(data)
    assert torch.equal(read_state_dict(path)["x"], values)


def test_official_keys(tmp_path, recipe):
    arrays = recipe.make_state_dict(recipe.gpen_shapes(64, 2, 0.125))
    state = {key: torch.from_numpy(value) for key, value in arrays.items()}
    torch.save(state, tmp_path / "g.pth")
    assert same(read_generator(tmp_path / "g.pth"), state)
    assert read_architecture(tmp_path / "g.pth").narrow == 0.125


def test_a_tensor_outside_its_storage_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"x": torch.zeros(1000)}, path)
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            # Both the storage's length (1000 as BININT2) and the shape say 1000; make the shape 1001.
            data = old.read(name)
            if name.endswith("data.pkl"):
                place = data.rindex(b"M\xe8\x03")
                data = data[:place] + b"M\xe9\x03" + data[place + 3 :]
            new.writestr(name, data)
    path.write_bytes(out.getvalue())
    with pytest.raises(WeightsError, match="outside its storage"):
        read_state_dict(path)


def test_shapes_are_read_without_torch(tmp_path):
    torch.save(tiny_state(), tmp_path / "a.pth")
    code = (
        "import sys; import gpen_core.weights.files; from gpen_core.weights.checkpoint import read_architecture; from pathlib import Path; "
        "print(read_architecture(Path(sys.argv[1])).size); assert 'torch' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.pth")], cwd=root, capture_output=True, text=True)
    assert run.stdout.strip() == "64", run.stderr
