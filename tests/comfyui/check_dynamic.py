"""The nodes in a ComfyUI with dynamic VRAM, which lends its own layers their weights while they compute; ours hold theirs.

Dynamic VRAM needs an NVIDIA or AMD card, so this stands in for it with what its class does to others (ComfyUI 0.24 to 0.38).

Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else).
"""

from __future__ import annotations

import check_card
import pytest
from check_card import NAME, QUICK, left, places
from in_process import MODEL, node, restore

there = check_card.there  # a fixture


@pytest.fixture
def dynamic(comfy, monkeypatch):
    """The class that ComfyUI then makes its own models with."""
    from comfy import model_management as host
    from comfy import model_patcher

    class ModelPatcherDynamic(model_patcher.ModelPatcher):
        def __new__(cls, model=None, load_device=None, *_, **__):
            plain = load_device is not None and host.is_device_cpu(load_device)
            return super().__new__(model_patcher.ModelPatcher if plain else cls)

        def is_dynamic(self):
            return True

        def load(self, device_to=None, lowvram_model_memory=0, force_patch_weights=False, full_load=False, dirty=False):
            assert not full_load and not force_patch_weights, "there is nothing to load at once"

        def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
            self.load(device_to)
            return 0

        def loaded_size(self):
            return 0

        def pin_weight_to_device(self, key):
            raise RuntimeError("weights are pinned when they are used")

    monkeypatch.setattr(model_patcher, "CoreModelPatcher", ModelPatcherDynamic, raising=False)
    return ModelPatcherDynamic


def test_our_network_is_held_as_a_whole(comfy, portrait, model, there, dynamic):
    from comfy import model_patcher

    expected = restore(comfy, portrait, model=model, **QUICK)[0]
    chosen = node(comfy, "GPENLoadModel").load(MODEL, "fp32")[0]
    assert type(chosen.patcher) is model_patcher.ModelPatcher
    given = restore(comfy, portrait, model=chosen, **QUICK)[0]
    assert places(chosen) == {NAME} and (given - expected).abs().max() < 2e-3


def test_a_part_that_a_dynamic_model_took_the_room_of_comes_back(comfy, portrait, model, there):
    """Such a model asks for as much memory as it lacks: ComfyUI then moves some of our layers, one by one."""
    from comfy import model_management as host

    expected = restore(comfy, portrait, model=model, **QUICK)[0]
    restore(comfy, portrait, model=there.model, **QUICK)
    graphs = there.model.network.graphs
    (entry,) = (loaded for loaded in host.current_loaded_models if loaded.model is there.model.patcher)
    assert entry.model_unload(10**6) is False, "not all of it"
    assert places(there.model) == {NAME, "cpu"}
    given = restore(comfy, portrait, model=there.model, **QUICK)[0]
    assert places(there.model) == {NAME} and (given - expected).abs().max() < 2e-3
    assert there.model.network.graphs is not graphs, "these read the weights where they were before"
    host.unload_all_models()
    assert places(there.model) == {"cpu"} and left(there) == 0


def test_dynamic_models_beside_ours_stay_when_ours_goes(comfy, portrait, torch, there, dynamic):
    from comfy import model_management as host
    from comfy.utils import set_progress_bar_global_hook

    layer = torch.nn.Linear(4, 4)
    other = dynamic(layer, load_device=there.model.patcher.load_device, offload_device=torch.device("cpu"))
    host.load_models_gpu([other], memory_required=0)
    assert [loaded.model for loaded in host.current_loaded_models] == [other]
    set_progress_bar_global_hook(lambda value, total, preview, node_id=None: preview is None or host.interrupt_current_processing())
    try:
        with pytest.raises(host.InterruptProcessingException):
            restore(comfy, torch.cat([portrait] * 2), model=there.model, **QUICK)
    finally:
        host.interrupt_current_processing(False)
        set_progress_bar_global_hook(None)
    assert [loaded.model for loaded in host.current_loaded_models] == [other] and places(there.model) == {"cpu"}


def test_an_upscale_model_is_brought_whole(comfy, portrait, model, torch, there, dynamic):
    """Its layers are no more ComfyUI's own than ours are, but ComfyUI's loader makes it dynamic."""
    from comfy import model_management as host

    class Upscaler(torch.nn.Module):
        scale = 2

        def __init__(self):
            super().__init__()
            self.model = torch.nn.Conv2d(3, 3, 1)
            self.patcher = dynamic(self.model, load_device=there.model.patcher.load_device, offload_device=torch.device("cpu"))

        def forward(self, x):
            assert x.device.type == self.model.weight.device.type == self.patcher.load_device.type
            return torch.nn.functional.interpolate(self.model(x), scale_factor=2)

    upscaler = Upscaler()
    image = restore(comfy, portrait, model=there.model, output_size="factor", factor=2.0, upscale_model=upscaler)[0]
    assert image.shape[1] == 2 * portrait.shape[1]
    assert any(loaded.model is upscaler.patcher for loaded in host.current_loaded_models)
    assert upscaler.model.weight.device.type == "cpu", "what ComfyUI does not count is not left there"
