"""The typed table of all weight files, used for look-up, download, verification, docs and tests.

Figures and addresses come from public sources, collected 2026-11-21 (listed in docs/weights.md). Nobody publishes the sha256 of an
official .pth; `weights.download` records the sum of the first download and refuses changes afterwards.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from ..errors import SettingsError

Task = Literal["restore", "colorize", "inpaint", "seg2face"]
Template = Literal["gpen", "ffhq"]

OFFICIAL_LICENCE = (
    'GPEN weights: © Alibaba, 2021. The official README said "For academic and non-commercial use only" until 2026-03-10; '
    "the repository has carried no licence since. Ask the authors (github.com/yangxy/GPEN) before any commercial use."
)
EMBEDDED_LICENCE = "Trained by this project; see the model card beside the file."
EMBEDDED_FOLDER = Path(__file__).resolve().parent / "embedded"

_OSS = "https://public-vigen-video.oss-cn-shanghai.aliyuncs.com/robin/models/"
_MODELSCOPE = "https://www.modelscope.cn/models/iic/cv_gpen_image-portrait-enhancement-hires/resolve/master/"
_FOOOCUS = "https://huggingface.co/shaitanzx/FooocusExtend/resolve/main/"
_VIDEO_RETALKING = "https://github.com/vinthony/video-retalking/releases/download/v0.0.1/"
_FACEFUSION = (
    "https://huggingface.co/facefusion/models-3.0.0/resolve/main/",
    "https://github.com/facefusion/facefusion-assets/releases/download/models-3.0.0/",
)

_WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".onnx")


@dataclass(frozen=True)
class OtherForm:
    """The same weights in another file, as used by other programs.

    filename: its name in those programs. size_bytes: exact length, if known. sha256: lower-case hex. source: the programs that use it.
    urls: download addresses that are public and stable.
    """

    filename: str
    size_bytes: int | None
    sha256: str
    source: str
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightFile:
    """One set of weights.

    name: what users type. filename: the file in models/GPEN. size: side of the square picture, in pixels.
    template: the alignment template of this network. urls: mirrors, best first. sha256, size_bytes: of the whole file, None if
    unpublished. parameters: number of learnable parameters. tensor_bytes: float32 bytes of all tensors, including the FIR kernels.
    embedded: ships with the project (in gpen_core/weights/embedded). known_onnx: other files with the same weights.
    aliases: other names that users may type.
    """

    name: str
    filename: str
    task: Task
    size: int
    channel_multiplier: float
    narrow: float
    template: Template
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    size_bytes: int | None = None
    parameters: int | None = None
    tensor_bytes: int | None = None
    licence: str = OFFICIAL_LICENCE
    embedded: bool = False
    known_onnx: tuple[OtherForm, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def filenames(self) -> tuple[str, ...]:
        """File names to search for first: its own, the mirrors' names for it, and those of its ONNX forms."""
        stem = Path(self.filename).stem
        mirrors = (url.rsplit("/", 1)[1] for url in self.urls)
        own = (self.filename, *(f"{stem}{suffix}" for suffix in (".safetensors", ".pth", ".pt", ".onnx")))
        return tuple(dict.fromkeys((*own, *mirrors, *(form.filename for form in self.known_onnx))))

    @property
    def known_sums(self) -> frozenset[str]:
        """sha256 sums (lower-case hex) of all files known to hold these weights."""
        own = (self.sha256,) if self.sha256 else ()
        return frozenset((*own, *(form.sha256 for form in self.known_onnx)))


class Catalog:
    """All weight files, in order. Iterate over it, or look up a name: `Catalog.default().get("gpen-bfr-2048")`."""

    def __init__(self, files: Iterable[WeightFile]) -> None:
        """Raises SettingsError if a name, a file name or a sha256 occurs twice."""
        self._files = tuple(files)
        seen: dict[str, str] = {}
        for entry in self._files:
            for mark in {entry.name.lower(), entry.filename.lower(), *entry.aliases, *entry.known_sums}:
                if mark in seen:
                    raise SettingsError(f"the catalogue lists '{mark}' twice: for {seen[mark]} and for {entry.name}")
                seen[mark] = entry.name
        self._keys: dict[str, WeightFile] = {}
        for entry in self._files:
            # A mirror's file name such as pytorch_model.pt is too general; only names that begin with "gpen" can be looked up.
            for key in (entry.name, *entry.aliases, *(name for name in entry.filenames if name.lower().startswith("gpen"))):
                self._keys.setdefault(_key(key), entry)

    @classmethod
    def default(cls) -> Catalog:
        """The catalogue of this project. Needs no network and no torch; reads one small JSON file."""
        return cls((*_official(), _embedded()))

    def __iter__(self) -> Iterator[WeightFile]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _key(name) in self._keys

    def __getitem__(self, name: str) -> WeightFile:
        return self.get(name)

    def get(self, name: str) -> WeightFile:
        """The entry with that name or file name, in any case, with or without extension. Raises SettingsError with similar names."""
        found = self._keys.get(_key(name))
        if found is not None:
            return found
        near = difflib.get_close_matches(_key(name), [_key(entry.name) for entry in self._files], n=3, cutoff=0.5)
        names = [self._keys[key].name for key in near]
        hint = f"did you mean {' or '.join(names)}?" if names else f"known models: {', '.join(self.names())}."
        raise SettingsError(f"unknown model '{name}'; {hint}")

    def names(self, task: Task | None = None) -> list[str]:
        """Names in catalogue order, for one task or for all tasks."""
        return [entry.name for entry in self._files if task is None or entry.task == task]


