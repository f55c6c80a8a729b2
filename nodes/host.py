"""ComfyUI's progress bar, previews and interrupt, as the core's Progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..gpen_core.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PREVIEW_SIDE = 512


class Bar(Progress):
    """One bar for a whole batch: `total` steps, a frame or a face each. ComfyUI's interrupt is raised out of it."""

    def __init__(self, total: int) -> None:
        from comfy.utils import ProgressBar

        self._bar: Any = ProgressBar(total)
        self.total = total
        self.done = 0

    def report(self, done: int, total: int, what: str, preview: NDArray[np.float32] | None = None) -> None:
        """Called by the core for every face; `done` and `total` are those of one frame."""
        interrupted()
        if preview is not None:
            self.step(preview)

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


def _preview(face: NDArray[np.float32]) -> tuple[str, Any, int]:
    import numpy as np
    from PIL import Image

    return "JPEG", Image.fromarray(np.rint(np.clip(face, 0, 1) * 255).astype(np.uint8)), PREVIEW_SIDE
