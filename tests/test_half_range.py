"""float16 chosen by hand: weights with which the official form overflows, and ours does not (gpen_core/network/ranges.py)."""

from __future__ import annotations

import re
from copy import deepcopy
from types import ModuleType

import official_like
import pytest
import torch
from emulated_card import NAME, Card
from half_help import needs_fp16
from torch import Tensor

from gpen_core.network.build import build_fused
from gpen_core.network.fused import FusedGenerator
from gpen_core.network.ranges import Ranges
from gpen_core.network.tiles import run_in_strips


@pytest.fixture(scope="module")
def official(recipe: ModuleType) -> tuple[official_like.OfficialLike, dict[str, Tensor], Tensor]:
    network, state = official_like.make(recipe)
    return network, state, torch.from_numpy(recipe.make_input(64))


# name: ((pattern of keys, factor), ...). In brackets: where float16 overflows in the official form.
SCALED = {
    "first encoder layer": ((r"^ecd0\..*(weight|bias)", 3e5),),  # its activations
    "every encoder layer": ((r"^ecd\d\..*weight", 40.0),),  # more from layer to layer
    "encoder, taken back": ((r"^ecd1\..*weight", 1e6), (r"noise\.weight$", 1e-6), (r"^final_linear.*weight", 1e-6)),
    "a fading encoder": ((r"^ecd\d\..*weight", 0.01), (r"noise\.weight$", 1e3)),
    "demodulated weights": ((r"convs\.\d+\.conv\.weight$", 2e5),),  # the weights
    "small demodulated weights": ((r"convs\.\d+\.conv\.weight$", 1e-3),),
    "features in the decoder": ((r"noise\.weight$", 1e6), (r"to_rgbs?\d?.*conv\.weight$", 1e-6)),  # the decoder's maps
    "biases of the decoder": ((r"activate\.bias$", 1e7), (r"to_rgbs?\d?.*conv\.weight$", 1e-6)),
    "latents": ((r"^final_linear.*weight", 1e3),),  # their squares
    "styles of the picture": ((r"to_rgbs?\d?.*modulation\.(weight|bias)$", 1e5), (r"to_rgbs?\d?.*conv\.weight$", 1e-5)),
    "loud styles of the picture": ((r"to_rgbs?\d?.*modulation\.(weight|bias)$", 1e6),),
    "styles": ((r"conv.*\.conv\.modulation\.(weight|bias)$", 1e5),),
}

NOTHING = Ranges([1.0] * 5, 1.0, [1.0] * 9, [1.0] * 5)


def scaled(state: dict[str, Tensor], factors: tuple[tuple[str, float], ...]) -> dict[str, Tensor]:
    changed = {key: tensor.clone() for key, tensor in state.items()}
    for pattern, factor in factors:
        keys = [key for key in changed if re.search(pattern, key)]
        assert keys, pattern
        for key in keys:
            changed[key] *= factor
    return changed


def near(whole: Tensor, half: Tensor) -> bool:
    """The bounds of half precision (docs/gpen.md), in parts of what the picture holds."""
    difference, scale = (whole - half).abs(), float(whole.abs().max())
    return bool(difference.max() <= 0.03 * max(1, scale) and difference.mean() <= 0.004 * max(1, scale))


@pytest.mark.parametrize("case", SCALED)
def test_float16_stays_finite_and_near_where_the_official_form_overflows(card: Card, official, case: str) -> None:
    network, state, x = official
    changed = scaled(state, SCALED[case])
    theirs = deepcopy(network)
    theirs.load_state_dict(changed)
    with torch.inference_mode():
        exact = theirs(x)
        fused = build_fused(changed)
        whole = fused(x)
        scale = float(exact.abs().max())
        assert torch.isfinite(exact).all() and (whole - exact).abs().max() <= 2e-5 * max(1, scale)
        # As cards compute it, sums in float32; processors take much longer.
        half, there = fused.to(NAME, torch.float16), x.half().to(NAME)
        given = half(there).cpu()
        assert torch.isfinite(given).all() and near(whole, given)
        two = torch.cat([there, there.flip(3)]).contiguous(memory_format=torch.channels_last)
        assert near(whole, run_in_strips(half, two, whole=16, strip=24)[:1].cpu())
        if not case.startswith(("small", "a fading")):
            official_half = theirs.to(NAME, torch.float16)(there).float().cpu()
            assert not near(exact, official_half), "a test of something that does not happen"


@needs_fp16
def test_channels_of_nothing_stay_nothing(official) -> None:
    """Their demodulation is 1e4 times the style: infinity in float16, and no number times nothing."""
    _, state, x = official
    changed = scaled(state, ((r"conv.*\.conv\.modulation\.(weight|bias)$", 1e3),))
    for key in [key for key in changed if re.search(r"convs\.\d\.conv\.weight$", key)]:
        changed[key][:, ::3] = 0
    given = build_fused(changed).half()(x.half())
    assert torch.isfinite(given).all() and near(build_fused(changed)(x), given)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [("encoder, taken back", torch.float32), ("demodulated weights", torch.bfloat16), ("features in the decoder", torch.float32)],
)
def test_other_types_give_bit_for_bit_what_they_gave(official, case: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    _, state, x = official
    changed = scaled(state, SCALED[case])
    ours = build_fused(changed).to(dtype)(x.to(dtype))
    monkeypatch.setattr("gpen_core.network.layers.ranges_of", lambda plain: NOTHING)
    monkeypatch.setattr("gpen_core.network.layers.unit_factors", lambda energy: torch.ones(energy.shape[0]))
    assert torch.equal(build_fused(changed).to(dtype)(x.to(dtype)), ours)


def test_ordinary_weights_are_left_as_they_are(official, monkeypatch: pytest.MonkeyPatch) -> None:
    _, state, _ = official
    before = list(build_fused(state).parameters())
    monkeypatch.setattr("gpen_core.network.layers.ranges_of", lambda plain: NOTHING)
    monkeypatch.setattr("gpen_core.network.layers.unit_factors", lambda energy: torch.ones(energy.shape[0]))
    assert all(torch.equal(one, other) for one, other in zip(before, build_fused(state).parameters(), strict=True))


def test_the_styles_are_as_they_were_after_every_cast(official) -> None:
    fused = build_fused(official[1])
    before = [parameter.clone() for parameter in fused.styles.parameters()]
    fused.half().float().to(torch.bfloat16).half()
    assert isinstance(fused, FusedGenerator) and all(torch.equal(a, b) for a, b in zip(before, fused.styles.parameters(), strict=True))
