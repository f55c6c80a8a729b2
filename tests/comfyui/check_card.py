"""The nodes with ComfyUI's device being the emulated card: the host brings the network there and takes it back, and nothing stays.

Run inside a real ComfyUI's process by test_in_process.py (its name keeps pytest from collecting it anywhere else).
"""

from __future__ import annotations

import gc
import sys
from types import SimpleNamespace

import emulated_card
import pytest
from in_process import MODEL, node, restore, settings

NAME = emulated_card.NAME
QUICK = {"look_closer": False}


@pytest.fixture
def there(comfy, torch, monkeypatch):
    """card, its bytes without this pack (`before`), a model for it, and bytes the host was asked for: to run it, to free."""
    from comfy import model_management as host

    card = emulated_card.card()
    host.unload_all_models()
    gc.collect()
    card.reset()
    before = card.alive
    monkeypatch.setattr(host, "get_torch_device", lambda: torch.device(NAME))
    # What ComfyUI asks torch.cuda.
    monkeypatch.setattr(
        host, "get_free_memory", lambda device=None, torch_free_too=False: (1 << 33, 1 << 33) if torch_free_too else 1 << 33
    )
    monkeypatch.setattr(
        host, "get_total_memory", lambda device=None, torch_total_too=False: (1 << 33, 1 << 33) if torch_total_too else 1 << 33
    )
    asked, freed = [], []
    load, free = host.load_models_gpu, host.free_memory
    monkeypatch.setattr(host, "load_models_gpu", lambda models, **given: asked.append(given["memory_required"]) or load(models, **given))
    monkeypatch.setattr(host, "free_memory", lambda much, *given, **more: freed.append(much) or free(much, *given, **more))
    model = node(comfy, "GPENLoadModel").load(MODEL, "fp32")[0]
    assert card.alive == before, "it waits in RAM"
    detectors = sys.modules[type(model).__module__.replace("nodes.model", "nodes.detectors")]
    yield SimpleNamespace(card=card, before=before, model=model, asked=asked, freed=freed, forget=detectors._make.cache_clear)
    card.reset()
    host.unload_all_models()
    detectors._make.cache_clear()


def places(model):
    return {tensor.device.type for tensor in (*model.network.parameters(), *model.network.buffers())}


def left(there):
    """Bytes on the card beside those of before, without the detector's."""
    there.forget()
    gc.collect()
    return there.card.alive - there.before


def test_it_goes_there_and_back(comfy, portrait, model, there):
    from comfy import model_management as host

    expected = restore(comfy, portrait, model=model, **QUICK)[0]
    host.unload_all_models()
    for _ in range(2):
        given = restore(comfy, portrait, model=there.model, **QUICK)[0]
        assert places(there.model) == {NAME} and (given - expected).abs().max() < 2e-3
        assert left(there) > 10**6
        host.unload_all_models()
        assert places(there.model) == {"cpu"} and left(there) == 0
    assert len(there.asked) >= 2 and min(there.asked) > 10**7, "room for running is asked for as well"


@pytest.fixture
def several(there, torch, monkeypatch):
    """there, as the second of the host's devices, which runs models on the first, the CPU."""
    from comfy import model_management as host

    devices = [torch.device("cpu"), torch.device(NAME, 0)]
    monkeypatch.setattr(host, "get_torch_device", lambda: devices[0])
    monkeypatch.setattr(host, "get_all_torch_devices", lambda exclude_current=False: list(devices), raising=False)
    # Older versions unload models from the first alone.
    monkeypatch.setattr(host, "unload_all_models", lambda: [host.free_memory(1e30, device) for device in devices])
    return there


def choices(comfy):
    return comfy.classes["GPENLoadModel"].INPUT_TYPES()["optional"]["device"][0]


def test_a_card_is_chosen_by_its_number(comfy, portrait, model, several):
    from comfy import model_management as host

    assert choices(comfy) == ["default", "cpu", "gpu:0", "gpu:1"]
    expected = restore(comfy, portrait, model=model, **QUICK)[0]
    chosen = node(comfy, "GPENLoadModel").load(MODEL, "fp32", "gpu:1")[0]
    given = restore(comfy, portrait, model=chosen, **QUICK)[0]
    assert places(chosen) == {NAME} and (given - expected).abs().max() < 2e-3
    host.unload_all_models()
    assert places(chosen) == {"cpu"} and several.card.alive == several.before
    for word in ("default", "cpu", "gpu:0"):
        assert node(comfy, "GPENLoadModel").load(MODEL, "fp32", word)[0].patcher.load_device.type == "cpu"


