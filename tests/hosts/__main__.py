"""The command line: see the package."""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import checks, table
from .family import HOSTS
from .server import ROOT, Server

PROBE = ROOT / "tests" / "a1111" / "probe"
BROWSER_PYTHON = ROOT / ".venv-page" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
PACKAGES = ("torch", "gradio", "numpy")
TRIED = (
    ("Settings > Face restoration: GPEN", checks.restorer),
    ("our API: POST /gpen/restore, GET /gpen/models", checks.own_api),
    ("its API: /sdapi/v1/extra-single-image", checks.extras_api),
)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    parser.add_argument("name", choices=[*HOSTS, "comfyui", "table"], help="what to start, or table to write docs/hosts.md's table")
    parser.add_argument("--folder", type=Path, help="the WebUI's checkout")
    parser.add_argument("--python", help="the WebUI's Python (default: this one)")
    parser.add_argument("--version", help="what the record calls it (default: what git says of the checkout)")
    parser.add_argument("--beside", type=Path, action="append", default=[], help="another extension's folder, linked in as well")
    parser.add_argument("--browser-python", default=str(BROWSER_PYTHON), help="a Python that has playwright (default: .venv-page)")
    parser.add_argument("--out", type=Path, help="folder for screenshots and the log (default: a temporary one)")
    parser.add_argument("--record", type=Path, help=f"where the record goes (default: {table.RECORDS}/NAME.json)")
    parser.add_argument("--argument", action="append", default=[], help="one more argument for the WebUI: --argument=--flag")
    return parser.parse_args()


def version_of(folder: Path) -> str:
    command = ["git", "-C", str(folder), "describe", "--tags", "--always"]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout.strip()


def packages(python: str) -> dict[str, str]:
    """The versions of those PACKAGES that this Python has."""
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True).stdout
    return {name: version for name, version in json.loads(told).items() if name in PACKAGES}


def attempt(what: str, act: Any) -> dict[str, Any]:
    """One line of the record."""
    try:
        said, ok = act(), True
    except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        said, ok = f"{type(error).__name__}: {error}".replace("\n", " ")[:600], False
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {said}", flush=True)
    return {"what": what, "ok": ok, "said": said.replace("|", "/") if ok else said[:200].replace("|", "/")}


def webui(given: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """Starts a WebUI, tries everything, stops it. Returns the record's lines."""
    host = HOSTS[given.name]
    beside = {folder.name: folder for folder in given.beside}
    if host.restores:
        beside["gpen-probe"] = PROBE
    with tempfile.TemporaryDirectory(prefix="webui-") as data:
        server = Server(given.name, given.folder, given.python or sys.executable, Path(data), beside, given.argument)
        try:
            lines = [attempt("start", lambda: "came up")]
            for what, check in TRIED:
                lines.append(attempt(what, lambda check=check: check(server, host, out)))
            if any((folder / "adetailer").is_dir() for folder in given.beside):
                lines.append(attempt("ADetailer beside us, Restore faces after ADetailer", lambda: checks.adetailer(server, host, out)))
            if any((folder / "scripts" / "reactor_swapper.py").is_file() for folder in given.beside):
                lines.append(attempt("ReActor beside us, Restore Face: GPEN", lambda: checks.reactor(server, host, out)))
            lines.append(attempt(f"clicked: {host.tab}, GPEN", lambda: checks.page(server, host, out, given.browser_python)))
            return [*lines, attempt("console", lambda: checks.log(server, host, out))]
        finally:
            server.close()
            (out / "webui.log").write_text(server.text(), encoding="utf-8")


def comfy(given: argparse.Namespace, out: Path) -> list[dict[str, Any]]:
    """The same for ComfyUI, over HTTP only: tests/comfyui/test_page.py has its page."""
    from . import comfyui

    with tempfile.TemporaryDirectory(prefix="comfy-") as base:
        running = comfyui.Running(given.folder, given.python, Path(base), given.beside)
        given.python = str(running.python)
        try:
            with running as server:
                return [attempt(what, lambda check=check: check(server)) for what, check in comfyui.checks(given.beside)]
        finally:
            (out / "comfyui.log").write_text(running.log(), encoding="utf-8")


def main() -> int:
    given = parsed()
    if given.name == "table":
        table.write()
        return 0
    if given.folder is None and given.name != "comfyui":
        print("--folder is needed: the WebUI's checkout", file=sys.stderr)
        return 2
    version = given.version or version_of(given.folder)
    out = (given.out or Path(tempfile.mkdtemp(prefix="gpen-hosts-"))).absolute()
    out.mkdir(parents=True, exist_ok=True)
    lines = (comfy if given.name == "comfyui" else webui)(given, out)
    title = "ComfyUI" if given.name == "comfyui" else HOSTS[given.name].title
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    record = {"title": title, "version": version, "date": today, "packages": packages(given.python or sys.executable), "checks": lines}
    target = given.record or table.RECORDS / f"{given.name}.json"
    target.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
    print(f"screenshots and the log: {out}; the record: {target}")
    return 0 if all(line["ok"] for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
