"""The form of the network that runs, against the official outputs and against the plain form; and its strips."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from half_help import HALVES, needs_fp16
from test_network import CASES, seeded
from torch import Tensor
from torch.nn import functional as F

from gpen_core.errors import GpenError
from gpen_core.network import run as runs
from gpen_core.network.build import build_fused
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.load import load_network
from gpen_core.network.modules import Generator
from gpen_core.network.place import place
from gpen_core.network.run import run_network, run_pictures
from gpen_core.network.tiles import padded, rows_of, run_in_strips, spans
from gpen_core.pictures import read_picture
from gpen_core.runtime import free_memory, is_out_of_memory
from gpen_core.weights.architecture import Architecture

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "portrait.png"
LITE = "GPEN-BFR-256-lite"


def lively(architecture: Architecture, seed: int = 5) -> Generator:
    """Random weights with nothing at zero: biases, feature weights and noise all count."""
    torch.manual_seed(seed)
    network = Generator(architecture).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            parameter.add_(torch.randn_like(parameter) * 0.1)
        elif name.endswith("noise.weight"):
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return network


def picture(size: int, count: int = 1, seed: int = 3) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


@pytest.mark.parametrize("placed", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_golden_output(golden_folder: Path, recipe: ModuleType, case: str, placed: bool) -> None:
    golden = np.load(golden_folder / f"net_{case}.npz")
    fused = FusedGenerator(seeded(recipe, CASES[case]))
    if placed:
        place(fused, "cpu")
    y = fused(torch.from_numpy(recipe.make_input(CASES[case].size))).numpy()
    assert np.abs(y - golden["full"]).max() <= 2e-5


@pytest.mark.parametrize("architecture", [Architecture(64, 2, 0.25), Architecture(128, 1, 0.5), Architecture(256, 2, 0.125)])
@pytest.mark.parametrize("count", [1, 3])
def test_fused_is_plain(architecture: Architecture, count: int) -> None:
    plain = lively(architecture)
    x = picture(architecture.size, count)
    with torch.inference_mode():
        expected = plain(x)
    assert (FusedGenerator(plain)(x) - expected).abs().max() <= 2e-5 * max(1.0, float(expected.abs().max()))


def test_a_batch_is_its_pictures_one_by_one() -> None:
    fused = FusedGenerator(lively(Architecture(64, 2, 0.25)))
    x = picture(64, 3)
    alone = torch.cat([fused(one[None]) for one in x])
    assert (fused(x) - alone).abs().max() <= 1e-5


@pytest.mark.parametrize(("whole", "strip"), [(8, 64), (16, 5), (16, 16), (32, 7), (32, 33), (64, 1), (64, 128), (128, 9)])
@pytest.mark.parametrize("count", [1, 2])
def test_strips_leave_no_seam(whole: int, strip: int, count: int) -> None:
    fused = FusedGenerator(lively(Architecture(128, 2, 0.125)))
    x = picture(128, count).contiguous(memory_format=torch.channels_last)
    difference = (run_in_strips(fused, x, whole=whole, strip=strip) - fused(x, tiled=False)).abs()
    assert difference.max() <= 2e-5
    # At every border between strips as exactly as anywhere else.
    borders = [row for first, end in spans(128, strip) for row in (first, end - 1)]
    assert difference[:, :, borders].max() <= 2e-5


def test_processors_take_strips_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they were measured to be faster: float32 from 512, half precision from 1024."""
    taken: list[int] = []
    monkeypatch.setattr("gpen_core.network.tiles.run_in_strips", lambda network, x, *, whole, ask: taken.append(whole) or x)
    for size, dtype, strips in ((256, torch.float32, 0), (512, torch.float32, 1), (512, torch.bfloat16, 0), (1024, torch.bfloat16, 1)):
        network = FusedGenerator(lively(Architecture(size, 2, 1 / 8))).to(dtype)
        taken.clear()
        network(picture(size).to(dtype))
        assert taken == [size // 2] * strips, (size, dtype)
    # Asked for, as where memory is short, they begin at smaller maps.
    network(picture(1024).to(torch.bfloat16), tiled=True)
    assert taken[-1] == 256


def test_spans_and_padding() -> None:
    assert list(spans(10, 4)) == [(0, 4), (4, 8), (8, 10)]
    x = torch.ones(1, 1, 4, 2)
    assert padded(x, 1, 2).shape == (1, 1, 7, 2) and not padded(x, 1, 0)[:, :, 0].any()
    assert padded(x, -1, -2).shape == (1, 1, 1, 2)


def test_styles_stay_in_float32() -> None:
    plain = lively(Architecture(64, 2, 0.25))
    half = FusedGenerator(plain).to(torch.bfloat16)
    assert next(half.parameters()).dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(half.styles.parameters(), FusedGenerator(plain).styles.parameters(), strict=True))
    assert half.float().styles.weight.dtype == torch.float32


