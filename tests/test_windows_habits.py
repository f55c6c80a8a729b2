"""Our code under Windows' habits (windows_habits.py), and on a device with the gaps of Apple's MPS (emulated_card.py)."""

from __future__ import annotations

import ast
import builtins
import errno
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch
import windows_habits
from cli_help import picture, run, stub_restorers
from download_server import FILE, Server
from emulated_card import NAME, Card
from job_worker import opened
from PIL import Image
from stub_restorer import StubRestorer
from test_card_network import SMALL
from test_fused import face, lively
from test_quickstart import elsewhere, quickstart
from video_files import FRAMES, make_video, read_video
from weights_help import tiny_catalog, tiny_state

from gpen_core import replacing
from gpen_core.batch import job
from gpen_core.batch.job import JobFolder, JobStoppedError
from gpen_core.batch.listing import Found, Names
from gpen_core.batch.run import plan_outputs, run_batch
from gpen_core.batch.shards import restoring, run_shards
from gpen_core.errors import DeviceError, OutputExistsError, PictureError
from gpen_core.network import trial
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.place import place
from gpen_core.network.run import run_network
from gpen_core.pictures import read_picture, write_picture
from gpen_core.runtime import device_error
from gpen_core.video.restore import restore_video
from gpen_core.weights.download import download
from gpen_core.weights.sums import RECORD_FILE

__all__ = ["elsewhere", "quickstart"]  # fixtures


@pytest.fixture
def windows() -> Iterator[None]:
    with windows_habits.emulated():
        yield


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- the habits themselves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "work", [Path.unlink, lambda path: path.replace(path.with_name("b")), lambda path: path.with_name("new").replace(path)]
)
def test_an_open_file_stays_where_it_is(windows, tmp_path, work):
    path = tmp_path / "a"
    for name in ("a", "new"):
        (tmp_path / name).write_bytes(b"1")
    with path.open("rb"), pytest.raises(PermissionError):
        work(path)
    assert names(tmp_path) == ["a", "new"]
    work(path)


