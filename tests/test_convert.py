"""Weights written as .safetensors, and the alignment template that a file names."""

from __future__ import annotations

import json

import cli_help
import numpy as np
import pytest
import torch
import weights_help
from safetensors.torch import save_file

from gpen_core.errors import OutputExistsError, SettingsError, WeightsError
from gpen_core.network.convert import convert_weights
from gpen_core.network.load import find_model, load_network
from gpen_core.network.run import run_network
from gpen_core.weights.checkpoint import read_state_dict, read_template
from gpen_core.weights.files import Resolved


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "mine größer.pth"
    torch.save({"g_ema": weights_help.tiny_state()}, path)
    return Resolved(path, None)


def restored(path):
    x = np.random.default_rng(0).random((64, 64, 3), np.float32)
    return run_network(load_network(path), x)


@pytest.mark.parametrize("half", [True, False])
def test_the_converted_network_restores_alike(source, tmp_path, half):
    target = convert_weights(source, tmp_path / "new" / "half.safetensors", half=half)
    before, after = read_state_dict(source.path), read_state_dict(target)
    assert {key: tensor.shape for key, tensor in after.items()} == {key: tensor.shape for key, tensor in before.items()}
    assert {tensor.dtype for tensor in after.values()} == {torch.float16 if half else torch.float32}
    difference = np.abs(restored(target) - restored(source.path))
    assert difference.mean() < 2e-3 if half else difference.max() == 0
    assert half == (target.stat().st_size < 0.6 * source.path.stat().st_size)
    assert find_model(target).template == "gpen" and [path.name for path in target.parent.iterdir()] == [target.name]


def test_values_beyond_fp16_are_refused_and_kept_in_float32(source, tmp_path):
    state = weights_help.tiny_state()
    state["generator.style.1.weight"][0, 0] = 1e5
    torch.save(state, source.path)
    target = tmp_path / "big.safetensors"
    with pytest.raises(WeightsError, match=r"style\.1\.weight.*65,504.*float32"):
        convert_weights(source, target)
    assert not target.exists()
    assert float(read_state_dict(convert_weights(source, target, half=False))["generator.style.1.weight"][0, 0]) == 1e5


def test_a_file_is_never_replaced_unasked(source, tmp_path):
    target = tmp_path / "here.safetensors"
    target.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        convert_weights(source, target)
    assert target.read_bytes() == b"mine"
    convert_weights(source, target, overwrite=True)
    with pytest.raises(SettingsError, match="safetensors"):
        convert_weights(source, tmp_path / "here.pth")


@pytest.mark.parametrize(
    ("metadata", "template"),
    [({"template": "ffhq"}, "ffhq"), ({"template": "gpen"}, "gpen"), ({"template": "arcface"}, None), ({"title": "x"}, None), (None, None)],
)
def test_a_file_may_name_its_template(tmp_path, metadata, template):
    path = tmp_path / "own.safetensors"
    save_file(weights_help.tiny_state(), path, metadata=metadata)
    assert read_template(path) == template
    assert find_model(path).template == (template or "gpen")
    again = convert_weights(find_model(path), tmp_path / "again.safetensors")
    assert read_template(again) == (template or "gpen")


def test_the_files_template_goes_before_the_catalogues(tmp_path):
    path = tmp_path / "trained.safetensors"
    save_file(weights_help.tiny_state(), path, metadata={"template": "ffhq"})
    assert Resolved(path, weights_help.tiny_entry("GPEN-BFR-256", 1 / 32)).template == "ffhq"


def test_metadata_that_is_no_table_is_damage(tmp_path):
    header = json.dumps({"__metadata__": ["ffhq"]}).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match="damaged"):
        read_template(path)


def test_the_command(capsys, source, tmp_path):
    target = tmp_path / "out.safetensors"
    code, out, err = cli_help.run(capsys, "models", "convert", source.path, "-o", target)
    assert (code, err) == (0, "") and str(target) in out and "MB" in out
    code, _, err = cli_help.run(capsys, "models", "convert", source.path, "-o", target)
    assert code == 1 and "--overwrite" in err
    code, out, _ = cli_help.run(capsys, "models", "convert", source.path, "-o", target, "--float32", "--overwrite", "--json")
    assert code == 0 and json.loads(out)["bytes"] == target.stat().st_size
    assert {tensor.dtype for tensor in read_state_dict(target).values()} == {torch.float32}
