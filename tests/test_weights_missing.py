"""What is said of a model that is not to be had: what really happened, in few lines, with nothing that only another door has."""

# ruff: noqa: F811 (fixtures of the other module)

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from download_server import FILE
from test_weights_download import alone, data, entry_for, folder, server  # noqa: F401 (fixtures)
from weights_help import tiny_catalog, tiny_state

from gpen_core.errors import ModelMissingError
from gpen_core.network.load import find_model
from gpen_core.weights import files
from gpen_core.weights.catalog import Catalog
from gpen_core.weights.download import download, first_answering, missing
from gpen_core.weights.mirrors import Failure, sources, summary
from gpen_core.weights.sums import Record


@pytest.mark.parametrize("entry", list(Catalog.default()), ids=lambda entry: entry.name)
def test_the_message_is_short_and_leaves_flags_to_the_door(entry):
    error = missing(entry, Path("models") / "GPEN", "no server answered within 10 s")
    assert "--" not in str(error) and "_MODELS" not in str(error)
    error.elsewhere = "--models-dir names a folder elsewhere."
    text = str(error)
    assert len(text.splitlines()) <= 5 and text.endswith("elsewhere.")
    for source in sources(entry):
        assert source.url in text and source.filename in text
    assert (error.name, error.folder, error.failed) == (entry.name, Path("models") / "GPEN", "no server answered within 10 s")
    assert error.reason == f"{entry.name} is missing (no server answered within 10 s)"


def test_reasons_name_no_place_on_this_machine(server, folder, tmp_path):
    """What is written into a picture goes round the world."""
    torch.save(tiny_state(1 / 64), tmp_path / "other.pth")
    server.data = (tmp_path / "other.pth").read_bytes()
    with pytest.raises(ModelMissingError) as caught:
        download(entry_for(server.url(), server.url("short")), folder)
    assert "not GPEN-BFR-2048" in caught.value.reason and str(tmp_path) not in caught.value.reason
    Record(folder).add(FILE, "ab" * 32, 1, "here")
    with pytest.raises(ModelMissingError) as caught:
        download(entry_for(server.url()), folder)
    assert "recorded in" in caught.value.reason and str(tmp_path) not in caught.value.reason


def test_what_happened_is_said_not_what_might_have(monkeypatch, server, folder):
    torch.save(tiny_state(2 / 64, size=128), folder.parent.parent / "GPEN-BFR-512.pth")
    folder.mkdir(parents=True)
    (folder.parent.parent / "GPEN-BFR-512.pth").replace(folder / "GPEN-BFR-512.pth")
    for urls, said in (
        (("http://127.0.0.1:9/x.pth",), "no server answered: "),
        (("http://127.0.0.1:9/x.pth", server.url("gone")), "404"),
        ((server.url("page"),), "HTML page"),
    ):
        catalog = tiny_catalog(urls=urls)
        monkeypatch.setattr(Catalog, "default", classmethod(lambda cls, catalog=catalog: catalog))
        monkeypatch.setattr(files, "_unreachable", {})
        note = find_model("auto", folder.parent).note
        assert said in note and "within" not in note
        again = find_model("auto", folder.parent).note
        assert said in again and "a short while ago" in again


def test_probing_tells_of_each_that_gave_nothing(server):
    failures: list[Failure] = []
    assert first_answering(entry_for(server.url("gone"), server.url("page")), 5, failures) is None
    assert [failure.url for failure in failures] == [server.url("gone"), server.url("page")]
    assert summary(failures) == (
        "no mirror delivered it: 127.0.0.1: it answered 404 Not Found; 127.0.0.1: it answered with an HTML page instead of the file"
    )
    assert summary([Failure("http://a/", "no answer within 2 s"), Failure("http://b/", "no answer within 2 s")]) == (
        "no server answered within 2 s"
    )
