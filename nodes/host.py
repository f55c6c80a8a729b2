"""ComfyUI's services for a node: progress, previews, interrupt, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..gpen_core.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from comfy.model_patcher import ModelPatcher
    from numpy.typing import NDArray

PREVIEW_SIDE = 512


class Bar(Progress):
    """One progress bar for a whole batch: `total` steps, each a frame or a face. Any call can raise ComfyUI's interrupt."""

    def __init__(self, total: int) -> None:
        from comfy.utils import ProgressBar

        self._bar = ProgressBar(total)
        self.total = total
        self.done = 0

    def report(self, done: int, total: int, what: str, preview: NDArray[np.float32] | None = None) -> None:
        """Called by the core. A restored face comes with a preview and is one step of the batch; any other report is part of a longer step
        (detection, enlarging) and moves the bar by a fraction."""
        interrupted()
        if preview is not None:
            self.step(preview)
        elif 0 < done < total and not what.startswith("face "):
            self._bar.update_absolute(self.done + done / total, self.total)

    def stop(self) -> bool:
        """Always False: ComfyUI's interrupt is an exception, so it cannot use an unfinished picture."""
        interrupted()
        return False

    def step(self, preview: NDArray[np.float32] | None = None) -> None:
        """Advances the bar by one step. preview: the last restored face, (S, S, 3) 0..1."""
        self.done += 1
        self._bar.update_absolute(self.done, self.total, None if preview is None else _preview(preview))

    def finish(self) -> None:
        """Completes the bar, even if some steps were skipped."""
        self._bar.update_absolute(self.total, self.total)


def interrupted() -> None:
    """Raises ComfyUI's own exception if the user pressed Cancel."""
    from comfy.model_management import throw_exception_if_processing_interrupted

    throw_exception_if_processing_interrupted()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, by ComfyUI's test, which differs between versions, or by the core's."""
    from comfy import model_management as host

    from ..gpen_core.runtime import is_out_of_memory

    if isinstance(error, host.InterruptProcessingException):
        return False
    known = host.OOM_EXCEPTION  # plain Exception if torch has no class for it
    if known is not Exception and isinstance(error, known):
        return True
    asked = getattr(host, "is_oom", None)  # newer versions, because CUDA may also raise AcceleratorError
    return (asked is not None and known is not Exception and bool(asked(error))) or is_out_of_memory(error)


def load(patcher: ModelPatcher, needed: float) -> None:
    """Has ComfyUI load a model onto its device. Raises the device's error if memory runs out. needed: additional bytes for running it."""
    import inspect

    from comfy import model_management as host

    known = inspect.signature(host.load_models_gpu).parameters
    everything = {"force_full_load": True} if "force_full_load" in known else {}
    host.load_models_gpu([patcher], memory_required=needed, **everything)


def full_load(patcher: ModelPatcher, needed: float) -> bool:
    """load(), and whatever of the model ComfyUI left behind. Returns whether there was any.

    When memory is short, ComfyUI loads a part of the weights and its own layers fetch the rest when needed; this network's layers cannot.
    """
    load(patcher, needed)
    device = patcher.load_device
    if all(_same_device(tensor.device, device) for tensor in (*patcher.model.parameters(), *patcher.model.buffers())):
        return False
    patcher.model.to(device)
    return True


def _same_device(one: Any, other: Any) -> bool:  # Any: torch's stubs claim that a device always has an index
    """Whether two devices are the same; cuda without an index matches any cuda:N."""
    return one.type == other.type and (one.index is None or other.index is None or one.index == other.index)


def _preview(face: NDArray[np.float32]) -> tuple[str, Any, int]:
    import numpy as np
    from PIL import Image

    return "JPEG", Image.fromarray(np.rint(np.clip(face, 0, 1) * 255).astype(np.uint8)), PREVIEW_SIDE