def _key(name: str) -> str:
    """The form in which names are compared: lower case, without a weight file's extension."""
    lower = name.strip().lower()
    for suffix in _WEIGHT_SUFFIXES:
        if lower.endswith(suffix):
            return lower[: -len(suffix)]
    return lower


def _facefusion(size: int, size_bytes: int, sha256: str) -> OtherForm:
    name = f"gpen_bfr_{size}.onnx"
    return OtherForm(name, size_bytes, sha256, "FaceFusion models-3.0.0", tuple(base + name for base in _FACEFUSION))


def _official() -> tuple[WeightFile, ...]:
    several, others = "ReActor, VisoMaster, rope", "VisoMaster, rope"
    return (
        WeightFile(
            "GPEN-BFR-256", "GPEN-BFR-256.pth", "restore", 256, 1, 0.5, "gpen",
            urls=(f"{_OSS}GPEN-BFR-256.pth",),
            parameters=18_879_010, tensor_bytes=75_517_192,
            known_onnx=(
                _facefusion(256, 75_792_988, "bad8bf0426873828df2dbf4e3b3d9ababba9da7965b8b72426569486f7ae5c25"),
                OtherForm("GPEN-BFR-256.onnx", 75_715_262, "aa5bd3ab238640a378c59e4a560f7a7150627944cf2129e6311ae4720e833271", others),
            ),
        ),
        WeightFile(
            "GPEN-BFR-512", "GPEN-BFR-512.pth", "restore", 512, 2, 1, "gpen",
            urls=(f"{_OSS}GPEN-BFR-512.pth", f"{_VIDEO_RETALKING}GPEN-BFR-512.pth", f"{_FOOOCUS}faces/GPEN-BFR-512.pth"),
            parameters=71_005_223, tensor_bytes=284_022_236,
            known_onnx=(
                _facefusion(512, 284_340_240, "d5f066b9068a8b74217f9712e28e875a6144629b108a6f7355acbdb3a2832c54"),
                # Another source gives 284,449,835 bytes, so the length is left out.
                OtherForm("GPEN-BFR-512.onnx", None, "0960f836488735444d508b588e44fb5dfd19c68fde9163ad7878aa24d1d5115e", others),
                OtherForm("GPEN-BFR-512.onnx", 284_244_491, "bf80acb8e91ba8852e3f012505be2c3b6cd6b3eed5ec605e3db87863c4e74d4e", "ReActor"),
            ),
        ),
        WeightFile(
            "GPEN-BFR-1024", "GPEN-BFR-1024.pth", "restore", 1024, 2, 1, "gpen",
            urls=(f"{_MODELSCOPE}pytorch_model.pt", f"{_FOOOCUS}GPEN-BFR-1024.pt"),
            parameters=71_210_540, tensor_bytes=284_843_696,
            known_onnx=(
                _facefusion(1024, 285_203_703, "bcd31aa52110a2005efc96abbab4546d57e42482648f08715b552423d96b381b"),
                OtherForm("GPEN-BFR-1024.onnx", None, "cec8892093d7b99828acde97bf231fb0964d3fb11b43f3b0951e36ef1e192a3e", several),
            ),
        ),
        WeightFile(
            "GPEN-BFR-2048", "GPEN-BFR-2048.pth", "restore", 2048, 2, 1, "gpen",
            aliases=("selfie",),  # what the official demo's users know it by
            # The authors took down their own copy in 2022.
            urls=(f"{_MODELSCOPE}pytorch_model-2048.pt", f"{_FOOOCUS}GPEN-BFR-2048.pt"),
            parameters=71_294_769, tensor_bytes=285_180_804,
            known_onnx=(
                _facefusion(2048, 285_582_766, "66d12a637118d71b00f5a290b8dac13c81c1c0326a127a1978799c6e17bb8d1f"),
                OtherForm("GPEN-BFR-2048.onnx", None, "d0229ff43f979c360bd19daa9cd0ce893722d59f41a41822b9223ebbe4f89b3e", several),
            ),
        ),
        WeightFile(
            "GPEN-Colorization-1024", "GPEN-Colorization-1024.pth", "colorize", 1024, 2, 1, "gpen",
            urls=(f"{_OSS}GPEN-Colorization-1024.pth",), parameters=71_210_540, tensor_bytes=284_843_696,
        ),
        WeightFile(
            "GPEN-Inpainting-1024", "GPEN-Inpainting-1024.pth", "inpaint", 1024, 2, 1, "gpen",
            urls=(f"{_OSS}GPEN-Inpainting-1024.pth",), parameters=71_210_540, tensor_bytes=284_843_696,
        ),
        WeightFile(
            "GPEN-Seg2face-512", "GPEN-Seg2face-512.pth", "seg2face", 512, 2, 1, "gpen",
            urls=(f"{_OSS}GPEN-Seg2face-512.pth",), parameters=71_005_223, tensor_bytes=284_022_236,
        ),
    )  # fmt: skip


def _embedded() -> WeightFile:
    """The weights that ship with the project. The JSON file beside them holds the figures that change with each training."""
    name = "GPEN-BFR-256-lite"
    sidecar = EMBEDDED_FOLDER / f"{name}.json"
    facts: dict[str, Any] = {}
    if sidecar.is_file():
        facts = cast("dict[str, Any]", json.loads(sidecar.read_text(encoding="utf-8")))
    return WeightFile(
        name,
        f"{name}.safetensors",
        "restore",
        256,
        facts.get("channel_multiplier", 1),
        facts.get("narrow", 0.25),
        "ffhq",
        sha256=facts.get("sha256"),
        size_bytes=facts.get("bytes"),
        parameters=facts.get("parameters"),
        licence=EMBEDDED_LICENCE,
        embedded=True,
    )
