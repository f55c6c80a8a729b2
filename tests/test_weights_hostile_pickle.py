"""Small .pth files made to cost much, to lie, or to break the reader: each ends at once in one sentence, on little memory."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from weights_help import MIB, refusal, tiny_state, zipped

from gpen_core.errors import WeightsError
from gpen_core.weights.checkpoint import read_shapes, read_state_dict
from gpen_core.weights.formats import pickle_machine


@pytest.fixture
def few_steps(monkeypatch):
    """Fewer steps than a pickle may take, so that what takes too many ends at once."""
    monkeypatch.setattr(pickle_machine, "MOST_STEPS", 20_000)


# Pickles


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


ORDERED = b"ccollections\nOrderedDict\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"M\xe8\x03tQ"  # 1000 numbers
PAIRS = b"](" + b"".join(b"(K" + bytes([n % 256]) + b"Nl" for n in range(3000)) + b"eq\x00"  # a list of 3000 pairs


@pytest.mark.parametrize(
    "pickled",
    {
        "pairs of pairs of pairs": b"]("
        + b"]("
        + b"K\x01K\x02" * 1500
        + b"eq\x00"
        + b"h\x00" * 3000
        + b"eq\x010"
        + ORDERED
        + b"h\x01\x85R.",
        "one list, again and again": PAIRS + b"0" + (ORDERED + b"h\x00\x85R0") * 3000 + b"N.",
        "a key of tuples of tuples": b"}" + b"K\x01" + b"2\x86" * 200 + b"Ns.",
        "a deep key": b"}N" + b"\x85" * 15_000 + b"Ns.",
        "marks": b"(" * 15_000 + b"1" * 14_999 + b"N.",
        "a number of 12,000 digits": b"I" + b"1" * 12_000 + b"\n.",
        "a long number": b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000 + b".",
        "a place with many digits": b"Np" + b"9" * 900 + b"\n.",
        "a name of a megabyte": b"c" + b"a" * MIB + b"\nb\n.",
        "a name on the stack": text("a" * MIB) + text("b") + b"\x93.",
        "lengths that lie": b"\x8d" + b"\xff" * 7 + b"\x3f" + b"abc.",
        "a storage's name of a megabyte": b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0" * MIB) + text("cpu") + b"K\x01tQ.",
        "shapes of giant numbers": TENSOR
        + b"("
        + STORAGE
        + b"K\x00("
        + (b"\x8a\x09" + b"\xff" * 8 + b"\x7f") * 16
        + b"t("
        + b"K\x01" * 16
        + b"ttR.",
        "more dimensions than there are": TENSOR + b"(" + STORAGE + b"K\x00(" + b"K\x01" * 5000 + b"t(" + b"K\x01" * 5000 + b"ttR.",
        "a reference to nothing": b"NQ.",
        "arguments that are none": TENSOR + b"NR.",
        "a mark below": b"N(.",
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_hostile_pickles(tmp_path, few_steps, pickled, layout):
    _, content = pickled
    path = tmp_path / "a.pth"
    if layout == "zip":
        zipped(path, content)
    else:
        start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
        path.write_bytes(b"".join(pickle.dumps(item, 2) for item in start) + content)
    assert "tensors" in refusal(path) or "damaged" in refusal(path)


def test_no_line_is_longer_than_a_name():
    """Python 3.10 before 3.10.7 works for hours on a number of a million digits."""
    assert len(pickle_machine.Head(b"1" * 100_000 + b"\n").readline()) <= 1000


def test_every_step_counts(tmp_path, few_steps):
    assert "too long" in refusal(zipped(tmp_path / "a.pth", b"N0" * 15_000 + b"N."))
    machine = pickle_machine.PickleMachine([])
    assert machine.run(pickle_machine.Head(b"N0" * 8_000 + b"N.")) is None
    with pytest.raises(WeightsError, match="too long"):  # all pickles of a file together
        machine.run(pickle_machine.Head(b"N0" * 8_000 + b"N."))


def test_keys_of_storages_are_texts(tmp_path):
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {})
    keys = b"](N" + b"2\x86" * 60 + b"e."  # str() of it would take as long as the world has been there
    path = tmp_path / "a.pth"
    path.write_bytes(b"".join(pickle.dumps(item, 2) for item in start) + keys)
    assert "list of storages" in refusal(path)


def test_tensors_that_share_numbers_are_not_copied_without_end(tmp_path):
    whole = torch.zeros(1000, 500)
    path = tmp_path / "a.pth"
    torch.save({f"{n}": whole.t() for n in range(300)}, path)
    assert "share the same data" in refusal(path)
    torch.save({"a": whole, "b": whole.t()}, path)  # tied weights are no crime
    assert read_state_dict(path)["b"].shape == (500, 1000)


def test_views_of_the_older_layout_are_read_once(tmp_path):
    """Each view names a part of its own; the storage behind them is one."""
    numbers = 100_000
    root = b"ctorch\nFloatStorage\n" + text("7") + text("cpu") + b"J" + struct.pack("<i", numbers)
    views = b""
    for n in range(50):
        part = b"J" + struct.pack("<i", n) + b"J" + struct.pack("<i", numbers - 50)
        storage = b"(" + text("storage") + root + b"(" + text(f"v{n}") + part + b"ttQ"
        views += text(f"t{n}") + TENSOR + b"(" + storage + b"K\x01(K\x02t(K\x01t\x89NtR"
    start = b"".join(pickle.dumps(item, 2) for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    data = struct.pack("<q", numbers) + torch.arange(numbers, dtype=torch.float32).numpy().tobytes()
    path = tmp_path / "a.pth"
    path.write_bytes(start + b"\x80\x02}(" + views + b"u." + pickle.dumps(["7"], 2) + data)
    tracemalloc.start()
    try:
        state = read_state_dict(path)
        assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    finally:
        tracemalloc.stop()
    assert len(state) == 50 and all(state[f"t{n}"].tolist() == [n + 1, n + 2] for n in range(50))


# Zip archives


def test_a_directory_that_is_not_utf8(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(tiny_state(), path)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 8 : place + 10] = struct.pack("<H", 0x800)
    data[place + 46] = 0xFF
    path.write_bytes(data)
    assert all("archive's directory" in refusal(path, read) for read in (read_shapes, read_state_dict))


def directory(path: Path, offset: int, form: str, value: int) -> Path:
    """A file of torch.save in whose last entry of the directory one field is changed."""
    torch.save({"x": torch.zeros(100_000)}, path)
    data = bytearray(path.read_bytes())
    entry = next(
        place
        for place in range(len(data) - 46, 0, -1)
        if data[place : place + 4] == b"PK\x01\x02" and b"data/0" in data[place : place + 90]
    )
    struct.pack_into(form, data, entry + offset, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (6, "<H", 90),
        (24, "<I", 0xFFFFFFF0),
        (20, "<I", 0xFFFFFFF0),
        (42, "<I", 0xFFFFFFF0),
        (8, "<H", 1),
        (10, "<H", 8),
        (10, "<H", 99),
        (16, "<I", 1),
    ],
    ids=["version", "length", "packed length", "place", "encrypted", "deflated", "unknown method", "checksum"],
)
def test_a_directory_that_lies(tmp_path, offset, form, value):
    refusal(directory(tmp_path / "a.pth", offset, form, value))


def test_parts_that_lie_over_one_another(tmp_path):
    """Twenty storages, all of them the same bytes of the file."""
    path = tmp_path / "a.pth"
    torch.save({f"{n}": torch.zeros(100_000) for n in range(20)}, path)
    with zipfile.ZipFile(path) as old:
        infos = {info.filename.split("/")[-1]: info for info in old.infolist() if "/data/" in info.filename}
        pickled = next(old.read(info) for info in old.infolist() if info.filename.endswith("data.pkl"))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as new:
        new.writestr("a/data.pkl", pickled)
        new.writestr("a/data/0", bytes(400_000))
        first = new.getinfo("a/data/0")
        for name in infos:
            copy = zipfile.ZipInfo(f"a/data/{name}")
            copy.header_offset, copy.CRC, copy.file_size, copy.compress_size = first.header_offset, first.CRC, 400_000, 400_000
            if name != "0":
                new.filelist.append(copy)
                new.NameToInfo[copy.filename] = copy
        new._didModify = True
    path.write_bytes(out.getvalue())
    assert path.stat().st_size < MIB
    assert "share the same data" in refusal(path)
    # Few of them asked for, so that it is the archive itself that must notice.
    small = pickle_of({"0": 100_000, "1": 100_000})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", small)
        archive.writestr("a/data/0", bytes(400_000))
        copy = zipfile.ZipInfo("a/data/1")
        first = archive.getinfo("a/data/0")
        copy.header_offset, copy.CRC, copy.file_size, copy.compress_size = first.header_offset, first.CRC, 400_000, 400_000
        archive.filelist.append(copy)
        archive.NameToInfo[copy.filename] = copy
    assert "overlap" in refusal(path)


def pickle_of(storages: dict[str, int]) -> bytes:
    out = b"\x80\x02}("
    for key, numel in storages.items():
        count = b"J" + struct.pack("<i", numel)
        storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + count + b"tQ"
        out += text(key) + TENSOR + b"(" + storage + b"K\x00(" + count + b"t(K\x01t\x89NtR"
    return out + b"u."


def test_a_directory_of_gigabytes(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        info = zipfile.ZipInfo("b")
        info.header_offset = info.CRC = 0
        archive.filelist += [info] * 60_000
    assert "archive" in refusal(path)