def near(whole: Tensor, half: Tensor) -> bool:
    """What `auto` may differ from float32, in -1..1."""
    difference = (whole - half).abs()
    return bool(difference.max() <= 0.03 and difference.mean() <= 0.004)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_near_on_a_portrait(dtype: torch.dtype) -> None:
    portrait = torch.from_numpy(read_picture(EXAMPLE).pixels[32:288, 32:288]).permute(2, 0, 1)[None] * 2 - 1
    whole, half = load_network(LITE)(portrait), load_network(LITE, dtype=dtype)(portrait.to(dtype))
    assert half.dtype == torch.float32, "a picture in half precision would be banded"
    assert near(whole, half)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("case", "placed"), [*((case, False) for case in CASES), ("256", True)])
def test_half_precision_is_near_the_official_output(
    golden_folder: Path, recipe: ModuleType, case: str, placed: bool, dtype: torch.dtype
) -> None:
    """placed: cast as any module after weights took the form for float32."""
    golden = np.load(golden_folder / f"net_{case}.npz")
    fused = FusedGenerator(seeded(recipe, CASES[case]))
    if placed:
        place(fused, "cpu")
    fused.to(dtype)
    x = torch.from_numpy(recipe.make_input(CASES[case].size)).to(dtype)
    assert near(torch.from_numpy(golden["full"]), fused(x))


