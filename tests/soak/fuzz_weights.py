"""Coverage-guided fuzzing of one weight reader, with atheris (libFuzzer). Run as a program by `python -m tests.soak fuzz`.

    python tests/soak/fuzz_weights.py KIND CORPUS [libFuzzer's flags]

KIND: pth, safetensors or onnx. Every input must end in a result or in our own WeightsError; any other exception is a crash, and
libFuzzer's limits (-timeout, -rss_limit_mb) say what hangs or grows.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import atheris  # noqa: E402

with atheris.instrument_imports(include=["gpen_core.weights", "zipfile", "pickle", "json"]):
    from gpen_core.weights import checkpoint, files
    from gpen_core.weights.formats import onnx_reader, pickle_reader, safetensors_reader

import gpen_core.errors  # noqa: E402

# The readers without the net of checkpoint._reading(), which turns every exception into one of ours: the fuzzer shall see the others.
KNOWN = (gpen_core.errors.WeightsError,)


def main() -> None:
    kind = sys.argv.pop(1)
    # Linux keeps this in memory.
    shm = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=shm if shm.is_dir() else None)) / f"a.{kind}"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for reader in (checkpoint.read_shapes, checkpoint.read_generator, files.identify):
            try:
                reader(path)
            except KNOWN as error:
                assert str(error).isprintable(), error
        try:
            if kind == "pth":
                with pickle_reader.TorchFile(path) as file:
                    _ = file.root
            elif kind == "safetensors":
                safetensors_reader.SafetensorsFile(path).tensors()
            else:
                onnx_reader.read_onnx(path)
        except KNOWN:
            pass

    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
