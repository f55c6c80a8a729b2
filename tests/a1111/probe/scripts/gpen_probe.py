"""A test extension for a real WebUI: routes that do inside the process what cannot be done from outside. See test_real_webui.py."""

import base64
import contextlib
import inspect
import io
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from fastapi import Body
from modules import face_restoration, postprocessing, processing, script_callbacks, scripts, sd_models, shared
from modules.call_queue import queue_lock

try:
    from modules import infotext_utils as generation_parameters_copypaste
except ImportError:  # its name before 1.8
    from modules import generation_parameters_copypaste
from PIL import Image

loads = shared.gpen_probe_loads = getattr(shared, "gpen_probe_loads", 0) + 1


def decoded(text):
    return Image.open(io.BytesIO(base64.b64decode(text)))


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


class No:
    """False, also where it is called."""

    def __bool__(self):
        return False

    def __call__(self, *_, **__):
        return False


class StubbedModel(SimpleNamespace):
    """As much of a Stable Diffusion model as processing asks for while nothing is sampled; the forge_ ones and those below are Forge's."""

    def __init__(self, **attributes):
        forge = {name: mock.MagicMock() for name in ("forge_objects_original", "forge_objects", "forge_objects_after_applying_lora")}
        super().__init__(**attributes, **forge, extra_generation_params={}, comments=[], model_config=None, tiling_enabled=False)

    def __getattr__(self, name):
        """Not a model of any kind that Forge Neo asks for."""
        if name.startswith(("is_", "use_")):
            return No()
        raise AttributeError(name)

    def ema_scope(self):
        return contextlib.nullcontext()


class Stubbed(processing.StableDiffusionProcessingTxt2Img):
    """A generation whose sampler gives a picture that is there already."""

    source = None

    def init(self, *_, **__):
        pass

    def setup_conds(self):
        self.c = self.uc = None

    def sample(self, *_, **__):
        return torch.from_numpy(np.array(self.source, np.float32).transpose(2, 0, 1))[None] / 127.5 - 1


def process(image: str = Body(), settings: dict = Body(default={}), adetailer: dict = Body(default={})):  # noqa: B008
    """A generation that gives this picture. adetailer: restores faces only by ADetailer, with these of its arguments."""
    model = StubbedModel(
        sd_checkpoint_info=SimpleNamespace(name_for_extra="none", model_name="none"), sd_model_hash="0",
        lowvram=False, is_sdxl=False, is_sd3=False,
        cond_stage_key="none", parameterization="eps", latent_channels=4, use_distilled_cfg_scale=False,
    )  # fmt: skip
    stubs = {
        "manage_model_and_prompt_cache": lambda p: setattr(p, "sd_model", shared.sd_model),  # Forge
        "get_fixed_seed": lambda seed: 1,
        "decode_latent_batch": lambda model, samples, **_: list(samples),
    }
    patches = [mock.patch.object(processing, name, stub) for name, stub in stubs.items() if hasattr(processing, name)]
    for name in ("reload_model_weights", "apply_token_merging", "apply_alpha_schedule_override", "forge_model_reload"):
        if hasattr(sd_models, name):
            patches.append(mock.patch.object(sd_models, name, lambda *_, **__: (None, False)))
    patches += inpainting()
    before = sd_models.model_data.sd_model
    with queue_lock, contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        sd_models.model_data.sd_model = model
        try:
            p = Stubbed(prompt="a face", steps=1, width=256, height=256, do_not_save_samples=True, do_not_save_grid=True)
            p.source = decoded(image).convert("RGB")
            p.restore_faces, p.sampler_name, p.scheduler = not adetailer, "Euler", "Automatic"
            p.override_settings = {**settings, "live_previews_enable": False}  # previews need a network of their own
            p.scripts, p.script_args = scripts.scripts_txt2img, [None] * 10_000
            kept = [s for s in p.scripts.alwayson_scripts if "gpen" in s.filename or (adetailer and "!adetailer" in s.filename)]
            for script in kept:
                if "!adetailer" in script.filename:
                    p.script_args[script.args_from : script.args_from + 3] = [True, False, adetailer]
            with mock.patch.object(p.scripts, "alwayson_scripts", kept):
                shared.state.begin("probe")
                done = processing.process_images(p)
                shared.state.end()
        finally:
            sd_models.model_data.sd_model = before
    return {"image": encoded(done.images[0]), "infotext": done.infotexts[0]}


