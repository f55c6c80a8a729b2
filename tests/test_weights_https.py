"""Downloads over HTTPS against servers on this machine: certificates that are not to be trusted, and redirects out of HTTPS."""

# ruff: noqa: F811 (fixtures of the other module)

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from certificates import Certificate, issued
from download_server import FILE, Server
from test_weights_download import alone, data, entry_for, folder, left  # noqa: F401 (fixtures)
from test_weights_limits import limits, refused

from gpen_core.weights.download import download, first_answering

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def authority() -> Certificate:
    return issued("GPEN's test authority", authority=True)


@pytest.fixture
def start(authority, data, tmp_path, monkeypatch) -> Iterator[Start]:
    """Starts servers that show a certificate; the authority's are trusted, as a company's are."""
    path, _ = authority.files(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    servers: list[Server] = []

    def started(certificate: Certificate | None = None) -> Server:
        servers.append(Server(data, certificate.files(tmp_path) if certificate else None))
        return servers[-1]

    yield started
    for server in servers:
        server.hold.set()
        server.shutdown()
        server.server_close()


def test_a_trusted_certificate(start, authority, folder, data):
    server = start(issued("good", by=authority))
    assert server.url().startswith("https:") and download(entry_for(server.url()), folder).read_bytes() == data


NOT_TRUSTED = {
    "signed by itself": lambda authority: issued("itself"),
    "of another host": lambda authority: issued("other", "example.org", authority),
    "that ran out": lambda authority: issued("old", by=authority, days=(-9, -2)),
    "of the future": lambda authority: issued("new", by=authority, days=(2, 9)),
    "of an unknown authority": lambda authority: issued("unknown", by=issued("GPEN's test authority", authority=True)),
    "signed by one who may not": lambda authority: issued("leaf", by=issued("good", by=authority)),
}


@pytest.mark.parametrize("make", NOT_TRUSTED.values(), ids=NOT_TRUSTED)
def test_a_certificate_that_is_not_to_be_trusted(start, authority, folder, data, make):
    server = start(make(authority))
    text = refused(entry_for(server.url()), folder)
    assert "certificate" in text and "date" in text and "SSL_CERT_FILE" in text, text
    assert left(folder) == [] and server.seen == [], "nothing was asked for, nothing is left"
    assert len(text.splitlines()[0]) < 700, text
    other = start(issued("good", by=authority))
    assert download(entry_for(server.url(), other.url()), folder).read_bytes() == data, "the next mirror is asked"
    assert first_answering(entry_for(server.url(), other.url()), 5).url == other.url()


def test_a_part_is_not_gone_on_with_from_a_server_that_is_not_trusted(start, authority, folder, data):
    server = start(issued("good", by=authority))
    server.cut_after = len(data) // 2

    def stop(done: int, total: int | None) -> None:
        if done:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        download(entry_for(server.url()), folder, progress=stop)
    had = (folder / f"{FILE}.part").read_bytes()
    spied = start(issued("itself"))
    state = folder / f"{FILE}.part.json"
    state.write_text(state.read_text(encoding="utf-8").replace(server.url(), spied.url()), encoding="utf-8")
    assert "certificate" in refused(entry_for(spied.url()), folder)
    assert spied.seen == [] and (folder / f"{FILE}.part").read_bytes() == had
    state.write_text(state.read_text(encoding="utf-8").replace(spied.url(), server.url()), encoding="utf-8")
    assert download(entry_for(server.url()), folder).read_bytes() == data


def test_a_redirect_out_of_https_is_not_followed(start, authority, folder, data):
    plain, server = start(), start(issued("good", by=authority))
    server.location = plain.url()
    assert "not allowed from https" in refused(entry_for(server.url("redirect")), folder)
    assert plain.seen == [] and len(server.seen) == 1 and left(folder) == []
    plain.location = server.url()
    assert download(entry_for(plain.url("redirect")), folder).read_bytes() == data, "into HTTPS it is"


def test_a_redirect_to_a_server_that_is_not_trusted(start, authority, folder):
    spied, server = start(issued("itself")), start(issued("good", by=authority))
    server.location = spied.url()
    assert "certificate" in refused(entry_for(server.url("redirect")), folder)
    assert spied.seen == [] and left(folder) == []


def test_two_servers_that_send_each_other_the_request(start, authority, folder):
    one, other = start(issued("one", by=authority)), start(issued("other", by=authority))
    one.location, other.location = other.url("redirect"), one.url("redirect")
    assert "redirect" in refused(entry_for(one.url("redirect")), folder)
    assert len(one.seen) + len(other.seen) < 20 and left(folder) == []


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that is no HTTPS server."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}/{FILE}"


def silent(connection: socket.socket) -> None:
    connection.settimeout(20)
    while connection.recv(4096):
        pass


def trickling(connection: socket.socket) -> None:
    """The head of a long TLS record, and then a byte now and again, so that no single wait is long."""
    block = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"
    try:
        for _ in range(400):
            connection.sendall(block)
            block = b"\0"
            time.sleep(0.05)
    except OSError:
        pass


def rubbish(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("answer", [silent, trickling, rubbish])
def test_a_handshake_that_never_ends_is_given_up(folder, answer):
    with listening(answer) as url:
        started = time.monotonic()
        text = refused(entry_for(url), folder, limits=limits(silent=0.3))
        assert time.monotonic() - started < 5, "the handshake may take 0.3 s"
    assert "no server answered" in text and left(folder) == []