def test_where_all_stays_on_the_default_card_a_model_of_another_stays_on_its_own(comfy, several, monkeypatch, torch):
    from comfy import model_management as host

    monkeypatch.setattr(host, "unet_offload_device", lambda: torch.device("cuda", 0))
    assert node(comfy, "GPENLoadModel").load(MODEL, "fp32", "gpu:1")[0].patcher.offload_device.type == NAME
    assert node(comfy, "GPENLoadModel").load(MODEL, "fp32", "cpu")[0].patcher.offload_device.type == "cpu"


def test_the_cpu_can_be_chosen_beside_a_card(comfy, portrait, model, there):
    expected = restore(comfy, portrait, model=model, **QUICK)[0]
    chosen = node(comfy, "GPENLoadModel").load(MODEL, "fp32", "cpu")[0]
    given = restore(comfy, portrait, model=chosen, **QUICK)[0]
    assert places(chosen) == {"cpu"} and (given - expected).abs().max() < 2e-3
    assert left(there) == 0, "only the detector was there"


@pytest.mark.parametrize("able", [True, False], ids=["a ComfyUI that lists its devices", "an older one"])
def test_a_card_that_is_not_here_is_the_default_one_and_the_report_says_so(comfy, there, monkeypatch, torch, able):
    from comfy import model_management as host

    def listed(exclude_current=False):
        return [torch.device(NAME)]

    loader = comfy.classes["GPENLoadModel"]
    with monkeypatch.context() as now:
        now.setattr(host, "get_all_torch_devices", listed, raising=False)
        if not able:
            now.delattr(host, "get_all_torch_devices")
        check_that_the_default_card_takes_over(comfy, loader)


def check_that_the_default_card_takes_over(comfy, loader):
    assert choices(comfy) == ["default", "cpu"], "of one card there is nothing to choose"
    answer = loader().load(MODEL, "fp32", "gpu:1")
    assert answer["result"][0].patcher.load_device.type == NAME
    assert answer["ui"]["text"][0].startswith("gpu:1 is not in this machine: runs on the default device\n")
    assert loader().load(MODEL, "fp32", "gpu:0")["result"][0].note is None
    assert loader.IS_CHANGED(MODEL, "fp32") == loader.IS_CHANGED(MODEL, "fp32", "default") != loader.IS_CHANGED(MODEL, "fp32", "cpu")


def test_an_interrupt_leaves_nothing_there(comfy, portrait, torch, there):
    from comfy import model_management as host
    from comfy.utils import set_progress_bar_global_hook

    def hook(value, total, preview, node_id=None):
        if preview is not None:
            host.interrupt_current_processing()

    set_progress_bar_global_hook(hook)
    try:
        with pytest.raises(host.InterruptProcessingException):
            restore(comfy, torch.cat([portrait] * 2), model=there.model, **QUICK)
    finally:
        host.interrupt_current_processing(False)
        set_progress_bar_global_hook(None)
    assert places(there.model) == {"cpu"} and left(there) == 0


@pytest.mark.parametrize("share", [0.02, 0.9])  # of the allocations: while the weights come, while a face is restored
def test_out_of_memory_it_gives_its_room_back_and_goes_on_with_the_cpu(comfy, portrait, model, there, share):
    from comfy import model_management as host

    expected = restore(comfy, portrait, model=model, **QUICK)[0]
    faces = node(comfy, "GPENDetectFaces").detect(portrait, **settings(comfy, "GPENDetectFaces", **QUICK))[0]
    given = {"model": there.model, "detected_faces": faces, **settings(comfy, "GPENRestoreFaces", **QUICK)}
    restorer = comfy.classes["GPENRestoreFaces"]()
    host.unload_all_models()
    there.card.reset()
    restorer.restore(portrait, **given)
    moment = round(share * there.card.allocations)
    host.unload_all_models()
    there.freed.clear()
    with there.card.out_of_memory_at(moment, always_after=True):
        answer = restorer.restore(portrait, **given)["result"]
    assert (answer[0] - expected).abs().max() < 2e-3 and "ran on the CPU" in answer[-1]
    assert places(there.model) == {"cpu"} and left(there) == 0
    assert 1e30 in there.freed or share < 0.5, "by the host, which knows of it once it is loaded"
    assert not any(loaded.model is there.model.patcher for loaded in host.current_loaded_models)
    again = restore(comfy, portrait, model=there.model, **QUICK)[0]  # the next run tries the device again
    assert places(there.model) == {NAME} and (again - expected).abs().max() < 2e-3


def test_a_lost_device_is_a_sentence(comfy, portrait, there):
    lost = there.card.failing(lambda: RuntimeError("CUDA error: unspecified launch failure"), after=20)
    restore(comfy, portrait, model=there.model, **QUICK)
    errors = sys.modules[type(there.model).__module__.replace("nodes.model", "gpen_core.errors")]
    with lost, pytest.raises(errors.DeviceError, match="stopped working"):
        restore(comfy, portrait, model=there.model, **QUICK)
