"""Hundreds of small weight files that try to run code, to reach other files, or to cost without end: one after another from corpus()."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Iterator

Made = tuple[str, bytes]  # a file's name and its content

# What a pickle of somebody else would call. The last ones are torch's and numpy's own, which read files or build modules.
CALLABLES = (
    "os system", "posix system", "nt system", "builtins eval", "builtins exec", "builtins __import__", "builtins getattr", "builtins open",
    "__builtin__ eval", "subprocess Popen", "subprocess check_output", "importlib import_module", "runpy run_path", "code interact",
    "pty spawn", "ctypes CDLL", "webbrowser open", "urllib.request urlopen", "socket create_connection", "shutil rmtree", "shutil copyfile",
    "pathlib Path.unlink", "operator attrgetter", "operator methodcaller", "functools partial", "types FunctionType", "types CodeType",
    "marshal loads", "pickle loads", "_pickle loads", "copyreg _reconstructor", "copyreg __newobj__", "collections OrderedDict.__init__",
    "torch load", "torch.hub load", "torch.serialization load", "torch.jit load", "torch.utils.cpp_extension load",
    "torch._utils _rebuild_tensor_v3", "torch._utils _rebuild_device_tensor_from_numpy", "torch.nn.modules.linear Linear",
    "numpy load", "numpy.core.multiarray _reconstruct", "numpy fromfile", "numpy.testing._private.utils runstring",
    "pandas read_pickle", "gpen_core.weights.download download", "os.path join",
)  # fmt: skip


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def in_zip(pickled: bytes, **parts: bytes) -> bytes:
    """A file of torch.save with this pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for name, data in parts.items():
            archive.writestr(f"archive/data/{name.removeprefix('_')}", data)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def in_stream(pickled: bytes) -> bytes:
    """A file of torch before 1.6 with this pickle."""
    return b"".join(pickle.dumps(item, 2) for item in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})) + pickled


LAYOUTS = {"zip": in_zip, "stream": in_stream, "bare": lambda pickled: b"\x80\x02" + pickled}


def calls() -> Iterator[Made]:
    """Every way to name and to call a function."""
    argument = text("echo hostile > hostile-ran")
    for where in CALLABLES:
        module, name = where.split(" ")
        ways = {
            "global": f"c{module}\n{name}\n".encode() + argument + b"\x85R.",
            "stack": text(module) + text(name) + b"\x93" + argument + b"\x85R.",
            "inst": b"(" + argument + f"i{module}\n{name}\n.".encode(),
            "obj": b"(" + f"c{module}\n{name}\n".encode() + argument + b"o.",
            "newobj": f"c{module}\n{name}\n".encode() + argument + b"\x85\x81.",
            "in a dict": b"}" + text("final_linear.0.weight") + f"c{module}\n{name}\n".encode() + argument + b"\x85Rs.",
            "state": b"ccollections\nOrderedDict\n)R" + f"c{module}\n{name}\n".encode() + b"b.",
        }
        for number, (way, pickled) in enumerate(ways.items()):
            layout = list(LAYOUTS)[number % len(LAYOUTS)]
            yield f"{module}-{name}-{way}-{layout}.pth", LAYOUTS[layout](pickled)


