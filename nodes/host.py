"""What ComfyUI does for a node: progress, previews, interrupt, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..gpen_core.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from comfy.model_patcher import ModelPatcher
    from numpy.typing import NDArray

PREVIEW_SIDE = 512


class Bar(Progress):
    """One bar for a whole batch: `total` steps, a frame or a face each. ComfyUI's interrupt is raised out of every call."""

    def __init__(self, total: int) -> None:
        from comfy.utils import ProgressBar

        self._bar = ProgressBar(total)
        self.total = total
        self.done = 0

    def report(self, done: int, total: int, what: str, preview: NDArray[np.float32] | None = None) -> None:
        """Called by the core: faces, which are steps of the batch, come with a preview; of a longer step (looking for faces, enlarging)
        this is a part, and moves the bar a little."""
        interrupted()
        if preview is not None:
            self.step(preview)
        elif 0 < done < total and not what.startswith("face "):
            self._bar.update_absolute(self.done + done / total, self.total)

    def stop(self) -> bool:
        """Never: the picture so far is of no use to ComfyUI, whose interrupt is an exception."""
        interrupted()
        return False

    def step(self, preview: NDArray[np.float32] | None = None) -> None:
        """One step of the batch is over; preview: the last restored face, (S, S, 3) 0..1."""
        self.done += 1
        self._bar.update_absolute(self.done, self.total, None if preview is None else _preview(preview))

    def finish(self) -> None:
        """All steps are over, those that fell away as well."""
        self._bar.update_absolute(self.total, self.total)


def interrupted() -> None:
    """Raises ComfyUI's own exception where the user pressed Cancel."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    throw_exception_if_processing_interrupted()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice: by ComfyUI's words for it, which differ from version to version, or the core's."""
    from comfy import model_management as host

    from ..gpen_core.runtime import is_out_of_memory

    if isinstance(error, host.InterruptProcessingException):
        return False
    known = host.OOM_EXCEPTION  # Exception itself where torch has no class for it
    if known is not Exception and isinstance(error, known):
        return True
    asked = getattr(host, "is_oom", None)  # newer versions: CUDA reports it as AcceleratorError as well
    return (asked is not None and bool(asked(error))) or is_out_of_memory(error)


def full_load(patcher: ModelPatcher, needed: float) -> None:
    """Brings a model onto its device, all of it. Raises the device's error where its memory does not suffice.

    needed: bytes that running it takes beside. Where memory is short ComfyUI would leave a part of the weights behind, which its own layers
    fetch when they need them; those of this network do not.
    """
    import inspect

    from comfy import model_management as host

    known = inspect.signature(host.load_models_gpu).parameters
    everything = {"force_full_load": True} if "force_full_load" in known else {}
    host.load_models_gpu([patcher], memory_required=needed, **everything)
    device = patcher.load_device
    if not all(_same_device(tensor.device, device) for tensor in (*patcher.model.parameters(), *patcher.model.buffers())):
        patcher.model.to(device)


def _same_device(one: Any, other: Any) -> bool:  # Any: torch's own types say that a device always has an index
    """cuda and cuda:0 are one to whoever has one."""
    return one.type == other.type and (one.index is None or other.index is None or one.index == other.index)


def _preview(face: NDArray[np.float32]) -> tuple[str, Any, int]:
    import numpy as np
    from PIL import Image

    return "JPEG", Image.fromarray(np.rint(np.clip(face, 0, 1) * 255).astype(np.uint8)), PREVIEW_SIDE
