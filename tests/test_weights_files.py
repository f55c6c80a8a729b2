"""Where weights are looked for, what a renamed or damaged file is taken for, and what `auto` means."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from weights_help import tiny_catalog, tiny_entry, tiny_state

from gpen_core.errors import SettingsError, WeightsError, WeightsMissingError
from gpen_core.network.load import find_model
from gpen_core.weights import download, files, folders
from gpen_core.weights.architecture import Architecture
from gpen_core.weights.catalog import Catalog
from gpen_core.weights.files import find, identify
from gpen_core.weights.folders import models_dir, offline_switch, search_folders

NARROW = {"GPEN-BFR-256": 1 / 64, "GPEN-BFR-512": 2 / 64, "GPEN-BFR-1024": 3 / 64, "GPEN-BFR-2048": 4 / 64, "GPEN-Inpainting-1024": 3 / 64}

SIZE = {"GPEN-BFR-512": 128, "GPEN-BFR-1024": 256, "GPEN-Inpainting-1024": 256}


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No settings of the machine, no network, a small catalogue, an empty working folder."""
    for name in ("GPEN_MODELS_DIR", "GPEN_EXTRA_MODELS", "HF_HUB_OFFLINE", "GPEN_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folders, "_SMALLEST_BYTES", 1000)
    monkeypatch.setattr(files, "_unreachable", {})
    catalog = tiny_catalog()
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: catalog))


def put(folder: Path, filename: str, name: str, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / filename
    torch.save(tiny_state(NARROW[name], seed, size=SIZE.get(name, 64)), path)
    return path


@pytest.fixture
def models(tmp_path) -> Path:
    return tmp_path / "models"


def test_the_models_folder(monkeypatch, tmp_path):
    assert models_dir() == tmp_path / "models"
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path / "elsewhere"))
    assert models_dir() == tmp_path / "elsewhere"
    assert models_dir(tmp_path / "told") == tmp_path / "told"


def test_search_folders_in_order(monkeypatch, tmp_path, models):
    wanted = [models / "GPEN", tmp_path / "host", tmp_path / "a", tmp_path / "b", models / "facerestore_models", models / "GFPGAN", models]
    wanted.append(tmp_path / ".assets" / "models")
    for folder in wanted:
        folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("GPEN_EXTRA_MODELS", os.pathsep.join(map(str, [tmp_path / "a", tmp_path / "b", tmp_path / "missing"])))
    assert search_folders(models, [tmp_path / "host"]) == wanted


@pytest.mark.parametrize("folder", ["models/GPEN", "models/facerestore_models", ".assets/models", "models"])
def test_found_where_programs_keep_them(tmp_path, models, folder):
    path = put(tmp_path / folder, "GPEN-BFR-2048.pth", "GPEN-BFR-2048")
    assert find("gpen-bfr-2048", models) == path
    assert find("GPEN-BFR-512", models) is None


def test_found_in_extra_folders(monkeypatch, tmp_path, models):
    path = put(tmp_path / "host", "GPEN-BFR-512.pth", "GPEN-BFR-512")
    assert find("GPEN-BFR-512", models) is None
    assert find("GPEN-BFR-512", models, [tmp_path / "host"]) == path
    monkeypatch.setenv("GPEN_EXTRA_MODELS", str(tmp_path / "host"))
    assert find("GPEN-BFR-512", models) == path


def test_renamed_files_are_known_by_their_tensors(models):
    path = put(models / "GPEN", "my face thing.pt", "GPEN-BFR-2048")
    assert find("GPEN-BFR-2048", models) == path
    assert identify(path).name == "GPEN-BFR-2048"


def test_one_shape_two_tasks(models):
    plain = put(models / "GPEN", "pytorch_model.pt", "GPEN-BFR-1024")
    holes = put(models / "GPEN", "gpen_inpainting.pth", "GPEN-Inpainting-1024")
    assert find("GPEN-BFR-1024", models) == plain
    assert find("GPEN-Inpainting-1024", models) == holes


