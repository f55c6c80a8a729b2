"""The nodes' use of ComfyUI's memory management, progress and interrupt.

Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else).
"""

from __future__ import annotations

import logging
import sys

import pytest
from in_process import restore, settings


@pytest.fixture(autouse=True)
def every_step_is_told(comfy, monkeypatch):
    """Newer versions of ComfyUI tell the page of some steps only."""
    import comfy.utils

    for name in ("PROGRESS_THROTTLE_MIN_INTERVAL", "PROGRESS_THROTTLE_MIN_PERCENT"):
        monkeypatch.setattr(comfy.utils, name, 0, raising=False)


def test_the_model_is_the_hosts_to_move(comfy, portrait, model):
    from comfy import model_management as host

    restore(comfy, portrait, model=model)
    assert any(loaded.model is model.patcher for loaded in host.current_loaded_models)
    host.unload_all_models()
    assert not any(loaded.model is model.patcher for loaded in host.current_loaded_models)
    assert restore(comfy, portrait, model=model)[0].isfinite().all()


def test_an_interrupt_passes_through_and_leaves_nothing_loaded(comfy, portrait, model, torch):
    from comfy import model_management as host
    from comfy.utils import set_progress_bar_global_hook

    host.unload_all_models()
    calls = []

    def hook(value, total, preview, node_id=None):
        calls.extend([value] if value == int(value) else [])  # parts of a step are none
        if len(calls) == 4:  # three frames were looked at, one face is done
            host.interrupt_current_processing()

    set_progress_bar_global_hook(hook)
    try:
        with pytest.raises(host.InterruptProcessingException):
            restore(comfy, torch.cat([portrait] * 3), model=model)
    finally:
        host.interrupt_current_processing(False)
        set_progress_bar_global_hook(None)
    assert len(calls) == 4
    assert not any(loaded.model is model.patcher for loaded in host.current_loaded_models)


def test_progress_and_previews(comfy, portrait, model, torch):
    from comfy.utils import set_progress_bar_global_hook

    seen = []
    set_progress_bar_global_hook(lambda value, total, preview, node_id=None: seen.append((value, total, preview)))
    try:
        restore(comfy, torch.cat([portrait] * 2), model=model)
    finally:
        set_progress_bar_global_hook(None)
    values = [value for value, _, _ in seen]
    # Whole steps, and parts of those that take long.
    assert [value for value in values if value == int(value)] == [1, 2, 3, 4, 4] and {total for _, total, _ in seen} == {4}
    assert values == sorted(values)
    previews = [preview for _, _, preview in seen if preview is not None]
    assert len(previews) == 2 and all(kind == "JPEG" and picture.size == (256, 256) for kind, picture, _ in previews)


def test_too_little_memory_falls_back_to_the_cpu(comfy, portrait, model, monkeypatch, caplog):
    from comfy import model_management as host

    expected = restore(comfy, portrait, model=model)[0]
    monkeypatch.setattr(host, "is_device_cpu", lambda device: False)
    tried = []

    def too_little(models, **settings):
        tried.append(models)
        raise host.OOM_EXCEPTION("no memory")

    monkeypatch.setattr(host, "load_models_gpu", too_little)
    import torch

    with caplog.at_level(logging.WARNING):
        image = restore(comfy, torch.cat([portrait, portrait]), model=model)[0]
    assert torch.equal(image[0], expected[0]) and torch.equal(image[1], expected[0])
    assert len(tried) == 1 and "continues on the CPU" in caplog.text


