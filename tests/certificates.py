"""Certificates for a server on this machine, made anew for each run, so that none lies here and none runs out. P-256, in plain Python."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

Point = tuple[int, int] | None

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G: Point = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
CURVE, EC_KEY, SIGNED = "1.2.840.10045.3.1.7", "1.2.840.10045.2.1", "1.2.840.10045.4.3.2"


def plus(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0] and a != b:
        return None
    slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(factor: int, point: Point) -> Point:
    total: Point = None
    for bit in f"{factor:b}":
        total = plus(total, total)
        total = plus(total, point) if bit == "1" else total
    return total


# --- DER ---------------------------------------------------------------------------------------------------------------


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = bytes([len(body)]) if len(body) < 128 else b"\x82" + len(body).to_bytes(2, "big")
    return bytes([tag]) + length + body


def number(value: int) -> bytes:
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    body = bytes([40 * first + second])
    for part in rest:
        digits = [part & 127]
        while part := part >> 7:
            digits.insert(0, part & 127 | 128)
        body += bytes(digits)
    return der(6, body)


def bits(data: bytes) -> bytes:
    return der(3, b"\0", data)


def name(text: str) -> bytes:
    return der(0x30, der(0x31, der(0x30, oid("2.5.4.3"), der(0x0C, text.encode()))))


def extension(which: str, value: bytes, critical: bool = False) -> bytes:
    return der(0x30, oid(which), der(1, b"\xff") if critical else b"", der(4, value))


def pem(kind: str, data: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(data).decode()}-----END {kind}-----\n"


# --- certificates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    """A certificate, with those of who signed it, and its key, as PEM."""

    subject: str
    key: int
    text: str
    key_text: str

    def files(self, folder: Path) -> tuple[Path, Path]:
        paths = folder / f"{self.subject}.pem", folder / f"{self.subject}.key.pem"
        for path, content in zip(paths, (self.text, self.key_text), strict=True):
            path.write_text(content, encoding="ascii")
        return paths


def issued(
    subject: str, host: str = "127.0.0.1", by: Certificate | None = None, *, days: tuple[float, float] = (-1, 1), authority: bool = False
) -> Certificate:
    """A certificate for a host. by: who signs (None: itself). days: valid from and until, from now. authority: it may sign others."""
    key = secrets.randbelow(N - 1) + 1
    issuer, signer = (by.subject, by.key) if by else (subject, key)
    now = datetime.now(timezone.utc)
    valid = (der(0x18, (now + timedelta(days=day)).strftime("%Y%m%d%H%M%SZ").encode()) for day in days)
    algorithm = der(0x30, oid(SIGNED))
    try:
        named = der(0x87, ipaddress.ip_address(host).packed)
    except ValueError:
        named = der(0x82, host.encode())
    extensions = [
        extension("2.5.29.19", der(0x30, der(1, b"\xff") if authority else b""), True),
        extension("2.5.29.15", bits(b"\x06" if authority else b"\x80"), True),
        extension("2.5.29.14", der(4, mark(key))),
        extension("2.5.29.35", der(0x30, der(0x80, mark(signer)))),
        extension("2.5.29.17", der(0x30, named)),
    ]
    told = der(
        0x30,
        der(0xA0, number(2)),
        number(secrets.randbits(64)),
        algorithm,
        name(issuer),
        der(0x30, *valid),
        name(subject),
        der(0x30, der(0x30, oid(EC_KEY), oid(CURVE)), bits(public(key))),
        der(0xA3, der(0x30, *extensions)),
    )
    private = der(0x30, number(1), der(4, key.to_bytes(32, "big")), der(0xA0, oid(CURVE)))
    text = pem("CERTIFICATE", der(0x30, told, algorithm, bits(signature(told, signer)))) + (by.text if by else "")
    return Certificate(subject, key, text, pem("EC PRIVATE KEY", private))


def public(key: int) -> bytes:
    point = times(key, G)
    assert point is not None
    return b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def mark(key: int) -> bytes:
    return hashlib.sha256(public(key)).digest()[:20]


def signature(data: bytes, key: int) -> bytes:
    once = secrets.randbelow(N - 1) + 1
    point = times(once, G)
    assert point is not None
    r = point[0] % N
    return der(0x30, number(r), number(pow(once, -1, N) * (int.from_bytes(hashlib.sha256(data).digest(), "big") + r * key) % N))