@pytest.mark.parametrize("count", [1, 2])
def test_rows_of_a_map_have_the_strides_of_a_map_of_their_own(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """torch 2.0's transposed convolutions compute nonsense for one picture's rows if its stride is that of the whole map."""
    right, steps = F.conv_transpose2d, list[tuple[int, ...]]()

    def convolved(x: Tensor, *given: Any, **more: Any) -> Tensor:
        steps.append((*x.shape, *x.stride()))
        return right(x, *given, **more)

    monkeypatch.setattr(F, "conv_transpose2d", convolved)
    fused = FusedGenerator(lively(Architecture(128, 2, 0.125)))
    run_in_strips(fused, picture(128, count).contiguous(memory_format=torch.channels_last), whole=32, strip=16)
    assert len(steps) > 20
    if count == 1:
        assert all(step == (1, c, h, w, c * h * w, 1, c * w, c) for step in steps for _, c, h, w in [step[:4]])
    x = picture(16, count).contiguous(memory_format=torch.channels_last)
    assert torch.equal(rows_of(x, 3, 9), x[:, :, 3:9]) and rows_of(x, 3, 9).data_ptr() == x[:, :, 3:9].data_ptr()


def test_strips_round_as_the_whole_does() -> None:
    """In bfloat16 a modulation that met activations in one and weights in the other would show."""
    fused = FusedGenerator(lively(Architecture(128, 2, 0.125))).to(torch.bfloat16)
    x = picture(128).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    assert (run_in_strips(fused, x, whole=32, strip=24) - fused(x)).abs().mean() <= 2e-4


@needs_fp16
def test_modulation_has_room_in_half_precision() -> None:
    """Styles that overflow float16 in the plain form; here they are brought to 1 before they meet an activation."""
    plain = lively(Architecture(64, 2, 0.25))
    for name, parameter in plain.named_parameters():
        if "modulation" in name and "to_rgb" not in name:
            parameter.mul_(3e4)
    x = picture(64)
    expected = plain(x)
    half = FusedGenerator(plain).to(torch.float16)(x.half())
    assert torch.isfinite(half).all()
    assert (half.float() - expected).abs().mean() < 0.02 * float(expected.abs().max())


def test_official_state_dicts_become_fused(recipe: ModuleType) -> None:
    state = {key: torch.from_numpy(np.array(value)) for key, value in recipe.make_state_dict(recipe.gpen_shapes(64, 2, 0.25)).items()}
    fused = build_fused(state)
    assert fused.size == 64 and fused.architecture == CASES["64n0.25"]
    assert not any(parameter.requires_grad for parameter in fused.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loaded_in_a_hosts_inference_mode_and_moved_outside(dtype: torch.dtype) -> None:
    """As ComfyUI does when its models are unloaded by hand between two runs."""
    with torch.inference_mode():
        network = load_network(LITE, dtype=dtype)
    network.to(torch.bfloat16 if dtype == torch.float32 else torch.float32)
    assert run_network(network, face(size=256)).shape == (256, 256, 3)


# --- run.py -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> FusedGenerator:
    return FusedGenerator(lively(Architecture(64, 2, 0.25)))


@pytest.fixture(scope="module")
def large() -> FusedGenerator:
    """The least network with a resolution above 512."""
    return FusedGenerator(lively(Architecture(1024, 2, 1 / 8)))


def face(seed: int = 1, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).random((size, size, 3), np.float32)


def test_a_batch_of_faces(small: FusedGenerator) -> None:
    together = run_pictures(small, [face(1), face(2), face(3)])
    assert all(np.abs(one - run_network(small, face(seed))).max() < 1e-5 for seed, one in enumerate(together, 1))


def test_strips_on_demand_give_the_same(large: FusedGenerator) -> None:
    expected = run_network(large, face(size=1024), tiled=False)
    assert np.abs(run_network(large, face(size=1024), tiled=True) - expected).max() < 2e-5


@pytest.mark.parametrize("free", [None, 10**12, 1000])
def test_strips_are_chosen_by_free_memory(small: FusedGenerator, monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    asked: list[bool | None] = []

    def forward(self: FusedGenerator, x: Tensor, tiled: bool | None = None) -> Tensor:
        asked.append(tiled)
        return x

    monkeypatch.setattr(FusedGenerator, "forward", forward)
    monkeypatch.setattr(runs, "free_memory", lambda device: free)
    run_network(small, face())
    assert asked == [True if free == 1000 else None]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Allocator: not enough memory"), torch.cuda.OutOfMemoryError("x")])
def test_too_little_memory_is_tried_again_in_strips(
    large: FusedGenerator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    real = FusedGenerator.forward

    def forward(self: FusedGenerator, x: Tensor, tiled: bool | None = None) -> Tensor:
        if not tiled:
            raise error
        return real(self, x, tiled=True)

    expected = run_network(large, face(size=1024), tiled=True)
    monkeypatch.setattr(FusedGenerator, "forward", forward)
    assert np.abs(run_network(large, face(size=1024), tiled=False) - expected).max() < 2e-5
    assert caplog.text.count("strips") == 1


def test_too_little_memory_for_strips_as_well_is_the_devices_own_error(small: FusedGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, bool]] = []

    def forward(self: FusedGenerator, x: Tensor, tiled: bool | None = None) -> Tensor:
        tried.append((len(x), tiled))
        raise RuntimeError("not enough memory: you tried to allocate 7 bytes")

    monkeypatch.setattr(FusedGenerator, "forward", forward)
    with pytest.raises(RuntimeError, match="7 bytes"):
        run_pictures(small, [face(1), face(2)], tiled=False)
    assert tried == [(2, False), (1, False), (1, True)]
    tried.clear()
    with pytest.raises(RuntimeError, match="7 bytes"):
        run_network(small, face(), tiled=True)
    assert tried == [(1, True)]


def test_other_errors_are_not_taken_for_it(small: FusedGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: FusedGenerator, x: Tensor, tiled: bool | None = None) -> Tensor:
        raise RuntimeError("broken")

    monkeypatch.setattr(FusedGenerator, "forward", forward)
    with pytest.raises(RuntimeError, match="broken"):
        run_network(small, face())


@needs_fp16
def test_values_that_are_no_numbers_are_computed_again(caplog: pytest.LogCaptureFixture) -> None:
    plain = lively(Architecture(64, 2, 0.25))
    fused = FusedGenerator(plain)
    # Behind the factors that keep float16 in range (test_half_range.py). It ends at 65504: the weights fit, their sums do not.
    fused.encodings[0].weight.fill_(5e4)
    half = fused.to(torch.float16)
    white = np.ones((64, 64, 3), np.float32)
    white[:9] = 0.4
    assert not torch.isfinite(half(torch.ones(1, 3, 64, 64).half())).all()
    result = run_network(half, white)
    assert np.isfinite(result).all() and result.std() > 0 and "recomputing this face in float32" in caplog.text
    assert next(half.parameters()).dtype == torch.float16


def test_a_network_of_nans_is_refused(small: FusedGenerator) -> None:
    broken = FusedGenerator(lively(Architecture(64, 2, 0.25)))
    broken.constant.fill_(float("nan"))
    with pytest.raises(GpenError, match="invalid values"):
        run_network(broken, face())


def test_free_memory_is_known_where_the_system_tells() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or 10**7 < free < 10**14
    assert free_memory(torch.device("meta")) is None


def test_what_out_of_memory_looks_like() -> None:
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 3 GB)"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch")) and not is_out_of_memory(ValueError("out of memory"))
