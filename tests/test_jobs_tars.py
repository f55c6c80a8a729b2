"""Tar archives in and out: pictures in them are restored, everything else stays byte for byte, and a hostile archive does no harm."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from cli_help import picture, run, stub_restorers
from job_kills import killed_until_done
from job_worker import opened
from PIL import Image
from stub_restorer import StubRestorer

from gpen_core.batch import tars
from gpen_core.batch.check import problems_of
from gpen_core.batch.histogram import SIZES
from gpen_core.batch.job import JobFolder
from gpen_core.batch.shards import restoring, run_shards
from gpen_core.batch.tally import tally_of
from gpen_core.batch.tars import restore_tar
from gpen_core.errors import DeviceError, PictureError
from gpen_core.pictures import from_array, read_picture, write_picture


def encoded(suffix: str = ".jpg", size: tuple[int, int] = (24, 16), **more: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (10, 20, 30)).save(buffer, Image.registered_extensions()[suffix], **more)
    return buffer.getvalue()


def member(name: str, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mtime, info.mode, info.uname = 1234567890, 0o640, "anna"
    for key, value in values.items():
        setattr(info, key, value)
    return info


def tar(path: Path, *files: tuple[str | tarfile.TarInfo, bytes], dialect: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=dialect) as archive:
        for name, data in files:
            info = member(name) if isinstance(name, str) else name
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def content(path: Path) -> list[tuple[dict[str, object], bytes]]:
    """(what tarfile says, data) of every member, without sums and places."""
    with tarfile.open(path) as archive:
        return [(info.get_info(), archive.extractfile(info).read() if info.isfile() else b"") for info in archive]


LONG = "a" * 150 + "/" + "b" * 120


@pytest.mark.parametrize("dialect", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pictures_are_restored_and_all_else_stays(tmp_path, dialect):
    """Names, order, times, modes, owners and links, in every dialect of tar."""
    long = "0002.json" if dialect == tarfile.USTAR_FORMAT else f"{LONG}.json"
    files = [
        (member("folder", type=tarfile.DIRTYPE, mode=0o755), b""),
        ("folder/0002.jpg", encoded()),
        (long, b'{"a": 1}'),
        ("0001.webp", encoded(".webp")),
        (member("link.png", type=tarfile.SYMTYPE, linkname="../outside.png"), b""),
        (long.replace("json", "png"), encoded(".png")),
        ("0001.cls", b"x" * 2000),
        ("empty.txt", b""),
    ]
    source, target = tar(tmp_path / "a.tar", *files, dialect=dialect), tmp_path / "out" / "a.tar"
    result = restore_tar(source, target, StubRestorer())
    assert (result.members, result.pictures, result.failed, result.kept, dict(result.faces)) == (8, 3, 0, 0, {"restored": 3})
    before, after = content(source), content(target)
    for (info, data), (other, made) in zip(before, after, strict=True):
        restored = str(info["name"]).endswith((".jpg", ".webp", ".png")) and info["type"] == tarfile.REGTYPE
        assert {**info, "size": 0, "chksum": 0} == {**other, "size": 0, "chksum": 0}
        assert (data != made) is restored and other["size"] == len(made)
        if restored:
            assert np.asarray(Image.open(io.BytesIO(made)))[2, 2].min() > 240 and Image.open(io.BytesIO(made)).format in (
                "JPEG",
                "WEBP",
                "PNG",
            )
    assert target.stat().st_size % tarfile.RECORDSIZE == 0


def test_depth_and_quality_are_those_of_files(tmp_path):
    deep = np.full((16, 24, 3), 4321, np.uint16)
    path = write_picture(from_array(deep), tmp_path / "deep.png")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    jpeg = write_picture(from_array(noise), tmp_path / "n.jpg", quality=90)
    source = tar(tmp_path / "a.tar", ("deep.png", path.read_bytes()), ("n.jpg", jpeg.read_bytes()))
    sizes = []
    for quality in (30, 95):
        restore_tar(source, tmp_path / "o.tar", StubRestorer(), overwrite=True, quality=quality)
        (_, first), (_, second) = content(tmp_path / "o.tar")
        sizes.append(len(second))
        (tmp_path / "made.png").write_bytes(first)
        made = read_picture(tmp_path / "made.png")
        assert made.form.dtype == np.uint16 and np.unique(np.rint(made.pixels * 65535)).tolist() == [4321, 65535]
    restored = StubRestorer()(read_picture(jpeg)).image
    assert sizes[1] == write_picture(restored, tmp_path / "file.jpg", quality=95).stat().st_size > sizes[0]


def test_what_restoring_does_not_change_keeps_its_bytes(tmp_path):
    """A picture without a face, a format that cannot be written, an animation, a damaged picture: each is counted."""
    moving = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in (0, 90)]
    frames[0].save(moving, "WEBP", save_all=True, append_images=frames[1:])
    files = [
        ("map.jpg", encoded()),
        ("a.gif", encoded(".gif")),
        ("moving.webp", moving.getvalue()),
        ("half.png", encoded(".png")[:-20]),
        ("no.jpg", b""),
        ("._x.jpg", b"shadow"),
    ]
    restorer = StubRestorer()
    restorer.no_faces_at = {0}
    source = tar(tmp_path / "a.tar", *files)
    result = restore_tar(source, tmp_path / "o.tar", restorer)
    assert content(source) == content(tmp_path / "o.tar")
    assert (result.members, result.pictures, result.kept, result.failed) == (6, 3, 2, 2)
    assert [name for name, _ in result.errors] == ["half.png", "no.jpg"] and "cut short" in result.errors[0][1]


def test_one_that_fails_does_not_stop_the_others(tmp_path):
    source = tar(tmp_path / "a.tar", *[(f"{number}.png", encoded(".png")) for number in range(3)])
    restorer = StubRestorer()
    restorer.fail_at = {1}
    result = restore_tar(source, tmp_path / "o.tar", restorer)
    same = [one == other for one, other in zip(content(source), content(tmp_path / "o.tar"), strict=True)]
    assert same == [False, True, False] and result.errors == [("1.png", "unexpected RuntimeError: no memory")]


def test_a_record_takes_a_name_that_is_short_and_printable(tmp_path):
    source = tar(tmp_path / "a.tar", ("a\n" * 5000 + ".png", b"\x89PNG\r\n\x1a\nbroken"))
    ((name, text),) = restore_tar(source, tmp_path / "o.tar", StubRestorer()).errors
    assert name.isprintable() and name.endswith(".png") and len(name) < 400 and text
    assert content(source) == content(tmp_path / "o.tar"), "the archive itself keeps the name"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DeviceError("lost"), RuntimeError("CUDA error: device-side assert triggered")])
def test_an_end_in_the_middle_leaves_nothing(tmp_path, error):
    source = tar(tmp_path / "a.tar", *[(f"{number}.png", encoded(".png")) for number in range(3)])
    restorer = StubRestorer()
    restorer.fail_at, restorer.error = {1}, error
    with pytest.raises((KeyboardInterrupt, DeviceError)):
        restore_tar(source, tmp_path / "out" / "o.tar", restorer)
    assert list((tmp_path / "out").iterdir()) == []


# --- hostile


def test_names_lead_nowhere(tmp_path):
    """Members keep their names, and no file appears but the archive."""
    names = ["/etc/x.png", "../../x.png", "..\\x.png", "C:\\x.png", "a/../../../x.png", "x\n.png", "\udcff.png", "x.png"]
    devices = [member("dev.png", type=tarfile.CHRTYPE), member("pipe.jpg", type=tarfile.FIFOTYPE), member("x.jpg", type=tarfile.LNKTYPE)]
    files = [*((name, encoded(".png")) for name in names), *((info, b"") for info in devices)]
    source = tar(tmp_path / "deep" / "in" / "a.tar", *files)
    before = {path for path in tmp_path.rglob("*")}
    result = restore_tar(source, tmp_path / "deep" / "out" / "a.tar", StubRestorer())
    assert result.pictures == len(names) and result.failed == 0
    assert {path for path in tmp_path.rglob("*")} - before == {tmp_path / "deep" / "out", tmp_path / "deep" / "out" / "a.tar"}
    assert [info["name"] for info, _ in content(tmp_path / "deep" / "out" / "a.tar")] == [*names, *(info.name for info in devices)]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    return member(name, size=size, type=kind).tobuf(tarfile.GNU_FORMAT)


END = bytes(1024)
SPARSE = bytearray(header("x.png", 0, tarfile.GNUTYPE_SPARSE))
SPARSE[482] = 1
SPARSE[148:156] = b"%06o\0 " % (sum(SPARSE[:148]) + sum(SPARSE[156:]) + 8 * 32)
PAX = b"40 GNU.sparse.major=1".ljust(39) + b"\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    {
        "empty": (b"", "cut short"),
        "text": (b"hello" * 400, "not a tar archive"),
        "gzip": (b"\x1f\x8b" + bytes(2000), "not a tar archive"),
        "no end": (header("x.txt", 3) + b"abc".ljust(512, b"\0"), "cut short"),
        "cut data": (header("x.txt", 3000) + bytes(1024), "cut short"),
        "giant member": (header("x.png", 1 << 60) + END, "cut short"),
        "large picture that is not there": (header("x.png", 900 << 20) + END, "cut short"),
        "giant name": (header("././@LongLink", 1 << 40, b"L") + bytes(4096), "damaged"),
        "giant pax": (header("pax", 1 << 40, b"x") + bytes(4096), "damaged"),
        "long name": (header("././@LongLink", 3 << 20, b"L") + b"a" * (3 << 20) + header("x.txt", 0) + END, "damaged"),
        "chain": ((header("pax", 512, b"x") + b"9 a=bcde\n".ljust(512, b"\0")) * 2000 + header("x.txt", 0) + END, "damaged"),
        "sparse without end": (bytes(SPARSE) + (bytes(504) + b"\1" + bytes(7)) * 4000 + END, "damaged"),
        "negative size": (bytes(header("x.png", -512)) + END, "damaged"),
        "bad pax": (header("pax", 20, b"x") + b"0 a=b\n".ljust(512, b"\0") + header("x.txt", 0) + END, "damaged"),
        "second archive": (header("x.txt", 0) + END + header("y.txt", 0) + END, "follows its end"),
        "damaged later": (header("x.txt", 0) + b"z" * 512 + END, "damaged"),
    }.values(),
)
def test_a_damaged_archive_writes_nothing_and_takes_little_memory(tmp_path, data, reason):
    (tmp_path / "a.tar").write_bytes(data)
    del data
    tracemalloc.start()
    try:
        with pytest.raises(PictureError, match=reason) as caught:
            restore_tar(tmp_path / "a.tar", tmp_path / "out" / "a.tar", StubRestorer())
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(f"Cannot read the archive {tmp_path / 'a.tar'}: ") and list((tmp_path / "out").iterdir()) == []


def test_large_and_sparse_members_are_copied_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "_MOST_PICTURE", 1 << 20)
    large = bytes(range(256)) * (24 << 12)
    pax = member("s.png", pax_headers={"GNU.sparse.map": "0,8"})
    source = tar(tmp_path / "a.tar", ("x.bin", large), ("x.png", large), (pax, b"12345678"))
    tracemalloc.start()
    try:
        result = restore_tar(source, tmp_path / "o.tar", StubRestorer())
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert (result.failed, result.kept) == (1, 1) and "too large" in result.errors[0][1]
    assert source.read_bytes() == (tmp_path / "o.tar").read_bytes()


def test_memory_does_not_grow_with_the_members(tmp_path):
    def peak(count):
        (tmp_path / "a.tar").write_bytes((header("x.txt", 1) + b"x".ljust(512, b"\0")) * count + END)
        tracemalloc.start()
        try:
            assert restore_tar(tmp_path / "a.tar", tmp_path / "o.tar", StubRestorer(), overwrite=True).members == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Twice, because Python's own table of strings may be enlarged in one of the two (by 2 MB after many tests).
    few, many = (min(peak(count), peak(count)) for count in (20, 2000))
    assert many < few + (500 << 10)


# --- jobs and the command


def shards(tmp_path: Path, count: int = 3) -> Path:
    for number in range(count):
        tar(tmp_path / "in" / f"{number}.tar", *[(f"{number}-{name}.png", encoded(".png")) for name in "abc"], ("x.json", b"{}"))
    return tmp_path / "in" / "*.tar"


def test_a_job_makes_only_the_archive_in_work_again(tmp_path):
    folder, out = JobFolder(tmp_path / "job"), tmp_path / "out"
    manifest = opened(folder, shards(tmp_path), out, 5)
    restorer = StubRestorer()
    restorer.fail_at, restorer.error = {4}, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run_shards(folder, manifest, range(1), restoring(restorer, manifest.settings))
    assert [path.name for path in out.iterdir()] == ["0.tar"]
    first = (out / "0.tar").stat()
    (out / "1.tar").write_bytes(b"as if written, and killed before it was recorded")
    restorer = StubRestorer()
    restorer.fail_at = {3}
    run_shards(folder, manifest, range(1), restoring(restorer, manifest.settings))
    assert restorer.calls == 6 and (out / "0.tar").stat() == first
    assert [len(content(out / f"{number}.tar")) for number in range(3)] == [4, 4, 4]
    records = list(folder.records(0))
    assert [record["error"] for record in records] == [None] * 3 and [record["tar"]["failed"] for record in records] == [0, 0, 1]
    tally = tally_of(folder, range(1))
    assert (tally.in_tars, tally.failed_in_tars, tally.faces, tally.without_faces) == (9, 1, {"restored": 8}, 0)
    assert (sum(tally.sizes), sum(tally.scores)) == (8, 8)
    del records[0]["tar"]["sizes"], records[0]["tar"]["scores"]  # as earlier versions wrote them
    tally.add(records[0])
    assert (tally.in_tars, sum(tally.sizes), len(tally.sizes)) == (12, 8, len(SIZES) + 1)
    assert [name for name, _ in tally.errors] == [f"{tmp_path / 'in' / '2.tar'}: 2-a.png"]
    problems = list(problems_of(folder, manifest))
    assert len(problems) == 1 and "1 pictures in it failed, first 2-a.png" in problems[0]


def test_killed_at_any_moment_no_archive_is_lost_or_half(tmp_path):
    """A few kills; `python -m tests.soak jobs` does fifty."""
    figures = killed_until_done(tmp_path, 60, 2, seconds=0.01, seed=2, in_tars_of=20)
    assert (figures.lost, figures.doubled, figures.broken) == (0, 0, 0)
    assert figures.kills == 2 and max(figures.repeated) <= 1


@pytest.mark.parametrize("harm", ["member lost", "order", "cut"])
def test_check_compares_the_members(tmp_path, harm):
    folder, out = JobFolder(tmp_path / "job"), tmp_path / "out"
    manifest = opened(folder, shards(tmp_path), out, 5)
    run_shards(folder, manifest, range(1), restoring(StubRestorer(), manifest.settings))
    assert list(problems_of(folder, manifest)) == []
    path = out / "1.tar"
    length = path.stat().st_size
    more = [("x.json", b"{}")] if harm == "order" else []
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:1000].ljust(length, b"\1"))
    else:
        tar(path, *[(f"1-{name}.png", encoded(".png")) for name in ("abc" if harm == "member lost" else "acb")], *more)
        path.write_bytes(path.read_bytes().ljust(length, b"\0")[:length])
    (problem,) = problems_of(folder, manifest)
    assert problem.startswith(f"{tmp_path / 'in' / '1.tar'}: its output") and ("other members" in problem) is (harm != "cut")


def test_the_command_takes_archives(tmp_path, monkeypatch, capsys):
    """With and without a job; in a folder they are left alone."""
    stub_restorers(monkeypatch)
    code, out, err = run(capsys, "restore", shards(tmp_path), "-o", tmp_path / "out", "--json")
    inputs = json.loads(out)["inputs"]
    assert code == 0 and err == "" and [Path(one["output"]).name for one in inputs] == ["0.tar", "1.tar", "2.tar"]
    bars = {"sizes": [0, 0, 0, 3] + [0] * 11, "scores": [0] * 19 + [3]}
    assert inputs[0]["tar"] == {"members": 4, "pictures": 3, "kept": 0, "failed": 0, "faces": {"restored": 3}, **bars, "errors": []}
    code, out, err = run(capsys, "restore", tmp_path / "in" / "0.tar", "-o", tmp_path / "b.tar")
    assert code == 0 and "3 pictures, 3 faces" in out and len(content(tmp_path / "b.tar")) == 4
    picture(tmp_path / "in" / "a.png")
    assert run(capsys, "restore", tmp_path / "in", "-o", tmp_path / "folder")[0] == 0
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a.png"]
    code, out, err = run(capsys, "restore", tmp_path / "in" / "*.tar", "-o", tmp_path / "job-out", "--job", tmp_path / "job")
    assert code == 0 and "3 of 3 inputs done" in out
    assert JobFolder(tmp_path / "job").manifest().shards == 3  # so that three workers share three archives
    report = (tmp_path / "job" / "report.html").read_text("utf-8")
    assert "pictures in archives<td>9" in report and report.count('text-anchor="middle">9</text>') == 2, "in both histograms"
    assert run(capsys, "job", "check", tmp_path / "job")[0] == 0


@pytest.mark.parametrize("with_job", [False, True])
@pytest.mark.parametrize("flag", ["--compare", "--faces-dir"])
def test_flags_that_archives_do_not_allow_are_refused(tmp_path, capsys, flag, with_job):
    more = [flag] if flag == "--compare" else [flag, tmp_path / "faces"]
    job = ["--job", tmp_path / "job"] if with_job else []
    code, _, err = run(capsys, "restore", shards(tmp_path, 1), "-o", tmp_path / "out", *more, *job)
    assert code == 2 and flag in err and "0.tar is a tar" in err and not (tmp_path / "out").exists()


def test_other_commands_and_the_dry_run_say_no(tmp_path, monkeypatch, capsys):
    stub_restorers(monkeypatch)
    code, _, err = run(capsys, "detect", shards(tmp_path, 1))
    assert code == 1 and "is a tar; this command takes only pictures" in err
    code, _, err = run(capsys, "restore", tmp_path / "in" / "0.tar", "-o", tmp_path / "out", "--job", tmp_path / "job", "--dry-run")
    assert code == 1 and "a dry run looks only at pictures" in err
