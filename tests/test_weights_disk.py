"""A download on a disk that is full or read-only, at any moment of it: in the end the verified file is there, or nothing of that name."""

# ruff: noqa: F811 (fixtures of the other module)

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from download_server import FILE
from test_weights_download import alone, data, entry_for, folder, left, server  # noqa: F401 (fixtures)
from test_weights_limits import limits

from gpen_core.errors import WeightsError
from gpen_core.weights.download import download
from gpen_core.weights.sums import RECORD_FILE, Record


class Disk:
    """Counts what is done to a folder's files; refuses it from the n-th time on, or only then, with one of the system's errors."""

    def __init__(self, folder: Path, number: int = 0, at: int = -1, always_after: bool = True) -> None:
        self.folder, self.number, self.at, self.always_after = folder, number, at, always_after
        self.done = 0

    def tick(self, path: object) -> None:
        if str(path).startswith(str(self.folder)):
            self.done += 1
            if self.done > self.at >= 0 and (self.always_after or self.done == self.at + 1):
                raise OSError(self.number, os.strerror(self.number), str(path))

    @contextmanager
    def used(self) -> Iterator[None]:
        real_open, real_os_open = Path.open, os.open

        def open_path(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if mode == "rb" or not str(path).startswith(str(self.folder)):
                return real_open(path, mode, *rest, **more)
            self.tick(path)
            raw = File(path, mode.replace("b", ""))
            raw.disk = self
            return raw if "b" in mode else io.TextIOWrapper(io.BufferedWriter(raw), **more)

        def os_open(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            if flags & os.O_CREAT:
                self.tick(path)
            return real_os_open(path, flags, *rest, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "open", open_path)
            patch.setattr(os, "open", os_open)  # filelock's
            for name in ("replace", "mkdir"):
                real = getattr(Path, name)
                patch.setattr(Path, name, lambda path, *rest, real=real, **more: (self.tick(path), real(path, *rest, **more))[1])
            yield


class File(io.FileIO):
    disk: Disk | None = None

    def write(self, block: Any) -> int:
        if self.disk is not None:
            self.disk.tick(self.name)
        return super().write(block)


@pytest.mark.parametrize(
    ("number", "always_after"),
    [(errno.ENOSPC, True), (errno.ENOSPC, False), (errno.EROFS, True), (errno.EACCES, True), (errno.EIO, False)],
)
def test_a_disk_that_refuses_at_any_moment(server, tmp_path, data, number, always_after):
    if number == errno.EACCES and sys.platform == "win32":
        pytest.skip("there a lock that another process holds answers so, which is waited for")
    folder, moment = tmp_path / "models" / "GPEN", -1
    while True:
        moment += 1  # how many writes there are depends on how the bytes arrive
        shutil.rmtree(folder, ignore_errors=True)
        disk, told = Disk(folder, number, moment, always_after), ""
        with disk.used():
            try:
                download(entry_for(server.url()), folder, limits=limits(), notice=lambda text: None)
            except WeightsError as error:
                told = str(error)
        if disk.done <= moment:
            break  # it was over before
        path = folder / FILE
        if told:
            assert not path.exists() and told.count("\n") == 0 and str(folder) in told, (moment, told)
            assert ("free some space" if number == errno.ENOSPC else "choose another folder") in told, (moment, told)
        else:
            assert path.read_bytes() == data and Record(folder).read()[FILE]["bytes"] == len(data), moment
        assert told or not always_after, moment
        assert download(entry_for(server.url()), folder, limits=limits()).read_bytes() == data, "afterwards it works"
        assert left(folder) == [FILE], moment
    assert not told and moment >= 12, "folder, trial, locks, notice, note, part, its blocks, sums, name"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("name", [f"{FILE}.part.json", RECORD_FILE])
def test_a_disk_that_is_really_full(server, folder, monkeypatch, name):
    real = Path.open

    def opened(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        full = "x" in mode and path.name.startswith(f".{name}")
        return real(Path("/dev/full") if full else path, mode.replace("x", "w") if full else mode, *rest, **more)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(WeightsError, match="free some space") as caught:
        download(entry_for(server.url()), folder, limits=limits())
    assert str(folder) in str(caught.value) and FILE not in left(folder)


IN_A_TINY_DISK = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from gpen_core.errors import WeightsError
from gpen_core.weights import download
from gpen_core.weights.catalog import WeightFile
disk, filler, url, data = Path(sys.argv[2]), Path(sys.argv[2]) / "filler", sys.argv[3], Path(sys.argv[4]).read_bytes()
entry = WeightFile("GPEN-BFR-2048", "GPEN-BFR-2048.pth", "restore", 64, 2, 4 / 64, "gpen", urls=(url,))
folder = disk / "GPEN"
try:
    download.download(entry, folder)
except WeightsError as error:
    print("too small:", error)
download._SPARE_BYTES = 0

def fill(done, total):
    if done and not filler.exists():
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

try:
    download.download(entry, folder, progress=fill)
except WeightsError as error:
    print("full:", error)
print("left:", sorted(path.name for path in folder.glob("GPEN-*")))
filler.unlink()
print("whole:", download.download(entry, folder, progress=None).read_bytes() == data)
"""


def test_a_tiny_disk(server, tmp_path, data):
    """A real file system in memory, of twice the file, which something else fills while the file is on its way."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "data").write_bytes(data)
    unshare, mount = shutil.which("unshare"), shutil.which("mount")
    if not unshare or not mount:
        pytest.skip("needs Linux's unshare and mount")
    inside = [unshare, "--user", "--map-root-user", "--mount", "sh", "-c"]
    mounted = f"{mount} -t tmpfs -o size={2 * len(data)} tmpfs {disk}"
    if subprocess.run([*inside, mounted], capture_output=True).returncode:
        pytest.skip("this system lets no user mount a file system")
    root = Path(__file__).resolve().parents[1]
    code = [sys.executable, "-c", IN_A_TINY_DISK, str(root), str(disk), server.url(), str(tmp_path / "data")]
    run = subprocess.run(
        [*inside, f'{mounted} && exec "$@"', "sh", *code], capture_output=True, text=True, encoding="utf-8", timeout=120, cwd=tmp_path
    )
    lines = dict(line.split(": ", 1) for line in run.stdout.splitlines() if ": " in line)
    assert "MB are needed" in lines["too small"] and "free space or choose another folder" in lines["too small"], run
    assert "is full; free some space and try again: the download will resume" in lines["full"], run
    assert FILE not in lines["left"].replace(f"{FILE}.part", "") and lines["whole"] == "True", run


def test_a_folder_that_may_really_not_be_written(server, tmp_path):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("root may write everywhere: run the tests as another user")
    folder = tmp_path / "GPEN"
    folder.mkdir(mode=0o500)
    with pytest.raises(WeightsError, match="choose another folder"):
        download(entry_for(server.url()), folder, limits=limits())
    assert not server.seen and list(folder.iterdir()) == []
