"""Who may use the page: this machine's own names, no other web page, with the password if there is one."""

from __future__ import annotations

import asyncio
import base64

import pytest

from gpen_page.guard import Guard


def ask(guard: Guard, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of the answer."""
    sent: list[dict] = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    asyncio.run(guard({"type": "http", "headers": named}, receive, send))
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, sent[1]["body"]


async def answers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"secret"})


def password(text: str) -> str:
    return "Basic " + base64.b64encode(f"gpen:{text}".encode()).decode()


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "127.0.0.1"])
def test_the_machines_own_names_are_answered(host):
    assert ask(Guard(answers), host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "0.0.0.0"]
)
def test_a_domain_that_was_led_here_is_refused(host):
    status, _, body = ask(Guard(answers), host=host)
    assert status == 403 and b"secret" not in body


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://localhost:7860", "http://127.0.0.1:7861", "http://127.0.0.1", "null", "file://", "http://["]
)
@pytest.mark.parametrize("listening", [False, True])
def test_other_web_pages_are_refused(origin, listening):
    guard = Guard(answers, loopback_only=not listening)
    status, _, body = ask(guard, host="127.0.0.1:7860", origin=origin)
    assert status == 403 and b"secret" not in body


def test_its_own_page_is_answered():
    assert ask(Guard(answers), host="127.0.0.1:7860", origin="http://127.0.0.1:7860", sec_fetch_site="same-origin")[0] == 200


def test_another_page_cannot_show_its_pictures_but_link_to_it():
    how = {"host": "localhost", "sec_fetch_site": "cross-site"}
    assert ask(Guard(answers), sec_fetch_mode="no-cors", **how)[0] == 403
    assert ask(Guard(answers), sec_fetch_mode="navigate", **how)[0] == 200


@pytest.mark.parametrize(
    "given", ["", "Basic", "Basic !", "Bearer x", password("wrong"), password("geheim"), password(""), "Basic Z3Blbg=="]
)
def test_without_the_password_nothing_is_answered(given):
    status, headers, body = ask(Guard(answers, password="geheim ä", loopback_only=False), host="192.168.0.7", authorization=given)
    assert status == 401 and headers["www-authenticate"].startswith("Basic") and b"secret" not in body


def test_with_the_password_others_are_answered():
    guard = Guard(answers, password="geheim ä", loopback_only=False)
    assert ask(guard, host="192.168.0.7:7860", authorization=password("geheim ä"))[0] == 200


def test_the_browser_is_told_to_ask_nobody_else():
    policy = ask(Guard(answers), host="localhost")[1]["content-security-policy"]
    assert "default-src 'self'" in policy and "http" not in policy and "*" not in policy


def test_the_start_of_the_server_passes_through():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(Guard(app, password="x")({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_a_web_socket_is_refused_alike():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(answers)({"type": "websocket", "headers": [(b"host", b"evil.example")]}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