def test_a_wrong_file_under_a_right_name_is_passed_over(models, caplog):
    put(models / "GPEN", "GPEN-BFR-2048.pth", "GPEN-BFR-512")
    (models / "GPEN" / "GPEN-BFR-1024.pth").write_bytes(b"<html>404</html>")
    assert find("GPEN-BFR-2048", models) is None
    with caplog.at_level(logging.WARNING, logger="gpen_core.weights"):
        assert find("GPEN-BFR-1024", models) is None
    assert "HTML page" in caplog.text
    right = put(models / "facerestore_models", "GPEN-BFR-2048.pth", "GPEN-BFR-2048")
    assert find("GPEN-BFR-2048", models) == right


def test_a_file_that_was_repaired_is_read_again(models):
    path = models / "GPEN" / "GPEN-BFR-512.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert find("GPEN-BFR-512", models) is None
    put(models / "GPEN", "GPEN-BFR-512.pth", "GPEN-BFR-512")
    assert find("GPEN-BFR-512", models) == path


@pytest.mark.skipif(os.name == "nt", reason="needs sparse files")
def test_the_real_catalogue_by_heads_alone(monkeypatch, tmp_path, models):
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    import json

    folder = models / "GPEN"
    folder.mkdir(parents=True)
    header, end = {}, 0
    for key, shape in Architecture(2048).state_shapes().items():
        count = 4
        for side in shape:
            count *= side
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + count]}
        end += count
    text = json.dumps(header).encode()
    with (folder / "whatever.bin").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    assert end == Catalog.default().get("GPEN-BFR-2048").tensor_bytes
    assert find_model("auto", models).entry.name == "GPEN-BFR-2048"


def test_resolve_a_path(tmp_path, models):
    path = put(tmp_path / "somewhere", "x.pth", "GPEN-BFR-512")
    found = find_model(path, models)
    assert (found.path, found.entry.name, found.note) == (path, "GPEN-BFR-512", None)
    own = tmp_path / "own.safetensors"
    save_file(tiny_state(narrow=1 / 4), own)
    assert find_model(str(own), models).entry is None


def test_resolve_a_file_name_in_the_folder(models):
    path = put(models / "GPEN", "mine.pth", "GPEN-BFR-512")
    assert find_model("mine.pth", models).path == path


def test_a_name_is_never_looked_for_in_the_working_directory(tmp_path, models):
    """It may come from settings, a workflow or the network; the file that happens to lie there may be anybody's."""
    here = put(Path.cwd(), "mine.pth", "GPEN-BFR-512", seed=1)
    for name in ("mine.pth", " mine.pth "):
        with pytest.raises(WeightsMissingError, match=r"as in \./mine\.pth"):
            find_model(name, models)
    for path in (f".{os.sep}mine.pth", str(here), Path("mine.pth"), here):  # written as a path
        assert find_model(path, models).path.samefile(here)
    inside = put(models / "GPEN", "mine.pth", "GPEN-BFR-512")
    assert find_model("mine.pth", models).path == inside
    (Path.cwd() / "GPEN-BFR-512").write_bytes(here.read_bytes())
    with pytest.raises(WeightsMissingError):
        find_model("GPEN-BFR-512", tmp_path / "none", offline=True)


