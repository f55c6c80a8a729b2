"""Recognises what a file is, so that the error about a wrong file helps the user.

`file_kind` checks the first bytes, `describe_keys` the names of the tensors. Nothing is unpickled here.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Literal

from ...errors import DamagedWeightsError, WeightsError, shown

FileKind = Literal["zip", "pickle", "safetensors", "onnx"]

WANTED = "a GPEN generator (.pth, .safetensors or .onnx)"

# First bytes of files that people download instead, and what to call them.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer: a few lines in place of the real file, which was not downloaded (git lfs pull)"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"RIFF", "a WebP picture or a sound"),
    (b"GGUF", "a GGUF language or diffusion model"),
    (b"\x89HDF", "an HDF5 file (Keras)"),
    (b"\x1f\x8b", "a gzip archive, which must be unpacked first"),
    (b"7z\xbc\xaf", "a 7z archive, which must be unpacked first"),
    (b"Rar!", "a RAR archive, which must be unpacked first"),
    (b"%PDF", "a PDF document"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
)
_HTML = re.compile(rb"^\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body|\?xml)", re.IGNORECASE | re.DOTALL)
_OLD_PICKLE = re.compile(rb"[(\]}]*[ci][\w.]+\n[\w.]+\n|[(\]}]")  # protocols 0 and 1: a class's name, or a container
_LARGEST_HEADER = 100_000_000  # bytes, as in the safetensors library


def looks_like_page(head: bytes) -> bool:
    """True if the first bytes are those of an HTML or XML page: a server's error message saved as a weight file."""
    return _HTML.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def file_kind(path: Path) -> FileKind:
    """The kind of a file, by its content, not its name. Raises WeightsError, which says what the file is, if it holds no tensors."""
    name = shown(path, 300)
    try:
        # Checked before opening, because opening a pipe waits for a writer.
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise WeightsError(f"'{name}' cannot be read (it is a device or a pipe); {WANTED} is needed.")
        with path.open("rb") as file:
            head = file.read(1024)
    except FileNotFoundError as error:
        raise WeightsError(f"'{name}' does not exist; {WANTED} is needed.") from error
    except (OSError, ValueError) as error:  # ValueError: an invalid name
        told = error.strerror if isinstance(error, OSError) else None
        raise WeightsError(f"'{name}' cannot be read ({told or shown(error)}); {WANTED} is needed.") from error
    if not head:
        raise DamagedWeightsError(f"'{name}' is empty (a broken download); delete it and download {WANTED} again.")
    if head.startswith(b"PK"):
        return "zip"
    # A safetensors file begins with the length of its header, then the header's opening brace.
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length < _LARGEST_HEADER:
        return "safetensors"
    if looks_like_page(head):
        raise DamagedWeightsError(f"'{name}' is an HTML page from a server, not a weight file; delete it and download {WANTED} again.")
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise WeightsError(f"'{name}' is {what}; {WANTED} is needed.")
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    # ONNX is protobuf without magic bytes: field 1 (the version, a small number), then another known field of the model.
    if (
        head[:1] == b"\x08"
        and b"\x01" <= head[1:2] <= b"\x20"
        and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x28", b"\x32", b"\x3a", b"\x42")
    ):
        return "onnx"
    if _OLD_PICKLE.match(head):
        return "pickle"
    if _is_text(head):
        raise WeightsError(f"'{name}' is a text file; {WANTED} is needed.")
    if set(head) == {0}:
        raise DamagedWeightsError(f"'{name}' contains only zeros (a broken download); delete it and download {WANTED} again.")
    raise WeightsError(f"'{name}' is an unknown kind of file; {WANTED} is needed.")


def _is_text(head: bytes) -> bool:
    # "ignore", because the last character may be cut in two. Text holds no control characters except white space.
    text = head.decode("utf-8", "ignore")
    return len(text.encode()) >= len(head) - 3 and all(c.isprintable() or c in "\t\r\n\f" for c in text)


# A network is recognised by tensor names that must all occur ("*" matches anything). The first match counts.
_SIGNATURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("a Stable Diffusion checkpoint", ("model.diffusion_model.*",)),
    ("a diffusion model", ("double_blocks.*", "single_blocks.*")),
    ("a VAE of Stable Diffusion", ("encoder.down.*", "decoder.up.*", "post_quant_conv.*", "decoder.mid.*", "quant_conv.*")),
    ("a LoRA", ("*lora_*",)),
    ("a GFPGAN generator", ("stylegan_decoder*", "conv_body_first*")),
    ("a CodeFormer network", ("quantize.embedding.*", "idx_pred_layer.*")),
    ("a RestoreFormer network", ("*quantize.embedding.*", "*encoder.conv_in.*", "*decoder.conv_out.*")),
    ("a RetinaFace detector", ("ClassHead.*", "BboxHead.*", "LandmarkHead.*")),
    ("a ParseNet face parser", ("out_mask_conv.*", "out_img_conv.*")),
    ("a BiSeNet face parser", ("cp.*", "ffm.*", "conv_out.*")),
    ("an ArcFace recogniser (model_ir_se50)", ("input_layer.*", "output_layer.*", "body.*")),
    ("a Real-ESRGAN upscaler", ("conv_first.*", "body.*rdb1.*")),
    ("an ESRGAN upscaler", ("RRDB_trunk.*",)),
    ("an ESRGAN upscaler", ("model.*RDB1.*",)),
    ("a compact Real-ESRGAN upscaler", ("body.0.weight", "body.1.weight", "body.2.weight")),
    ("a GPEN discriminator", ("final_conv.*", "final_linear.1.*", "convs.*")),
    ("a StyleGAN2 generator without GPEN's encoder", ("to_rgb1.*", "style.*", "convs.*")),
    ("a training checkpoint without the averaged generator 'g_ema'", ("g", "d")),
    ("a training checkpoint without the averaged generator 'g_ema'", ("g",)),
    ("a training checkpoint with the discriminator only", ("d", "d_optim")),
    ("a part of a GPEN generator", ("generator.style.*",)),
)


# More names than any network has are not worth checking.
_MOST_NAMES = 20_000


def describe_keys(keys: Iterable[str]) -> str:
    """The network that tensors with these names belong to, e.g. "a CodeFormer network"; "an unknown network ..." otherwise."""
    names = [key.removeprefix("module.") for key in islice(keys, _MOST_NAMES)]
    for what, patterns in _SIGNATURES:
        if all(_occurs(pattern, names) for pattern in patterns):
            return what
    if not names:
        return "a file without tensors"
    return f"an unknown network (its first tensor is '{shown(names[0])}')"


def _occurs(pattern: str, names: list[str]) -> bool:
    first, *rest = pattern.split("*")
    if not rest:
        return first in names
    return any(_fits(name, first, rest) for name in names if name.startswith(first))


def _fits(name: str, first: str, rest: list[str]) -> bool:
    """True if a pattern's parts follow one another in a name. (A regular expression would try every combination.)"""
    place = len(first)
    for part in rest[:-1]:
        place = name.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return name.endswith(rest[-1]) and len(name) - len(rest[-1]) >= place
