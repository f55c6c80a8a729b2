"""A download ends, whatever the server sends, and harms nothing that lies in the folder. No test looks at a real clock."""

# ruff: noqa: F811 (fixtures of the other module)

from __future__ import annotations

import errno
import io
import os
import threading
from email.message import Message
from pathlib import Path
from urllib.request import Request

import pytest
import torch
from download_server import FILE
from test_weights_download import Stop, alone, data, entry_for, folder, left, server, stopped  # noqa: F401 (fixtures)
from weights_help import tiny_state

from gpen_core.errors import ModelMissingError, WeightsError, WeightsFolderError
from gpen_core.weights.catalog import Catalog
from gpen_core.weights.connection import _Redirects
from gpen_core.weights.download import NOTICE_FILE, download
from gpen_core.weights.mirrors import sources
from gpen_core.weights.sums import RECORD_FILE, Record, verify
from gpen_core.weights.web import FetchError, Limits


class Clock:
    """A clock that goes on by `tick` seconds whenever it is looked at."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self.tick = 1000.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def limits(tick: float = 0.0, **more) -> Limits:
    return Limits(**{"pause": 0.0, "clock": Clock(tick), **more})


def refused(entry, folder, **settings) -> str:
    settings.setdefault("limits", limits())
    with pytest.raises(ModelMissingError) as caught:
        download(entry, folder, **settings)
    assert not (folder / FILE).exists()
    return str(caught.value)


# --- time and length -------------------------------------------------------------------------------------------------


def test_a_head_that_trickles_is_given_up(server, folder):
    assert "no server answered within 5 s" in refused(entry_for(server.url("drip-head")), folder, limits=limits(1, head=5))


def test_a_body_that_trickles_is_given_up_and_the_next_mirror_asked(server, folder, data):
    path = download(entry_for(server.url("drip"), server.url()), folder, limits=limits(1, head=1000, window=10, least_speed=1000))
    assert path.read_bytes() == data
    slow = limits(1, head=1000, window=10, least_speed=1000)
    assert "too slow" in refused(entry_for(server.url("drip")), folder.parent / "b", limits=slow)


def test_a_slow_caller_is_not_a_slow_server(server, folder, data):
    clock = Clock()

    def wait(done: int, total: int | None) -> None:
        clock.now += 3000

    few = Limits(clock=clock, least_speed=1e12, window=1)
    assert download(entry_for(server.url()), folder, progress=wait, limits=few).read_bytes() == data


def test_no_mirror_is_asked_after_the_whole_time(server, folder):
    clock = Clock()

    def wait(done: int, total: int | None) -> None:
        clock.now += 7200

    text = refused(entry_for(server.url("drip"), server.url("other")), folder, progress=wait, limits=Limits(clock=clock, whole=3600))
    assert "longer than 1 h" in text and [manner for manner, _ in server.seen] == ["drip"]


def test_what_never_ends_is_cut_at_the_largest_size(server, folder, data):
    entry = entry_for(server.url("endless"), tensor_bytes=len(data))
    assert f"more than {2 * len(data)} bytes" in refused(entry, folder)
    assert left(folder) == []
    assert server.sent < 2 * len(data) + (32 << 20), "what was on its way in buffers, no more"


def test_what_is_offered_too_large_is_not_begun(server, folder, data):
    assert "at most" in refused(entry_for(server.url(), tensor_bytes=len(data) // 3), folder)
    assert left(folder) == []


def test_every_model_that_is_offered_has_a_largest_size():
    for entry in Catalog.default():
        for source in sources(entry):
            assert source.most_bytes < 1 << 30 and (source.size_bytes is None or source.most_bytes == source.size_bytes)


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["ftp://127.0.0.1:9/x.pth", "file:///etc/passwd", "http://[::1", "http://127.0.0.1:99999999/"])
def test_redirects_elsewhere_are_refused(server, folder, location):
    server.location = location
    refused(entry_for(server.url("redirect")), folder)
    assert len(server.seen) == 1


def test_redirects_are_followed_but_not_for_ever(server, folder, data):
    server.location = f"/redirect/{FILE}"
    assert "redirect" in refused(entry_for(server.url("redirect")), folder)
    assert len(server.seen) < 20
    server.location = server.url()
    assert download(entry_for(server.url("redirect")), folder).read_bytes() == data


def test_a_redirect_with_an_endless_body(server, folder):
    assert "header of its answer is too long" in refused(entry_for(server.url("redirect-endless")), folder)


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [("https", "http", False), ("https", "ftp", False), ("http", "ftp", False), ("http", "http", True), ("http", "https", True)],
)
def test_a_redirect_never_gives_up_encryption(old, new, allowed):
    request = Request(f"{old}://example.org/a")
    follow = lambda: _Redirects().redirect_request(request, io.BytesIO(), 302, "Found", Message(), f"{new}://example.org/b")  # noqa: E731
    if allowed:
        assert follow().full_url == f"{new}://example.org/b"
    else:
        with pytest.raises(FetchError, match="not allowed"):
            follow()


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-5", "1e3", "٣", "0x10"])
def test_odd_lengths_are_no_lengths(server, folder, data, length):
    server.raw = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + data
    assert download(entry_for(server.url("raw")), folder, limits=limits()).read_bytes() == data


@pytest.mark.parametrize(
    "head",
    [
        "416 Range Not Satisfiable\r\nContent-Range: bytes */0",
        "416 Range Not Satisfiable\r\nContent-Range: bytes */²",
        "206 Partial Content\r\nContent-Range: bytes ²-5/6",
        "206 Partial Content\r\nContent-Range: bytes 0-5/" + "9" * 5000,
        "204 No Content",
        "200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz",
        "200 \x1b[2Jfine",
        "302 Found",
        "999 What",
        "abc",
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_odd_answers_are_refused_in_words(server, folder, request, head, begun):
    if begun:
        request.getfixturevalue("stopped")
        state = folder / f"{FILE}.part.json"
        state.write_text(state.read_text().replace("/good/", "/raw/"))
    server.raw = f"HTTP/1.1 {head}\r\n\r\n".encode()
    assert "\x1b" not in refused(entry_for(server.url("raw")), folder)
    assert len(server.seen) < 10


@pytest.mark.parametrize("etag", ['"ä"', "W/", "x" * 5000, "", '"a\tb"'])
def test_without_a_mark_that_can_be_sent_back_nothing_is_resumed(server, folder, data, etag):
    server.etag = etag
    server.cut_after = len(data) // 2
    assert download(entry_for(server.url()), folder, limits=limits()).read_bytes() == data
    assert server.ranges == [None, None]


@pytest.mark.parametrize(
    "state", ["[]", "[" * 100_000, "{}", '{"url": 5}', "\x00", '{"mark": "a\\nb", "url": "URL"}', '{"mark": 1, "url": "URL"}']
)
def test_a_damaged_note_beside_the_part(server, folder, data, stopped, state):
    (folder / f"{FILE}.part.json").write_text(state.replace("URL", server.url()), encoding="utf-8")
    assert download(entry_for(server.url()), folder, limits=limits()).read_bytes() == data
    assert server.ranges == [None]


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_again(server, folder, data, code):
    server.busy = 2
    assert download(entry_for(server.url(f"busy-{code}")), folder, limits=limits()).read_bytes() == data
    assert len(server.seen) == 3


def test_a_server_that_stays_busy_is_left(server, folder, data):
    server.busy = 1000
    assert "503" in refused(entry_for(server.url("busy-503")), folder)
    assert len(server.seen) == 3
    assert download(entry_for(server.url("busy-503"), server.url()), folder, limits=limits()).read_bytes() == data


def test_a_busy_server_does_not_lose_the_part(server, folder, data, stopped):
    state = folder / f"{FILE}.part.json"
    state.write_text(state.read_text().replace("/good/", "/busy-503/"))
    server.busy = 1
    assert download(entry_for(server.url("busy-503")), folder, limits=limits()).read_bytes() == data
    assert server.ranges == [f"bytes={stopped}-"] * 2


@pytest.mark.parametrize("manner", ["reset", "torn", "crumbs"])
def test_connections_that_always_break_are_given_up(server, folder, manner):
    refused(entry_for(server.url(manner)), folder)
    assert len(server.seen) < 25


def test_a_file_that_changed_where_nobody_minds_if_range(server, folder, data, tmp_path, stopped):
    """The start of the one and the end of the other, of the same length, would pass for whole where no sum is known."""
    state = folder / f"{FILE}.part.json"
    state.write_text(state.read_text().replace("/good/", "/if-range-ignored/"))
    torch.save(tiny_state(4 / 64, seed=5), tmp_path / "other.pth")
    server.data, server.etag = (tmp_path / "other.pth").read_bytes(), '"two"'
    assert download(entry_for(server.url("if-range-ignored")), folder, limits=limits()).read_bytes() == server.data
    assert server.ranges == [f"bytes={stopped}-", None]


# --- what lies in the folder -----------------------------------------------------------------------------------------


@pytest.fixture
def precious(tmp_path) -> Path:
    path = tmp_path / "precious.txt"
    path.write_text("mine", encoding="utf-8")
    return path


WRITTEN = [f"{FILE}.part", f"{FILE}.part.json", NOTICE_FILE, RECORD_FILE]
LOCKS = [f".{FILE}.lock", f".{RECORD_FILE}.lock"]  # opened to be locked, whatever else their names are; locking writes nothing


@pytest.mark.parametrize(
    ("link", "name"), [(link, name) for link, names in ((os.symlink, WRITTEN + LOCKS), (os.link, WRITTEN)) for name in names]
)
def test_nothing_is_written_through_a_link(server, folder, data, precious, link, name):
    folder.mkdir(parents=True)
    if name == RECORD_FILE:
        precious.write_text("{}", encoding="utf-8")
    try:
        link(precious, folder / name)
    except OSError:
        pytest.skip("no links here")
    before = precious.read_bytes()
    assert download(entry_for(server.url()), folder, limits=limits()).read_bytes() == data
    assert precious.read_bytes() == before


def test_a_part_that_became_a_link_is_not_gone_on_with(server, folder, data, precious, stopped):
    part = folder / f"{FILE}.part"
    precious.write_bytes(part.read_bytes())
    part.unlink()
    try:
        part.symlink_to(precious)
    except OSError:
        pytest.skip("no links here")
    before = precious.read_bytes()
    assert download(entry_for(server.url()), folder, limits=limits()).read_bytes() == data
    assert precious.read_bytes() == before and not (folder / FILE).is_symlink()


@pytest.mark.parametrize("name", [f"{FILE}.part", f"{FILE}.part.json"])
def test_a_folder_in_the_place_of_a_file_is_said(server, folder, name):
    (folder / name).mkdir(parents=True)
    with pytest.raises(WeightsFolderError, match="cannot be written"):
        download(entry_for(server.url()), folder, limits=limits())


@pytest.mark.parametrize("notice", [b"\xff\xfe\x00", b"x" * (3 << 20), None])
def test_any_licence_notice_is_lived_with(server, folder, data, notice):
    folder.mkdir(parents=True)
    (folder / NOTICE_FILE).mkdir() if notice is None else (folder / NOTICE_FILE).write_bytes(notice)
    shown: list[str] = []
    assert download(entry_for(server.url()), folder, notice=shown.append).read_bytes() == data
    assert len(shown) == 1
    if notice is not None:
        assert (folder / NOTICE_FILE).read_bytes().startswith(notice), "what was there stays"


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"x": 5}',
        b'{"x": {"sha256": 5}}',
        b'{"x": {}}',
        b'{"x": ' + b"1" * 5000 + b"}",
        b"{}" + b" " * (2 << 20),
    ],
)
def test_damaged_sums_are_said_before_anything_is_fetched(server, folder, content):
    folder.mkdir(parents=True)
    (folder / RECORD_FILE).write_bytes(content)
    with pytest.raises(WeightsError, match=r"checksums\.json cannot be read") as caught:
        download(entry_for(server.url()), folder)
    assert not server.seen and str(folder) not in caught.value.reason
    (folder / FILE).write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"checksums\.json cannot be read"):
        verify(folder / FILE)


def test_sums_of_files_that_come_at_once_are_all_kept(folder):
    folder.mkdir(parents=True)
    names = [f"{n}.pth" for n in range(8)]
    begin = threading.Barrier(len(names))

    def write(name: str) -> None:
        begin.wait()
        for n in range(4):
            Record(folder).add(f"{n}-{name}", "ab" * 32, 1, "here")

    threads = [threading.Thread(target=write, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Record(folder).read()) == 4 * len(names)
    assert left(folder) == []


def failing(monkeypatch, number: int, when) -> None:
    """The system refuses with that error to open (or, of what is open, to write) files for which `when(path, mode)` is true."""
    real = Path.open

    class Full(io.FileIO):
        def write(self, block) -> int:
            raise OSError(number, os.strerror(number))

    def open_file(self, mode="r", *rest, **more):
        if when(self, mode):
            if number == errno.ENOSPC:
                return Full(self, mode)
            raise OSError(number, os.strerror(number))
        return real(self, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", open_file)


def test_a_full_disk_keeps_the_part(server, folder, data, stopped, monkeypatch):
    with monkeypatch.context() as patch:
        failing(patch, errno.ENOSPC, lambda path, mode: path.name == f"{FILE}.part" and mode == "r+b")
        with pytest.raises(WeightsFolderError, match="is full") as caught:
            download(entry_for(server.url()), folder, limits=limits())
    assert caught.value.reason == "the disk is full" and str(folder) in str(caught.value)
    assert download(entry_for(server.url()), folder, limits=limits()).read_bytes() == data
    assert server.ranges == [f"bytes={stopped}-"] * 2


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder_is_said_and_not_waited_for(server, folder, monkeypatch, number):
    folder.mkdir(parents=True)
    failing(monkeypatch, number, lambda path, mode: path.parent == folder and "r" not in mode)
    with pytest.raises(WeightsFolderError, match="cannot be written") as caught:
        download(entry_for(server.url()), folder)
    assert str(folder) not in caught.value.reason and not server.seen


def test_an_os_error_of_the_caller_passes_untouched(server, folder):
    def gone(done: int, total: int | None) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        download(entry_for(server.url()), folder, progress=gone)