HOSTILE = ["~nobody", "~nobody/x.pth", "~", "~nobody.pth", "a" * 300, "a" * 300 + ".pth", "d/" + "a" * 5000 + ".pth", "x\0.pth",
           "d/x\0.pth", "\ud800.pth", ".", "..", "/", "con", "nul.pth"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_resolve_names_that_no_file_can_have(models, name):
    with pytest.raises((SettingsError, WeightsMissingError)):
        find_model(name, models, offline=True)


def test_resolve_a_path_to_a_wrong_file(tmp_path, models):
    path = tmp_path / "x.pth"
    path.write_text("hello")
    with pytest.raises(WeightsError, match="text file"):
        find_model(path, models)


def test_resolve_an_unknown_name(models):
    with pytest.raises(SettingsError, match="did you mean GPEN-BFR-2048"):
        find_model("GPEN-BFR-2084", models)
    with pytest.raises(WeightsMissingError, match="there is no weight file"):
        find_model("folder/nothing.pth", models)


@pytest.mark.parametrize("switch", ["GPEN_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_offline_switches(monkeypatch, switch, value):
    assert offline_switch() is None
    monkeypatch.setenv(switch, value)
    assert offline_switch() == switch
    monkeypatch.setenv(switch, "0")
    assert offline_switch() is None


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr(download, "Fetch", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


def test_a_model_by_name_is_never_replaced(monkeypatch, models, no_network):
    put(models / "GPEN", "GPEN-BFR-512.pth", "GPEN-BFR-512")
    catalog = tiny_catalog(urls=("https://example.org/a/GPEN-BFR-2048.pt",), sha256="ab" * 32, size_bytes=123456)
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: catalog))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsMissingError) as caught:
        find_model("GPEN-BFR-2048", models)
    text = str(caught.value)
    address = "https://example.org/a/GPEN-BFR-2048.pt"
    for part in ("GPEN-BFR-2048.pth", str(models / "GPEN"), address, "ab" * 32, "123,456", "HF_HUB_OFFLINE"):
        assert part in text


def test_auto_takes_the_large_one_on_disk(models, no_network):
    put(models / "GPEN", "GPEN-BFR-512.pth", "GPEN-BFR-512")
    path = put(models / "facerestore_models", "GPEN-BFR-2048.pth", "GPEN-BFR-2048")
    found = find_model("auto", models)
    assert (found.path, found.note) == (path, None)


def test_auto_offline_takes_the_best_other_and_says_so_once(monkeypatch, models, no_network, caplog):
    for name in ("GPEN-BFR-256", "GPEN-BFR-512", "GPEN-Inpainting-1024"):
        put(models / "GPEN", f"{name}.pth", name)
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    with caplog.at_level(logging.INFO):
        found = find_model("auto", models)
    assert found.entry.name == "GPEN-BFR-512"
    assert "GPEN-BFR-2048" in found.note and "GPEN_OFFLINE" in found.note and "\n" not in found.note
    assert [record.getMessage() for record in caplog.records] == [found.note]


def test_auto_offline_falls_back_to_the_embedded_ones(monkeypatch, tmp_path, models, no_network):
    monkeypatch.setattr(files, "EMBEDDED_FOLDER", tmp_path / "embedded")
    catalog = Catalog([*tiny_catalog(), tiny_entry("GPEN-BFR-256-lite", 1 / 16, embedded=True)])
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: catalog))
    with pytest.raises(WeightsMissingError):
        find_model("auto", models, offline=True)
    path = put(tmp_path / "embedded", "GPEN-BFR-256-lite.pth", "GPEN-BFR-2048")
    found = find_model("auto", models, offline=True)
    assert found.path == path and found.entry.embedded and found.note
    put(models / "GPEN", "GPEN-BFR-256.pth", "GPEN-BFR-256")
    assert find_model("auto", models, offline=True).entry.name == "GPEN-BFR-256"


def asked(server: socket.socket) -> int:
    """How many connections a server got that takes none up."""
    server.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            server.accept()[0].close()
            count += 1
    return count


def test_auto_asks_each_server_once_and_decides_without_an_answer(monkeypatch, models):
    put(models / "GPEN", "GPEN-BFR-512.pth", "GPEN-BFR-512")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        base = f"http://127.0.0.1:{silent.getsockname()[1]}"
        catalog = tiny_catalog(urls=(f"{base}/a.pt", f"{base}/b.pt", f"{base}/c.pt"))
        monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: catalog))
        assert (found := find_model("auto", models, wait=0.5)).entry.name == "GPEN-BFR-512"
        assert "no server answered within 0.5 s" in found.note and asked(silent) == 3
        assert find_model("auto", models, wait=0.5).entry.name == "GPEN-BFR-512" and asked(silent) == 0