def test_aligned_faces_go_together_and_those_done_before_memory_ran_out_stay(comfy, portrait, model, monkeypatch):
    import torch
    from comfy import model_management as host

    run = sys.modules[type(model).__module__.replace("nodes.model", "gpen_core.network.run")]
    node, given = comfy.classes["GPENRestoreAlignedFaces"], settings(comfy, "GPENRestoreAlignedFaces")
    pictures = torch.cat([portrait * shade for shade in (1, 0.8, 0.6, 0.4, 0.2)])
    expected = node().restore(pictures, model=model, **given)["result"]
    monkeypatch.setattr(host, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(run, "batch_size", lambda network: 2)
    sizes, real = [], type(model.network).forward

    def forward(self, x, *rest, **named):
        sizes.append(len(x))
        if 2 <= len(sizes) <= 4:  # the second batch, then one of it: as it is, and in strips
            raise RuntimeError("CUDA out of memory")
        return real(self, x, *rest, **named)

    monkeypatch.setattr(type(model.network), "forward", forward)
    answer = node().restore(pictures, model=model, **given)["result"]
    assert (answer[0] - expected[0]).abs().max() < 2e-5
    assert sizes == [2, 2, 1, 1, 2, 1] and "ran on the CPU" in answer[1]


def test_faces_of_a_batch_of_pictures_go_together_and_those_done_before_memory_ran_out_stay(comfy, portrait, model, monkeypatch):
    import torch
    from comfy import model_management as host

    run = sys.modules[type(model).__module__.replace("nodes.model", "gpen_core.network.run")]
    node, given = comfy.classes["GPENRestoreFaces"], settings(comfy, "GPENRestoreFaces")
    pictures = torch.cat([portrait, portrait * 0.9, portrait * 0, *[portrait * shade for shade in (0.8, 0.7, 0.6)]])
    expected = node().restore(pictures, model=model, **given)["result"]
    monkeypatch.setattr(host, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(run, "batch_size", lambda network: 2)
    sizes, short, real = [], range(0), type(model.network).forward

    def forward(self, x, *rest, **named):
        sizes.append(len(x))
        if len(sizes) in short:
            raise RuntimeError("CUDA out of memory")
        return real(self, x, *rest, **named)

    monkeypatch.setattr(type(model.network), "forward", forward)
    # Without trouble; then not in the second batch, nor one of it, as it is and in strips.
    for short, wanted in ((range(0), [2, 2, 1]), (range(2, 5), [2, 2, 1, 1, 2, 1])):
        sizes.clear()
        answer = node().restore(pictures, model=model, **given)["result"]
        assert sizes == wanted and ("ran on the CPU" in answer[-1]) == bool(short)
        for one, other in zip(answer[:4], expected[:4], strict=True):
            assert (one - other).abs().max() < 2e-5
        assert answer[4].numbers == expected[4].numbers


@pytest.mark.parametrize("words", ["CUDA error: out of memory", "Insufficient Memory: not enough memory resources are available"])
def test_memory_that_is_short_is_known_in_other_words(comfy, portrait, model, monkeypatch, words):
    """OOM_EXCEPTION is one class of several: newer versions of torch raise AcceleratorError, other devices a plain RuntimeError."""
    from comfy import model_management as host

    expected = restore(comfy, portrait, model=model)[0]
    monkeypatch.setattr(host, "is_device_cpu", lambda device: False)

    def too_little(models, **settings):
        raise RuntimeError(words)

    monkeypatch.setattr(host, "load_models_gpu", too_little)
    given = {"model": model, **settings(comfy, "GPENRestoreFaces")}
    answer = comfy.classes["GPENRestoreFaces"]().restore(portrait, **given)
    assert bool((answer["result"][0] == expected).all())
    assert "not enough GPU memory: ran on the CPU" in answer["result"][-1]


def test_what_is_no_lack_of_memory_is_not_taken_for_one(comfy, portrait, model, monkeypatch):
    from comfy import model_management as host

    monkeypatch.setattr(host, "is_device_cpu", lambda device: False)
    monkeypatch.setattr(host, "OOM_EXCEPTION", Exception)  # what ComfyUI says where torch has no class for it
    monkeypatch.setattr(host, "is_oom", lambda error: isinstance(error, host.OOM_EXCEPTION), raising=False)  # as newer versions ask

    def broken(models, **settings):
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(host, "load_models_gpu", broken)
    with pytest.raises(RuntimeError, match="no kernel image"):
        restore(comfy, portrait, model=model)


def test_what_is_handed_on_has_the_form_that_comfyui_wants(comfy, portrait, model, monkeypatch, torch):
    """Newer versions can be told to hand on half precision; what no face changed is still what came in."""
    from comfy import model_management as host

    monkeypatch.setattr(host, "intermediate_dtype", lambda: torch.float16, raising=False)
    image, mask, before, after, *_ = restore(comfy, portrait.half(), model=model)
    assert {one.dtype for one in (image, mask, before, after)} == {torch.float16}
    kept = mask == 0
    assert kept.any() and torch.equal(image[kept], portrait.half()[kept]) and not torch.equal(image, portrait.half())


def test_an_upscale_model_is_comfyuis_to_move(comfy, portrait, model, monkeypatch, torch):
    """Newer versions manage it: moved by hand it would be elsewhere than ComfyUI takes it to be."""
    from comfy import model_management as host
    from comfy.model_patcher import ModelPatcher

    class Upscaler(torch.nn.Upsample):
        scale, model = 2, torch.nn.Conv2d(1, 1, 1)
        patcher = ModelPatcher(model, load_device=host.get_torch_device(), offload_device=torch.device("cpu"))

        def to(self, device):
            raise AssertionError("moved by hand")

    upscaler = Upscaler(scale_factor=2)
    image = restore(comfy, portrait, model=model, output_size="factor", factor=2.0, upscale_model=upscaler)[0]
    assert image.shape[1] == 2 * portrait.shape[1]
    assert any(loaded.model is upscaler.patcher for loaded in host.current_loaded_models)


def test_all_of_the_model_is_asked_for(comfy, portrait, model, monkeypatch):
    from comfy import model_management as host

    asked = []
    load = host.load_models_gpu
    monkeypatch.setattr(host, "load_models_gpu", lambda models, memory_required=0, force_full_load=False: asked.append(force_full_load))
    restore(comfy, portrait, model=model)
    assert asked == [True]
    # A ComfyUI that does not know the word is not given it.
    monkeypatch.setattr(host, "load_models_gpu", lambda models, memory_required=0: load(models, memory_required=memory_required))
    assert restore(comfy, portrait, model=model)[0].isfinite().all()


def test_what_was_left_behind_is_brought_as_well(comfy, torch, model, monkeypatch):
    """Half the weights are left off the device; this network's layers cannot fetch theirs."""
    from types import SimpleNamespace

    from comfy import model_management as host

    halves = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    patcher = SimpleNamespace(model=halves, load_device=torch.device("meta"))
    monkeypatch.setattr(host, "load_models_gpu", lambda models, memory_required=0: halves[0].to("meta"))
    sys.modules[type(model).__module__].full_load(patcher, 0)
    assert {parameter.device.type for parameter in halves.parameters()} == {"meta"}


def test_the_network_is_made_for_the_device_and_waits_in_ram(comfy, torch, model, monkeypatch):
    """ComfyUI itself moves the network, so its weights have the device's form from the start."""
    from comfy import model_management as host

    module = sys.modules[type(model).__module__]
    load = sys.modules[module.__name__.removesuffix("nodes.model") + "gpen_core.network.load"]
    asked, real = [], load.load_network
    monkeypatch.setattr(load, "load_network", lambda *given, **more: asked.append((given[1:], more)) or real(*given, **more))
    monkeypatch.setattr(host, "get_torch_device", lambda: torch.device("meta"))
    loaded = module.load_model(model.name, "fp32")
    assert asked == [((torch.device("meta"), torch.float32), {"waits_on": "cpu"})]
    assert {parameter.device.type for parameter in loaded.network.parameters()} == {"cpu"}
