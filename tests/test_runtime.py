"""Which number type and which memory the machine offers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpen_core import runtime
from gpen_core.errors import SettingsError
from gpen_core.runtime import computes_bf16, pick_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(("native", "wanted"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_is_bfloat16_only_where_the_processor_has_it(native: bool, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "computes_bf16", lambda: native)
    assert pick_dtype("auto", CPU) is wanted
    assert pick_dtype("auto", torch.device("meta")) is torch.float32
    assert pick_dtype("fp32", CPU) is torch.float32 and pick_dtype("fp16", CPU) is torch.float16


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(SettingsError, match="fp64"):
        pick_dtype("fp64", CPU)


@pytest.mark.parametrize(
    ("features", "wanted"),
    [("flags : sse avx512f avx512_bf16", True), ("flags : amx_bf16", True), ("flags : avx2 avx512f", False), (None, False)],
)
def test_the_processor_is_asked_the_portable_way(features: str | None, wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older torch has nothing to ask; what the system lists counts then, and no answer is no."""

    def read_text(self: Path, encoding: str) -> str:
        if features is None:
            raise OSError
        return features

    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert computes_bf16.__wrapped__() is wanted


def test_without_onednn_there_is_no_fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert computes_bf16.__wrapped__() is False
