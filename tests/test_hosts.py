"""The table of docs/hosts.md is made from records of runs; what judges a run notices a wrong picture."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.hosts import checks, table
from tests.hosts.family import HOSTS


def test_the_table_is_what_the_records_say():
    text = table.DOC.read_text("utf-8")
    assert text == table.filled(text), "python -m tests.hosts table"
    records = {path.stem: json.loads(path.read_text("utf-8")) for path in table.RECORDS.glob("*.json")}
    assert all(record["checks"] and record["date"] and record["version"] for record in records.values())
    assert all(text.count(f"| {record['title']} | {record['version']} |") >= 1 for record in records.values())


def test_every_line_says_whether_it_worked(tmp_path, monkeypatch):
    lines = [{"what": "clicked", "ok": True, "said": "fine"}, {"what": "console", "ok": False, "said": "Traceback"}]
    record = {"title": "X", "version": "1", "date": "2026-01-02", "checks": lines}
    (tmp_path / "x.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(table, "RECORDS", tmp_path)
    assert table.rows().splitlines()[2:] == [
        "| X | 1 | clicked | fine | 2026-01-02 |",
        "|  |  | console | **fails**: Traceback | 2026-01-02 |",
    ]


def test_only_a_change_of_the_face_and_of_nothing_else_counts():
    picture = checks.picture()
    done = picture.astype(int)
    with pytest.raises(AssertionError, match="only"):
        checks.only_the_face(picture)
    done[checks.FACE] = 255 - done[checks.FACE]
    assert checks.only_the_face(done.astype(np.uint8)).endswith("nothing else")
    done[300, 5] += 1 if done[300, 5, 0] < 255 else -1
    with pytest.raises(AssertionError, match="no face"):
        checks.only_the_face(np.clip(done, 0, 255).astype(np.uint8))


def test_the_family():
    assert set(HOSTS) == {"a1111", "forge", "forge-neo", "reforge", "sdnext"}
    for host in HOSTS.values():
        assert isinstance(json.loads(host.settings), dict)


class _Log:
    def __init__(self, text):
        self.text = lambda: text


def test_only_what_concerns_us_counts_in_the_console():
    theirs = "Traceback (most recent call last):\n  File 'a.py'\nValueError: none\nlater: gpen loaded\n"
    assert checks.log(_Log(theirs), None, None) == "nothing of ours (1 of the WebUI's own tracebacks)"
    assert checks.log(_Log("gpen is ready\n"), None, None) == "nothing of ours"
    for text in (theirs.replace("a.py", "extensions/gpen/a.py"), "*** Error loading gpen\n", "WARNING gpen_webui.host\n"):
        with pytest.raises(AssertionError):
            checks.log(_Log(text), None, None)
