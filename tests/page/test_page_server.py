"""The command `page`: what it says where something is missing, and its port."""

from __future__ import annotations

import socket
import sys

import pytest

from gpen_core.cli.main import main
from gpen_core.errors import SettingsError
from gpen_page import server


@pytest.mark.parametrize(
    ("missing", "told"), [("gradio", "install it with: pip install gradio"), ("gpen_page.server", "get the whole project")]
)
def test_what_is_missing_is_said_in_one_line(missing, told, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["page", "--no-browser"]) == 2
    out, err = capsys.readouterr()
    assert told in err and err.count("\n") == 1 and out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_broken_page_is_not_called_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gpen_page.server", None)
    monkeypatch.setitem(sys.modules, "gpen_page", None)
    assert main(["page"]) == 2 and "get the whole project" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "gpen_page.server")
    monkeypatch.setitem(sys.modules, "gpen_page.guard", None)
    assert main(["page"]) == 1 and "gpen_page.guard" in capsys.readouterr().err


@pytest.fixture
def taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_that_is_taken_is_an_error_if_it_was_asked_for(taken):
    with pytest.raises(SettingsError, match=f"port {taken} cannot be used .*--port"):
        server._bound("127.0.0.1", taken)


def test_otherwise_the_next_free_port_is_used(taken, monkeypatch):
    monkeypatch.setattr(server, "PORT", taken)
    with server._bound("127.0.0.1", None) as bound:
        assert taken < bound.getsockname()[1] <= taken + 20 and bound.getsockname()[0] == "127.0.0.1"