def opcodes() -> Iterator[Made]:
    """Every opcode without what it needs, with an argument that lies, and between tensors."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
    for one in pickletools.opcodes:
        code = one.code.encode("latin-1")
        for what, argument in {"bare": b"", "lying": b"\xff" * 9 + b"\n" + b"\xff\n", "zero": bytes(9) + b"\n\n"}.items():
            pickled = code + argument + b"."
            yield f"{one.name}-{what}.pth", in_zip(pickled, _0=bytes(16)) if what == "lying" else in_stream(pickled)
        yield f"{one.name}-in-a-dict.pth", in_zip(b"}(" + text("x") + storage + code + bytes(8) + b"u.", _0=bytes(16))


def archives() -> Iterator[Made]:
    """Zip files that lie."""
    good = b"}" + text("x") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\nFloatStorage\n"
    good += text("0") + text("cpu") + b"K\x04tQK\x00K\x04\x85K\x01\x85\x89}tRs."
    whole = in_zip(good, _0=bytes(16))
    end, directory = whole.rindex(b"PK\x05\x06"), whole.index(b"PK\x01\x02")
    for at in range(0, 22, 2):
        yield f"end-{at}.pth", whole[: end + at] + b"\xff\xff" + whole[end + at + 2 :]
    for at in range(4, 46, 2):
        yield f"directory-{at}.pth", whole[: directory + at] + b"\xff\xff" + whole[directory + at + 2 :]
    for at in range(4, 30, 2):
        yield f"part-{at}.pth", whole[:at] + b"\xff\x7f" + whole[at + 2 :]
    yield "inside-itself.pth", in_zip(whole, _0=whole)
    yield "two-ends.pth", whole + whole[end:]
    yield "before-it.pth", b"MZ" + bytes(500) + whole
    for number, name in enumerate(("../../hostile-ran", "/hostile-ran", "C:\\hostile-ran", "archive/data/../../x")):
        out = io.BytesIO(whole)
        with zipfile.ZipFile(out, "a") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"cos\nsystem\n" + text("echo hostile > hostile-ran") + b"\x85R.")
        yield f"named-{number}.pth", out.getvalue()
    for which, name in {"pickles": "archive/data.pkl", "storages": "archive/data/0"}.items():
        out = io.BytesIO(whole)
        with zipfile.ZipFile(out, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there are two of that name is what is wanted
            archive.writestr(name, b"cos\nsystem\n" + text("echo hostile > hostile-ran") + b"\x85R.")
        yield f"two-{which}.pth", out.getvalue()
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", kind) as archive:
            archive.writestr("archive/data.pkl", good)
            archive.writestr("archive/data/0", bytes(1 << 24))
        yield f"bomb-{kind}.pth", out.getvalue()
    for shape in ((1 << 40,), (1 << 31, 1 << 31), (-1,), (0,) * 70):
        sizes = b"".join(b"\x8a\x08" + struct.pack("<q", side) for side in shape)
        pickled = good.replace(b"K\x04\x85K\x01\x85", b"(" + sizes + b"t(" + b"K\x01" * len(shape) + b"t")
        yield f"shape-{len(shape)}-{shape[0] % 97}.pth", in_zip(pickled, _0=bytes(16))
    yield "storage-too-short.pth", in_zip(good, _0=bytes(3))
    yield "storage-missing.pth", in_zip(good)
    yield "offset.pth", in_zip(good.replace(b"tQK\x00", b"tQM\xff\xff"), _0=bytes(16))
    yield "strides.pth", in_zip(good.replace(b"K\x01\x85\x89", b"M\xff\xff\x85\x89"), _0=bytes(16))


def headers() -> Iterator[Made]:
    """.safetensors files with headers that lie."""

    def one(**more: object) -> dict[str, object]:
        return {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **more}

    shapes = ([1 << 62], [1 << 31] * 4, [-1], [True], [1.5], ["1"], "1", None, [[1]], [0, 1 << 62], [1] * 5000)
    offsets = ([4, 0], [0, 1 << 62], [-4, 0], [0], [0, 4, 8], [0.0, 4.0], ["0", "4"], None, [1, 5], [0, 3])
    kinds = ("F31", "", 7, None, "f32", "PICKLE", "F64" * 1000, "F4", "I64", "C128")
    heads: list[object] = [{"x": one(shape=shape)} for shape in shapes]
    heads += [{"x": one(data_offsets=each)} for each in offsets] + [{"x": one(dtype=kind)} for kind in kinds]
    heads += [{"x": each} for each in (None, 1, [], "x", {}, {"dtype": "F32"})]
    heads += [{"__metadata__": each, "x": one()} for each in (None, 1, [], {"a": 1}, {"a": {"b": "c"}}, {"template": "../../x"})]
    heads += [{"x": one(), "y": one()}, {name * 9: one() for name in ("../x", "a\0b", "\n", "\u202e", "a" * 9999)}, [], 1, "x", None]
    for number, head in enumerate(heads):
        raw = json.dumps(head).encode()
        yield f"header-{number}.safetensors", len(raw).to_bytes(8, "little") + raw + bytes(4)
    raw = json.dumps({"x": one()}).encode()
    for length in (0, 1, len(raw) - 1, len(raw) + 1, len(raw) + 5, 1 << 31, (1 << 63) - 1, (1 << 64) - 1):
        yield f"length-{length % 9973}.safetensors", length.to_bytes(8, "little") + raw + bytes(4)
    for name, odd in {
        "twice": raw[:-1] + b"," + raw[1:], "deep": b'{"x":' * 20_000 + b"1" + b"}" * 20_000, "utf8": b'{"\xff":1}', "nul": bytes(99),
        "comment": b"{/**/}", "nan": b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', "digits": b'{"x":' + b"9" * 50_000 + b"}",
        "spaces": b"{" + b" " * 100_000 + b"}", "utf16": '{"x":1}'.encode("utf-16"),
    }.items():  # fmt: skip
        yield f"header-{name}.safetensors", len(odd).to_bytes(8, "little") + odd + bytes(4)


def varint(value: int) -> bytes:
    value %= 1 << 64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes | str) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def graphs() -> Iterator[Made]:
    """.onnx files that name other files, claim giant tensors, or are no graphs."""
    conv = field(1, field(1, "input") + field(1, "w") + field(2, "y") + field(4, "Conv"))

    def model(*parts: bytes) -> bytes:
        return field(1, 8) + field(3, "hostile") + field(7, b"".join(parts))

    def outside(location: str, **more: str) -> bytes:
        entries = {"location": location, **more}
        pairs = b"".join(field(13, field(1, key) + field(2, value)) for key, value in entries.items())
        return field(5, field(1, 4) + field(2, 1) + field(8, "w") + pairs + field(14, 1))

    places = ("/etc/passwd", "../../../etc/passwd", "secret.bin", "C:\\Windows\\win.ini", "\\\\server\\share\\x", "http://127.0.0.1:9/x",
              "file:///etc/passwd", "", ".", "a\0b", "/dev/zero", "/proc/self/mem", "hostile.onnx")  # fmt: skip
    for number, place in enumerate(places):
        yield f"outside-{number}.onnx", model(conv, outside(place))
        yield f"outside-offset-{number}.onnx", model(conv, outside(place, offset="-1", length="99999999999999"))
    for number, shape in enumerate(([1 << 62], [1 << 31] * 4, [-1], [0], [1 << 20] * 2, [1] * 5000)):
        sides = b"".join(field(1, side) for side in shape)
        for kind in (1, 7, 10, 99, -1):
            yield f"dims-{number}-{kind}.onnx", model(conv, field(5, sides + field(2, kind) + field(8, "w") + field(9, bytes(16))))
    for op in (
        "Loop",
        "If",
        "Scan",
        "ConstantOfShape",
        "Tile",
        "Expand",
        "Range",
        "OneHot",
        "Pad",
        "Resize",
        "Gather",
        "Reshape",
        "Custom",
    ):
        big = field(5, field(1, 2) + field(2, 7) + field(8, "n") + field(9, struct.pack("<2q", 1 << 40, 1 << 40)))
        grown = field(1, field(1, "n") + field(1, "n") + field(2, "w") + field(4, op) + field(7, "evil.domain"))
        yield f"grown-{op}.onnx", model(big, grown, conv)
        subgraph = field(5, field(1, "body") + field(6, b"".join([conv] * 3)) + field(20, 5))
        yield f"subgraph-{op}.onnx", model(big, field(1, field(1, "n") + field(2, "w") + field(4, op) + subgraph), conv)
    whole = model(conv, field(5, field(1, 4) + field(2, 1) + field(8, "w") + field(9, bytes(16))))
    for at in range(0, len(whole), 3):
        yield f"cut-{at}.onnx", whole[:at]
        yield f"length-{at}.onnx", whole[:at] + b"\xff\xff\xff\xff\x7f" + whole[at + 1 :]
    deep = conv
    for _ in range(3000):
        deep = field(5, field(6, deep))
    yield "deep.onnx", model(field(1, deep))
    yield "circle.onnx", model(*(field(1, field(1, a) + field(2, b) + field(4, "Add")) for a, b in (("w", "v"), ("v", "w"))), conv)
    yield "endless-number.onnx", field(1, 8)[:1] + b"\x80" * 100_000


def others() -> Iterator[Made]:
    """Files that are something else."""
    for name, start in {
        "program.pth": b"\x7fELF", "windows.pth": b"MZ", "script.pth": b"#!/bin/sh\ntouch hostile-ran\n", "page.pth": b"<!DOCTYPE html>",
        "gzip.pth": b"\x1f\x8b\x08", "tar.pth": b"x" * 257 + b"ustar\0", "python.pth": b"import os; os.system('touch hostile-ran')\n",
        "hdf5.pth": b"\x89HDF\r\n\x1a\n", "numpy.pth": b"\x93NUMPY\x01\x00", "picture.pth": b"\x89PNG\r\n\x1a\n", "empty.pth": b"",
        "zeros.pth": bytes(4096), "pointer.pth": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    }.items():  # fmt: skip
        yield name, start
        yield "long-" + name, start + bytes(range(256)) * 40


def corpus() -> Iterator[Made]:
    """All of them, numbered, so that no two have one name."""
    every = (made for kind in (calls, opcodes, archives, headers, graphs, others) for made in kind())
    for number, (name, content) in enumerate(every):
        stem, suffix = name.rsplit(".", 1)
        yield f"{number:04d}-{stem.replace('.', '_').replace(' ', '_')[:60]}.{suffix}", content
