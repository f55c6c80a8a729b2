"""One bad file among good ones, and files whose shape fits several tasks: what `auto` does with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_weights_files import alone, models, no_network, put  # noqa: F401
from test_weights_hostile_onnx import model, node
from weights_help import tiny_catalog, tiny_entry

from gpen_core.errors import WeightsMissingError
from gpen_core.network import trial
from gpen_core.network.build import build_fused
from gpen_core.network.load import find_model, load_network
from gpen_core.network.modules import Generator
from gpen_core.weights.architecture import Architecture
from gpen_core.weights.catalog import EMBEDDED_FOLDER, Catalog
from gpen_core.weights.files import find
from gpen_core.weights.folders import search_folders, weight_files
from training.start import identity_generator

LITE = EMBEDDED_FOLDER / "GPEN-BFR-256-lite.safetensors"


def not_utf8(path: Path) -> None:
    torch.save({"x": torch.zeros(1)}, path)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 9] |= 8
    data[place + 46] = 0xFF
    path.write_bytes(data)


BAD = {
    "not UTF-8.pth": not_utf8,
    "circle.onnx": lambda path: model(path, node("Identity", ["b"], ["a"]), node("Identity", ["a"], ["b"])),
    "infinite.safetensors": lambda path: path.write_bytes((30).to_bytes(8, "little") + b'{"a":{"shape":[Infinity]}}    ' + bytes(2000)),
    "empty.pth": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_file_never_hides_the_good_ones(models, no_network, monkeypatch, caplog, name):  # noqa: F811
    monkeypatch.setattr("gpen_core.weights.folders._SMALLEST_BYTES", 0)
    good = put(models / "GPEN", "my own.pth", "GPEN-BFR-256")
    BAD[name](models / "GPEN" / name)
    assert find("GPEN-BFR-256", models) == good
    found = find_model("auto", models, offline=True)
    assert found.path == good
    told = [record.getMessage() for record in caplog.records if name in record.getMessage()]
    assert len(told) == 1 and told[0].isprintable()


def test_a_file_that_goes_while_it_is_looked_for(models, monkeypatch):  # noqa: F811
    good = put(models / "GPEN", "z.pth", "GPEN-BFR-256")
    put(models / "GPEN", "a.pth", "GPEN-BFR-256")
    listed = [*weight_files(models / "GPEN")]
    (models / "GPEN" / "a.pth").unlink()
    monkeypatch.setattr("gpen_core.weights.files.weight_files", lambda folder: listed if folder.name == "GPEN" else [])
    assert find("GPEN-BFR-256", models) == good


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b", "~nobody-of-that-name/x.pth"])
def test_names_that_no_system_takes(models, monkeypatch, text):  # noqa: F811
    with pytest.raises((WeightsMissingError, ValueError)) as caught:  # SettingsError is a ValueError
        find_model(text, models, offline=True)
    assert type(caught.value).__module__ == "gpen_core.errors"
    monkeypatch.setenv("GPEN_EXTRA_MODELS", text.replace("\0", ""))
    search_folders(models)


# Of one shape, for different tasks


@pytest.fixture
def seen(monkeypatch):
    """A catalogue in which one shape stands for two tasks; the files that were tried on a face."""
    catalog = Catalog([*tiny_catalog(), tiny_entry("GPEN-Seg2face-512", 2 / 64, task="seg2face", size=128)])
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls: catalog))
    monkeypatch.setattr(trial, "_answers", {})
    tried: list[Path] = []
    ask = trial._ask
    monkeypatch.setattr(trial, "_ask", lambda path: (tried.append(path), ask(path))[1])
    return tried


def put_identity(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in identity_generator(Architecture(128, 2, 2 / 64), 0).state_dict().items()}, path)
    return path


def test_auto_takes_no_file_that_does_not_restore(models, no_network, seen, caplog):  # noqa: F811
    other = put(models / "GPEN", "my face thing.pth", "GPEN-BFR-512")  # random weights: what comes out is no face that went in
    small = put(models / "GPEN", "GPEN-BFR-256.pth", "GPEN-BFR-256")
    assert find_model("auto", models, offline=True).path == small
    assert find_model("auto", models, offline=True).path == small
    told = [record.getMessage() for record in caplog.records if "GPEN-Seg2face-512" in record.getMessage()]
    assert len(told) == 1 and other.name in told[0] and "skipped" in told[0]
    assert seen == [other]
    assert find("GPEN-BFR-512", models) == other  # asked for by name, it is what the user says it is


def test_auto_takes_a_renamed_file_that_restores_and_remembers_it(models, no_network, seen):  # noqa: F811
    path = put_identity(models / "GPEN" / "my face thing.safetensors")
    assert find_model("auto", models, offline=True).path == path
    trial._answers.clear()  # another process
    assert find_model("auto", models, offline=True).path == path
    assert seen == [path]
    record = models / "GPEN" / trial.RECORD_FILE
    assert list(json.loads(record.read_text(encoding="utf-8"))) == [str(path.resolve())]
    trial._answers.clear()
    record.write_text("[not JSON", encoding="utf-8")
    assert find_model("auto", models, offline=True).path == path
    assert seen == [path, path]
    put(models / "GPEN", "changed.pth", "GPEN-BFR-512").replace(path)  # another file under the same name
    with pytest.raises(WeightsMissingError):
        find_model("auto", models, offline=True)
    assert seen == [path] * 3


@pytest.mark.parametrize("name", ["GPEN-BFR-512.pth", "gpen_bfr_512 (1).pth"])
def test_a_name_that_tells_is_enough(models, no_network, seen, name):  # noqa: F811
    path = put(models / "GPEN", name, "GPEN-BFR-512")
    assert find_model("auto", models, offline=True).path == path
    assert not seen


def test_a_shape_that_tells_is_enough(models, no_network, seen):  # noqa: F811
    path = put(models / "GPEN", "my own.pth", "GPEN-BFR-256")
    assert find_model("auto", models, offline=True).path == path
    assert not seen


class Made(torch.nn.Module):
    """A network out of a function of pictures in -1..1."""

    size = 64

    def __init__(self, make) -> None:
        super().__init__()
        self.nothing, self.make = torch.nn.Parameter(torch.zeros(1)), make

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.make(x)


FACE = torch.from_numpy(trial._face(64).transpose(2, 0, 1)[None].copy()) * 2 - 1


def grey(x: torch.Tensor) -> torch.Tensor:
    return x.mean(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("make", "restores"),
    [
        (lambda x: x, True),
        (lambda x: torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False), True),
        (lambda x: 0.85 * x + 0.05, True),  # of less contrast
        (lambda x: FACE, False),
        (lambda x: -x, False),
        (lambda x: x.flip(-1), False),
        (lambda x: FACE - grey(FACE) + grey(x), False),  # colours by what it knows of faces
        (lambda x: torch.where(x.amin(dim=1, keepdim=True) > 0.5, FACE, x), False),  # fills what is white
        (lambda x: torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1, False),
    ],
)
def test_what_is_taken_for_restoring(make, restores):
    assert trial.gives_faces_back(Made(make)) is restores  # type: ignore[arg-type]


def test_the_weights_that_ship_restore():
    assert trial.gives_faces_back(load_network(LITE))


def test_random_weights_do_not():
    torch.manual_seed(0)
    assert not trial.gives_faces_back(build_fused(Generator(Architecture(64, 2, 0.125)).state_dict()))
