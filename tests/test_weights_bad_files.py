"""Every wrong kind of file is refused with one sentence that says what it is and what was wanted."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from weights_help import tiny_state

from gpen_core.errors import WeightsError
from gpen_core.weights.checkpoint import read_generator, read_shapes, read_state_dict

LAYOUTS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_generator(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    assert ") is needed" in text or "again" in text
    return text


NETWORKS = {
    "GPEN discriminator": ["convs.0.0.weight", "convs.1.conv1.0.weight", "final_conv.0.weight", "final_linear.1.bias"],
    "GFPGAN": ["conv_body_first.weight", "stylegan_decoder.style_mlp.1.weight", "final_linear.weight"],
    "CodeFormer": ["position_emb", "quantize.embedding.weight", "idx_pred_layer.1.weight", "encoder.blocks.0.weight"],
    "RestoreFormer": ["vqvae.encoder.conv_in.weight", "vqvae.quantize.embedding.weight", "vqvae.decoder.conv_out.weight"],
    "RetinaFace": ["module.body.x", "module.ClassHead.0.conv1x1.weight", "module.BboxHead.0.x", "module.LandmarkHead.0.x"],
    "ParseNet": ["encoder.0.conv2d.weight", "out_img_conv.conv2d.weight", "out_mask_conv.conv2d.weight"],
    "Real-ESRGAN": ["conv_first.weight", "body.0.rdb1.conv1.weight", "conv_last.weight"],
    "Stable Diffusion": ["model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.encoder.conv_in.weight"],
    "ArcFace": ["input_layer.0.weight", "output_layer.0.weight", "body.0.res_layer.0.weight"],
    "StyleGAN2": ["style.1.weight", "convs.0.conv.weight", "to_rgb1.conv.weight"],
    "unknown network": ["layer.weight"],
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", NETWORKS)
def test_other_networks(tmp_path, name, suffix):
    path = tmp_path / f"GPEN-BFR-2048{suffix}"
    state = {key: torch.zeros(2) for key in NETWORKS[name]}
    if suffix == ".pth":
        torch.save({"params_ema": state}, path)
    else:
        save_file(state, path)
    assert name in refusal(path)


def test_discriminator_of_a_training_checkpoint(tmp_path):
    torch.save({"d": {"final_conv.0.weight": torch.zeros(1)}, "d_optim": {}}, tmp_path / "a.pth")
    assert "discriminator only" in refusal(tmp_path / "a.pth")


@LAYOUTS
def test_training_checkpoint_without_g_ema(tmp_path, zipped):
    torch.save({"g": tiny_state(), "d": {}, "g_optim": {}}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert "without the averaged generator 'g_ema'" in refusal(tmp_path / "a.pth")


def test_generator_of_odd_shape(tmp_path):
    state = tiny_state()
    state["generator.conv1.noise.weight"] = torch.zeros(2)
    torch.save(state, tmp_path / "a.pth")
    assert "generator.conv1.noise.weight" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty (a broken download)"),
        (b"<!DOCTYPE html><html><title>404</title></html>", "HTML page"),
        (b"\n\n <HTML>\n<body>Rate limited</body></HTML>", "HTML page"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "HTML page"),
        (b"Sorry, this model is gone.\n", "text file"),
        ("Моделі нема".encode(), "text file"),
        (b'{"error": "not found"}\n', "text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 285180804\n", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG picture"),
        (b"\x1f\x8b" + bytes(50), "gzip archive"),
        (bytes(5000), "zeros"),
        (b"\xde\xad\xbe\xef" * 20, "unknown kind"),
    ],
)
def test_files_that_hold_no_tensors(tmp_path, content, told):
    path = tmp_path / "GPEN-BFR-2048.pth"
    path.write_bytes(content)
    assert told in refusal(path)


def test_missing_file_and_folder(tmp_path):
    assert "does not exist" in refusal(tmp_path / "nothing.pth")
    assert "cannot be read" in refusal(tmp_path)


@LAYOUTS
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.97])
def test_truncated_torch_file(tmp_path, zipped, keep):
    path = tmp_path / "a.pth"
    torch.save(tiny_state(), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    text = refusal(path)
    assert "cut off" in text or "damaged" in text
    with pytest.raises(WeightsError):
        read_shapes(path)  # a look at the head already shows it


@pytest.mark.parametrize("keep", [0.005, 0.5, 0.99])
def test_truncated_safetensors(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    save_file(tiny_state(), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    assert "cut off" in refusal(path)
    path.write_bytes((50).to_bytes(8, "little") + b"{" + b"x" * 60)
    assert "damaged" in refusal(path)


def test_flipped_bits_in_a_zip_are_noticed(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(tiny_state(), path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "damaged" in refusal(path)


def test_other_zip_archives(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "x")
    assert "not from torch.save" in refusal(path)


class Evil:
    def __init__(self, call, *arguments):
        self.made = (call, arguments)

    def __reduce__(self):
        return self.made


CODE = {
    "system": lambda target: Evil(os.system, f"echo run > {target}"),
    "open": lambda target: Evil(builtins.open, str(target), "w"),
    "eval": lambda target: Evil(builtins.eval, f"open({str(target)!r}, 'w')"),
    "rebuild": lambda target: Evil(torch.storage._load_from_bytes, pickle.dumps(Evil(builtins.open, str(target), "w"))),
    "numpy scalar": lambda target: np.float64(1.5),
    "module": lambda target: torch.nn.Linear(2, 2),
}


@LAYOUTS
@pytest.mark.parametrize("kind", CODE)
@pytest.mark.parametrize("place", ["beside", "inside", "alone"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path, zipped, kind, place):
    target = tmp_path / "ran"
    evil = CODE[kind](target)
    state = tiny_state()
    content = {"beside": {"g_ema": state, "x": evil}, "inside": {**state, "x": evil}, "alone": evil}[place]
    path = tmp_path / "evil.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    text = refusal(path)
    assert "could run code" in text and "nothing was run" in text
    if kind == "system":
        assert "system" in text
    for read in (read_state_dict, read_shapes):
        with pytest.raises(WeightsError):
            read(path)
    assert not target.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_with_code(tmp_path, protocol):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil(builtins.open, str(tmp_path / "ran"), "w"), protocol))
    assert "could run code" in refusal(path)
    assert not (tmp_path / "ran").exists()


def hand_made(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return path


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"ccollections\nOrderedDict\n}S'__class__'\nK\x01sb.",  # state for a name of the table
        b"ctorch._utils\n_rebuild_tensor_v2\n}S'x'\nK\x01sb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04tR.",
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a memo of 2 thousand million places
        b"\x80\x02" + b"(" * 1000 + b".",
        b"\x80\x02]" + b"\x85" * 200_000 + b"}h\x00.",
        b"\x80\x02N" + b"\x85" * 300_000 + b"q\x00}h\x00K\x01s.",  # a key nested deeper than the stack of C
        b"\x80\x02X\xff\xff\xff\x7fab.",
        b"\x80\x02",
        b"\x80\x02}0000.",
        b"\x80\x02\x8a\x01",
    ],
)
def test_hostile_pickles_are_refused(tmp_path, pickled):
    refusal(hand_made(tmp_path / "a.pth", pickled))


def test_compressed_archives_are_refused(tmp_path):
    plain, packed = io.BytesIO(), tmp_path / "a.pth"
    torch.save(OrderedDict(tiny_state()), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "compressed" in refusal(packed)