def test_a_folder_with_an_open_file_and_a_mapped_file_stay(windows, tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.npy"
    np.save(path, np.zeros(9))
    mapped = np.load(path, mmap_mode="r")
    with pytest.raises(PermissionError):
        path.unlink()
    del mapped
    with path.open("rb"), pytest.raises(PermissionError):
        (tmp_path / "in").rename(tmp_path / "b")
    (tmp_path / "in").rename(tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(FileExistsError):
        (tmp_path / "b").rename(tmp_path / "c")


def test_names_fold_case(windows, tmp_path):
    (tmp_path / "A.png").write_bytes(b"1")
    assert (tmp_path / "a.PNG").exists() and (tmp_path / "a.png").read_bytes() == b"1"
    with pytest.raises(FileExistsError):
        (tmp_path / "a.png").open("xb")
    (tmp_path / "a.png").unlink()
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["con", "NUL.png", "a.", "a ", "a:b", "a?b", "a\\b", "a" * 250])
def test_names_that_windows_refuses(windows, tmp_path, name):
    with pytest.raises(OSError, match=r"syntax|path"):
        (tmp_path / name).open("wb")
    assert names(tmp_path) == []


def test_text_without_an_encoding_is_cp1252_with_crlf(windows, tmp_path):
    (tmp_path / "a").write_text("ü\n")
    assert (tmp_path / "a").read_bytes() == b"\xfc\r\n"
    with pytest.raises(UnicodeEncodeError):
        (tmp_path / "b").write_text("写")


def test_what_only_posix_has_is_missing_from_our_code_alone(windows):
    code = compile("import os, signal\nfound = [os.name, hasattr(os, 'fork'), hasattr(signal, 'SIGKILL')]\nimport fcntl", "x", "exec")
    ours, theirs = {}, {}
    with pytest.raises(ImportError):
        exec(code.replace(co_filename=str(windows_habits.ROOT / "gpen_core" / "x.py")), ours)
    exec(code, theirs)
    assert ours["found"] == ["nt", False, False] and theirs["found"] == ["posix", True, True]


def test_afterwards_all_is_as_it_was():
    before = os.replace, os.stat, builtins.open, os.name, os.fork, signal.SIGKILL, type(os)
    with windows_habits.emulated():
        assert os.replace is not before[0]
    assert before == (os.replace, os.stat, builtins.open, os.name, os.fork, signal.SIGKILL, type(os))


# --- our code under them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_a_picture_is_written_replaced_and_kept(windows, tmp_path, suffix):
    path = picture(tmp_path / f"A{suffix}")
    given = read_picture(path)
    write_picture(given, path, overwrite=True)
    with pytest.raises(OutputExistsError):
        write_picture(given, tmp_path / f"a{suffix}")
    assert names(tmp_path) == [f"A{suffix}"]


def test_a_file_that_a_scanner_holds_for_a_moment_is_replaced(windows, tmp_path, monkeypatch):
    path = picture(tmp_path / "a.png")
    given, held = read_picture(path), path.open("rb")
    monkeypatch.setattr(replacing.time, "sleep", lambda seconds: held.close())
    write_picture(given, path, overwrite=True)
    assert held.closed and names(tmp_path) == ["a.png"]


def test_a_picture_open_in_another_program_is_a_sentence_and_leaves_nothing(windows, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(replacing.time, "sleep", pauses.append)
    path = picture(tmp_path / "a.png")
    given, before = read_picture(path), path.read_bytes()
    with path.open("rb"), pytest.raises(PictureError, match=r"a\.png"):
        write_picture(given, path, overwrite=True)
    assert names(tmp_path) == ["a.png"] and path.read_bytes() == before
    assert 1 < sum(pauses) < 2


def test_an_animation_is_restored_onto_itself(windows, tmp_path):
    path = tmp_path / "a.png"
    frames = [Image.new("RGB", (16, 12), (40 * number, 0, 0)) for number in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    assert [result.error for result in run_batch(plan_outputs([path], tmp_path), StubRestorer(), overwrite=True)] == [None]
    assert read_picture(path).form.frames == 3 and names(tmp_path) == ["a.png"]


def test_a_video_is_restored_onto_itself(windows, tmp_path):
    path = make_video(tmp_path / "a.mp4")
    restore_video(path, path, StubRestorer(), overwrite=True)
    assert len(read_video(path).times) == FRAMES and names(tmp_path) == ["a.mp4"]


def test_a_video_that_fails_leaves_nothing(windows, tmp_path):
    path, restorer = make_video(tmp_path / "a.mp4"), StubRestorer()
    restorer.fail_at, restorer.error = {3}, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        restore_video(path, tmp_path / "b.mp4", restorer)
    assert names(tmp_path) == ["a.mp4"]


def test_a_job_is_run_and_goes_on(windows, tmp_path):
    for number in range(5):
        picture(tmp_path / "in" / f"{number}.png")
    folder, restorer = JobFolder(tmp_path / "job"), StubRestorer()
    manifest = opened(folder, tmp_path / "in", tmp_path / "out", 2)
    restorer.fail_at, restorer.error = {3}, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_shards(folder, manifest, range(manifest.shards), restoring(restorer, manifest.settings))
    run_shards(
        folder, opened(folder, tmp_path / "in", tmp_path / "out", 2), range(manifest.shards), restoring(StubRestorer(), manifest.settings)
    )
    records = [record for shard in range(manifest.shards) for record in folder.records(shard)]
    assert [record["error"] for record in records] == [None] * 5 and names(tmp_path / "out") == [f"{number}.png" for number in range(5)]
    folder.forget()
    assert names(tmp_path / "job") == ["list.lock"]


def test_a_name_that_is_half_a_letter_is_listed(tmp_path, monkeypatch):
    """Windows allows names that are no Unicode; Python encodes them so there."""
    path = tmp_path / "\ud800.png"
    monkeypatch.setattr(os, "fsencode", lambda text: str(text).encode("utf-8", "surrogatepass"))
    monkeypatch.setattr(os, "fsdecode", lambda data: data.decode("utf-8", "surrogatepass"))
    collected = Names(tmp_path / "names.sqlite3")
    collected.add(0, Found(path, Path(path.name), b"1", path))
    assert [one.name.name for one in collected.ordered()] == [path.name]
    collected.close()


def test_a_list_that_cannot_be_written_says_why_and_leaves_nothing(windows, tmp_path, monkeypatch):
    """SQLite closes its file first, although its rows are still being read."""
    picture(tmp_path / "in" / "0.png")
    picture(tmp_path / "in" / "1.png")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job, "write_durably", full)
    with pytest.raises(JobStoppedError, match="No space left"):
        opened(JobFolder(tmp_path / "job"), tmp_path / "in", tmp_path / "out", 1)
    assert [name for name in names(tmp_path / "job") if name != "list.lock"] == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_of_paths_as_windows_programs_write_it(windows, tmp_path, capsys, monkeypatch, encoding):
    """CRLF, a byte order mark, UTF-16 from PowerShell, capitals of its own, a name twice."""
    stub_restorers(monkeypatch)
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "Ä.png")
    (tmp_path / "list.txt").write_bytes("Ä.png\r\n./ä.PNG\r\n".encode(encoding))
    code, out, _ = run(capsys, "restore", "--job", "job", "--list", "list.txt", "-o", "out", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["done"] == 1


def test_a_download_is_resumed_and_placed(windows, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("HF_HUB_OFFLINE", "GPEN_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    torch.save(tiny_state(4 / 64), tmp_path / "given.pth")
    data = (tmp_path / "given.pth").read_bytes()
    server = Server(data)
    try:
        entry, folder = tiny_catalog(urls=[server.url()]).get("GPEN-BFR-2048"), tmp_path / "GPEN"

        def stop(done: int, total: int | None) -> None:
            if done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            download(entry, folder, progress=stop)
        assert download(entry, folder, progress=lambda done, total: None).read_bytes() == data
        (folder / FILE).write_bytes(b"")  # spoiled: it is replaced
        assert download(entry, folder, progress=lambda done, total: None).read_bytes() == data
        assert not [name for name in names(folder) if name.endswith((".part", ".json.part"))]
    finally:
        server.hold.set()
        server.enough.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def scanned(windows, monkeypatch) -> Callable[[Path], list[str]]:
    """Says which file a scanner opens; it lets go as soon as somebody waits for it. Returns the names it held."""
    opened_by_it: list[BinaryIO] = []
    held: list[str] = []

    def wait(seconds: float) -> None:
        while opened_by_it:
            file = opened_by_it.pop()
            held.append(Path(file.name).name)
            file.close()

    def scan(path: Path) -> list[str]:
        opened_by_it.append(path.open("rb"))
        return held

    monkeypatch.setattr(replacing.time, "sleep", wait)
    return scan


def test_weights_that_a_scanner_holds_are_placed_and_recorded(scanned, tmp_path, monkeypatch):
    """A scanner opens every new file; the part, the note beside it and the sums are such files."""
    torch.save(tiny_state(4 / 64), tmp_path / "given.pth")
    data, held = (tmp_path / "given.pth").read_bytes(), []
    real = replacing.Path.replace

    def renamed(part: Path, target: Path) -> Path:
        if part.suffix == ".part" and part.name not in held:
            held.append(part.name)
            scanned(part)
        return real(part, target)

    monkeypatch.setattr(replacing.Path, "replace", renamed)
    server = Server(data)
    try:
        entry = tiny_catalog(urls=[server.url()]).get("GPEN-BFR-2048")
        assert download(entry, tmp_path / "GPEN", progress=lambda done, total: None).read_bytes() == data
    finally:
        server.shutdown()
        server.server_close()
    assert len(held) == 3 and f"{FILE}.part" in held
    assert list(json.loads((tmp_path / "GPEN" / RECORD_FILE).read_text(encoding="utf-8"))) == [FILE]
    assert not [name for name in names(tmp_path / "GPEN") if name.endswith(".part")]


def test_the_answer_of_a_trial_is_kept_though_a_scanner_holds_it(scanned, tmp_path):
    record = tmp_path / "restoring.json"
    record.write_text("{}", encoding="utf-8")
    held = scanned(record)
    trial._write(record, "a.pth", [1, 2, True])
    assert held == ["restoring.json"] and json.loads(record.read_text(encoding="utf-8")) == {"a.pth": [1, 2, True]}
    assert names(tmp_path) == ["restoring.json"]


def test_the_list_of_a_job_is_kept_though_a_scanner_holds_it(scanned, tmp_path, monkeypatch):
    picture(tmp_path / "in" / "0.png")
    real = job.write_durably

    def written(path: Path, lines: list[str]) -> None:
        real(path, lines)
        scanned(path)

    monkeypatch.setattr(job, "write_durably", written)
    assert opened(JobFolder(tmp_path / "job"), tmp_path / "in", tmp_path / "out", 1).pictures == 1


def test_the_second_quickstart_says_that_it_waits(windows, quickstart, elsewhere, capsys):
    inside = threading.Event()

    def second() -> None:
        with quickstart.only_one():
            inside.set()

    with quickstart.only_one():
        thread = threading.Thread(target=second)
        thread.start()
        assert not inside.wait(0.1)
    thread.join(10)
    assert inside.is_set() and "waiting" in capsys.readouterr().out


def test_no_text_of_ours_is_read_or_written_without_an_encoding():
    """Windows takes cp1252, which can neither read nor write most names."""
    folders = ("gpen_core", "gpen_page", "gpen_webui", "nodes", "scripts", "training", "benchmarks", "examples")
    root, found = windows_habits.ROOT, []
    for path in (*root.glob("*.py"), *(path for folder in folders for path in (root / folder).rglob("*.py"))):
        text = path.read_text("utf-8")
        if any(word in text for word in ("open(", "_text(", "text=True")):
            calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
            found += [f"{path.relative_to(root)}:{call.lineno}" for call in calls if lacks_encoding(call)]
    assert found == []


def lacks_encoding(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    said = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in said or None in said:
        return False
    if name == "open":  # open(path, mode), Path.open(mode), not av.open(path, mode)
        arguments = call.args[1:2] if isinstance(call.func, ast.Name) else call.args[:1]
        modes = [str(one.value) for one in (*arguments, said.get("mode")) if isinstance(one, ast.Constant)]
        is_mode = any(re.fullmatch("[rwxabt+]{1,3}", mode) for mode in modes)
        return not any("b" in mode for mode in modes) if isinstance(call.func, ast.Name) else is_mode and "b" not in modes[0]
    if name in ("run", "Popen", "check_output"):
        return "text" in said or "universal_newlines" in said
    return (name == "read_text" and not call.args) or (name == "write_text" and len(call.args) < 2)


# --- a Mac's device -----------------------------------------------------------------------------------------------------


def test_the_network_needs_no_float64(card: Card):
    card.no_float64 = True
    with pytest.raises(TypeError, match="float64"):
        torch.ones(2, dtype=torch.float64).to(NAME)
    assert np.isfinite(run_network(place(FusedGenerator(lively(SMALL)), NAME), face(1))).all()


def test_a_missing_operation_is_a_sentence(card: Card):
    network = place(FusedGenerator(lively(SMALL)), NAME)
    said = (
        "The operator 'aten::x' is not currently implemented for the MPS device. If you want this op to be considered for addition, please "
        "comment on an issue."
    )
    card.fail_operation = lambda name: NotImplementedError(said)
    with pytest.raises(DeviceError, match="newer torch, or choose the device cpu"):
        run_network(network, face(1))
    other = NotImplementedError(
        "Could not run 'aten::x' with arguments from the 'XPU' backend. 'aten::x' is only available for these backends: [CPU]."
    )
    assert device_error(other, "xpu") is not None
    assert device_error(NotImplementedError(), "mps") is None
