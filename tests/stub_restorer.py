"""A FaceRestorer for tests of the doors, without network or detector: it brightens a corner and reports it as a face."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from gpen_core.errors import PICTURE_ERRORS
from gpen_core.pictures import Picture, from_array, to_array


class StubFace:
    def to_json(self):
        return {"box": [1.0, 2.0, 30.0, 40.0], "landmarks": [[float(i), float(i)] for i in range(5)], "score": 0.99}


class StubFaceResult:
    def __init__(self, index=0, status="restored", reason=""):
        self.face, self.index, self.status, self.reason = StubFace(), index, status, reason

    def to_json(self):
        return {**self.face.to_json(), "index": self.index, "status": self.status, "reason": self.reason}


class StubRestorer:
    """The parts of FaceRestorer that doors use. `fail_at`: calls (from 0) that raise `error`."""

    def __init__(self, options=None, *, models_dir=None, extra_folders=(), progress=None, network=None, template=None, detector=None):
        self.options = options or SimpleNamespace(output_size="keep", factor=2.0, aligned=False, device="cpu")
        self.models_dir, self.progress = models_dir, progress
        self.model_name, self.weights, self.note = "stub", None, None
        self.calls = self.prepared = 0
        self.fail_at: set[int] = set()
        self.error: BaseException = RuntimeError("no memory")
        self.no_faces_at: set[int] = set()

    def prepare(self):
        self.prepared += 1

    def detect(self, picture):
        return [StubFace(), StubFace()]

    def each(self, pictures, *, faces=None):
        for picture in pictures:
            try:
                result = self(picture)
            except PICTURE_ERRORS as error:
                result = error
            yield result

    def sequence(self, frames, *, faces=None, stop=lambda: False, trail=None):
        return self.each(frames, faces=faces)

    def __call__(self, picture, *, faces=None):
        call = self.calls
        self.calls += 1
        if call in self.fail_at:
            raise self.error
        if self.progress is not None:
            self.progress.report(1, 1, "face 1/1")
        given = picture if isinstance(picture, Picture) else from_array(picture)
        scale = self.options.factor if self.options.output_size == "factor" else 1.0
        pixels = np.repeat(np.repeat(given.pixels, int(scale), 0), int(scale), 1)
        faces = [] if call in self.no_faces_at else [StubFaceResult()]
        if faces:
            pixels = pixels.copy()
            pixels[: max(1, pixels.shape[0] // 2), : max(1, pixels.shape[1] // 2)] = 1
        image = Picture(pixels, given.alpha if scale == 1 else None, given.form)
        crop = np.zeros((8, 8, 3), np.float32)
        return SimpleNamespace(
            image=image if isinstance(picture, Picture) else to_array(image),
            faces=faces, crops=[crop] * len(faces), restored=[crop + 1] * len(faces), scale=scale, seconds=0.0, stopped=False,
        )  # fmt: skip