def inpainting():
    """Patches for img2img, as ADetailer uses it: what it is given comes back unsampled."""
    kind = processing.StableDiffusionProcessingImg2Img
    changes = [
        (kind, "sample", lambda self, *_, **__: self.init_latent),
        (kind, "setup_conds", lambda self: setattr(self, "c", None) or setattr(self, "uc", None)),
        (kind, "img2img_image_conditioning", lambda *_, **__: None),
        (processing.sd_samplers, "create_sampler", mock.MagicMock()),
    ]
    if hasattr(processing, "images_tensor_to_samples"):  # 1.6 and later
        changes.append((processing, "images_tensor_to_samples", lambda image, *_, **__: image * 2 - 1))
    return [mock.patch.object(*change) for change in changes]


def restore_faces(image: str = Body(), settings: dict = Body(default={})):  # noqa: B008
    before = {key: getattr(shared.opts, key) for key in settings}
    pixels = np.moveaxis(np.ascontiguousarray(np.moveaxis(np.array(decoded(image).convert("RGB")), 2, 0)), 0, 2)
    with queue_lock:
        for key, value in settings.items():
            shared.opts.set(key, value)
        shared.state.begin("probe")  # Reload UI leaves "interrupted" behind until the next job begins
        try:
            done = face_restoration.restore_faces(pixels)
        finally:
            shared.state.end()
            for key, value in before.items():
                shared.opts.set(key, value)
    return {"image": encoded(Image.fromarray(done))}


def reactor(image: str = Body(embed=True)):
    """Which restorer sd-webui-reactor really asks if GPEN is the one chosen in it, and whether its list has GPEN."""
    swapper = sys.modules["scripts.reactor_swapper"]
    (ours,) = [restorer for restorer in shared.face_restorers if restorer.name() == "GPEN"]
    chosen = swapper.EnhancementOptions(face_restorer=ours, restorer_visibility=1)
    with (
        mock.patch.object(type(ours), "restore", side_effect=lambda pixels: pixels) as asked,
        mock.patch.object(swapper.gfpgan_model, "gfpgan_fix_faces", side_effect=lambda pixels: pixels) as instead,
    ):
        swapper.restore_face(decoded(image).convert("RGB"), chosen)
    order = {script.name: script.order for script in scripts.scripts_postproc.scripts_in_preferred_order()}
    return {"gpen": asked.call_count, "gfpgan": instead.call_count, "order": order}


def extras(images: list = Body(), arguments: dict = Body()):  # noqa: B008
    """The Extras tab, single (one picture) or batch."""
    pictures = [decoded(image) for image in images]
    upscale = {"upscale_enabled": False, "upscale_mode": 0, "upscale_by": 1, "max_side_length": 0}
    others = {"Upscale": upscale, "GFPGAN": {"gfpgan_visibility": 0}, "CodeFormer": {"codeformer_visibility": 0, "codeformer_weight": 0}}
    given = scripts.scripts_postproc.create_args_for_run({"GPEN": arguments, **others})
    single = len(pictures) == 1
    video = [None] if "_" in inspect.signature(postprocessing.run_postprocessing).parameters else []  # Forge Neo
    with queue_lock:
        done, info, _ = postprocessing.run_postprocessing(
            0 if single else 1, pictures[0] if single else None, pictures, "", "", True, *video, *given, save_output=False
        )
    return {"images": [encoded(image) for image in done], "info": info}


def state():
    plots = [data.module for data in scripts.scripts_data if hasattr(data.module, "axis_options")]
    return {
        "loads": loads,
        "restorers": [restorer.name() for restorer in shared.face_restorers],
        "extras": [script.name for script in scripts.scripts_postproc.scripts_in_preferred_order()],
        "axes": [axis.label for plot in plots for axis in plot.axis_options],
        "settings": [key for key in shared.opts.data_labels if key.startswith("gpen_")],
        "on_path": [entry for entry in sys.path if (Path(entry) / "gpen_core").is_dir()],
        "read_back": generation_parameters_copypaste.create_override_settings_dict(["Face restoration model: GPEN", "GPEN strength: 0.35"]),
        "infotext_scripts": [script.title() for script in scripts.scripts_txt2img.alwayson_scripts if "GPEN" in script.title()],
    }


def reload_ui():
    shared.state.request_restart()
    return {}


def add(_demo, app):
    for function in (process, restore_faces, reactor, extras, reload_ui):
        app.add_api_route(f"/gpen-probe/{function.__name__}", function, methods=["POST"])
    app.add_api_route("/gpen-probe/state", state, methods=["GET"])


script_callbacks.on_app_started(add)
