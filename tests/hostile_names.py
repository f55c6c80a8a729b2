"""Names that want to be paths, and a watch over every file and connection that is touched while an API gets them."""

from __future__ import annotations

import base64
import io
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FILE = "own.safetensors"  # lies outside the host's folders, and is whole
FIELDS = ("model", "person", "image", "hole", "faces", "detector", "mask", "mask_regions", "occlusion", "background", "preset", "device")

_WATCHED = ("open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink",
            "os.chmod", "os.truncate", "os.utime", "shutil.", "socket.connect", "socket.getaddrinfo", "subprocess.Popen",
            "os.system", "os.exec")  # fmt: skip
_touched: list[str] | None = None
_hooked = False


def tiny_picture() -> str:
    """A picture without a face in base64, so that everything that is named is looked for."""
    out = io.BytesIO()
    Image.new("RGB", (24, 24), (90, 80, 70)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def names(secret: Path) -> list[str]:
    """Ways to say the path of a file that is none of the caller's business."""
    path = str(secret / FILE)
    up = "/".join([".."] * 3)
    return [
        path, f"file://{path}", f"//{path}", f"/.{path}", f"~/../..{path}", f"../{secret.name}/{FILE}", f"../../{secret.name}/{FILE}",
        f"GPEN/../../{secret.name}/{FILE}", f"{up}{path}", f"./../{secret.name}/{FILE}", f"..\\{secret.name}\\{FILE}",
        f"..\\..\\{FILE}", f"C:{FILE}", f"C:\\{FILE}", f"\\\\server\\share\\{FILE}", f"//server/share/{FILE}", f"\\\\?\\C:\\{FILE}",
        f"\\\\.\\{FILE}", f"{path}\0.pth", f"{FILE}\0", f"\0{path}", f"..%2f{secret.name}%2f{FILE}", f"%2e%2e/{FILE}",
        f"..%c0%af{FILE}", f"．．／{secret.name}／{FILE}", f"..∕{FILE}", f"‥/{FILE}", f"\u202e{FILE}", f"{path}\n", f" {path}",
        f"{FILE}::$DATA", f"{FILE}:x", f"{FILE}.", f"{FILE} ", "con", "aux.pth", "NUL", "com1.safetensors", ".", "..", "/", "\\", "~",
        "~root", "$HOME/x.pth", "%USERPROFILE%\\x.pth", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/environ", "x" * 5000,
        "../" * 500 + "etc/passwd", "http://127.0.0.1:9/x.pth", "https://example.org/x.safetensors", "`id`", "$(id)", "; rm -rf x",
        "|cat", "-o/x", "--help", "{}", "%s%n", "\ud800", "😀/../x.pth",
    ]  # fmt: skip


def mixed(secret: Path) -> Any:
    """More of them, put together from pieces."""
    pieces = [
        "..",
        ".",
        "/",
        "\\",
        "//",
        ":",
        "C:",
        "~",
        "\0",
        "\n",
        " ",
        "%2e",
        "．",
        "／",
        "GPEN",
        secret.name,
        FILE,
        str(secret),
        "x.pth",
        "://",
        "\u202e",
        "GPEN-BFR-512",
    ]
    return st.lists(st.sampled_from(pieces), min_size=1, max_size=7).map("".join)


def prepared(folder: Path) -> Path:
    """A folder beside the host's, with a whole weight file and a picture in it, and a link to it in the folder itself."""
    secret = folder / "not yours"
    secret.mkdir()
    weights = ROOT / "gpen_core" / "weights" / "embedded" / "GPEN-BFR-256-lite.safetensors"
    (secret / FILE).write_bytes(weights.read_bytes())
    (secret / "face.png").write_bytes((ROOT / "examples" / "portrait.png").read_bytes())
    return secret


def tree(folder: Path) -> dict[str, Any]:
    """What lies in a folder: names, lengths, times."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


@contextmanager
def watched(*allowed: Path) -> Iterator[list[str]]:
    """What is opened, listed, changed, looked for or called outside of these folders, Python's and the project's own, a line each."""
    global _touched, _hooked
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    ours = [
        str(ROOT),
        *map(str, allowed),
        *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")},
        sys.prefix,
        sys.base_prefix,
    ]
    found: list[str] = []
    real = os.stat

    def looked_for(path: Any, *more: Any, **rest: Any) -> Any:
        if not isinstance(path, int):
            _note("os.stat", os.fsdecode(path))
        return real(path, *more, **rest)

    _touched = found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "stat", looked_for)
        try:
            yield found
        finally:
            _touched = None
            found[:] = [line for line in found if not _is_allowed(line.split(" ", 1)[1], ours)]


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _touched is not None and event.startswith(_WATCHED):
        what = arguments[0] if arguments else ""
        _note(event, os.fsdecode(what) if isinstance(what, str | bytes) or hasattr(what, "__fspath__") else repr(what))


def _note(event: str, what: str) -> None:
    if _touched is not None:
        _touched.append(f"{event} {what}")


def _is_allowed(path: str, ours: list[str]) -> bool:
    """True within the folders. Numbers are files that are open already; the parents of a folder are looked at to make it."""
    if path.isdigit() or path == "/proc/self/maps":  # which torch reads for its own errors
        return True
    whole = os.path.abspath(path) if "\0" not in path else path  # noqa: PTH100
    return whole.startswith(tuple(ours)) or any(one.startswith(whole + os.sep) for one in ours)
