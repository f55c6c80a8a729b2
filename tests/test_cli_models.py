"""`models list | download | verify | where`, without a network."""

from __future__ import annotations

import json

import cli_help
import pytest

from gpen_core.cli import models as cli_models
from gpen_core.weights.catalog import Catalog
from gpen_core.weights.sums import Record


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("GPEN_OFFLINE", "1")
    monkeypatch.delenv("GPEN_MODELS_DIR", raising=False)
    monkeypatch.delenv("GPEN_EXTRA_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    return cli_help.run(capsys, "models", *arguments)


def test_list_tells_every_file(capsys, tmp_path):
    code, out, _ = run(capsys, "list")
    assert code == 0 and sum(not line.startswith(" ") for line in out.splitlines()) == len(Catalog.default())
    for name in Catalog.default().names():
        assert name in out
    out_for_people = out.splitlines()
    code, out, _ = run(capsys, "list", "--json")
    rows = json.loads(out)["models"]
    assert [row["name"] for row in rows] == Catalog.default().names()
    assert rows[0]["path"] is None and rows[0]["urls"] and rows[0]["licence"]
    assert [line.strip() for line in out_for_people if line.startswith(" ")] == [url for row in rows for url in row["urls"]]


def test_where(capsys, tmp_path, monkeypatch):
    assert str(tmp_path / "models" / "GPEN") in run(capsys, "where")[1]
    other = tmp_path / "other"
    (other / "facerestore_models").mkdir(parents=True)
    code, out, _ = run(capsys, "where", "--models-dir", other)
    assert code == 0 and str(other / "GPEN") in out and str(other / "facerestore_models") in out
    monkeypatch.setenv("GPEN_MODELS_DIR", str(other))
    assert json.loads(run(capsys, "where", "--json")[1])["downloads"] == str(other / "GPEN")


def test_a_download_that_cannot_be_is_3_and_tells_how_to_get_it(capsys, tmp_path):
    code, out, err = run(capsys, "download", "GPEN-BFR-2048", "gpen-bfr-512", "--models-dir", tmp_path)
    assert code == 3 and out == ""
    for part in ("GPEN-BFR-2048.pth", "GPEN-BFR-512.pth", str(tmp_path / "GPEN"), "https://", "sha256", "GPEN_OFFLINE"):
        assert part in err
    code, out, _ = run(capsys, "download", "GPEN-BFR-2048", "--json")
    assert len(err.splitlines()) <= 2 * 5 and err.count("--models-dir") == 2
    told = json.loads(out)
    assert code == 3 and told["failed"] == 1 and told["models"][0]["error"]


def test_download_fetches_what_is_missing_only(capsys, tmp_path, monkeypatch):
    fetched: list[str] = []

    def fetch(entry, folder, **settings):
        fetched.append(entry.name)
        settings["notice"]("non-commercial")
        return folder / entry.filename

    here = tmp_path / "GPEN-BFR-256.pth"
    monkeypatch.delenv("GPEN_OFFLINE")
    monkeypatch.setattr(cli_models, "fetch", fetch)
    monkeypatch.setattr(cli_models, "offline_switch", lambda: None)
    monkeypatch.setattr(cli_models, "find", lambda entry, models: here if entry.name == "GPEN-BFR-256" else None)
    code, out, err = run(capsys, "download", "GPEN-BFR-256", "GPEN-BFR-512", "GPEN-BFR-512")
    assert code == 0 and fetched == ["GPEN-BFR-512"]
    assert f"GPEN-BFR-256 is already on disk: {here}" in out and "GPEN-BFR-512.pth" in out
    assert err == "gpen: non-commercial\n"


def test_verify(capsys, tmp_path, monkeypatch):
    code, out, _ = run(capsys, "verify", "--models-dir", tmp_path / "none")
    assert code == 0  # the embedded weights, or nothing
    assert run(capsys, "verify", "GPEN-BFR-1024")[0] == 3

    own, other = tmp_path / "models" / "GPEN", tmp_path / "models" / "facerestore_models"
    for folder in (own, other):
        folder.mkdir(parents=True)
        (folder / "GPEN-BFR-512.pth").write_bytes(b"some weights")
    monkeypatch.setattr(cli_models, "find", lambda entry, models: other / "GPEN-BFR-512.pth")
    assert run(capsys, "verify", "GPEN-BFR-512")[0] == 0 and not Record(other).read()  # not our folder: nothing is written there

    monkeypatch.setattr(cli_models, "find", lambda entry, models: own / "GPEN-BFR-512.pth")
    assert run(capsys, "verify", "GPEN-BFR-512")[0] == 0
    assert "GPEN-BFR-512.pth" in Record(own).read()
    code, out, _ = run(capsys, "verify", "GPEN-BFR-512", "--json")
    assert code == 0 and json.loads(out)["models"][0]["basis"] == "recorded"
    (own / "GPEN-BFR-512.pth").write_bytes(b"other weights")
    code, out, err = run(capsys, "verify", "GPEN-BFR-512")
    assert code == 3 and out == "" and "GPEN-BFR-512.pth" in err
