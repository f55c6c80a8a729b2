"""For tests that compute in float16 on the processor."""

from __future__ import annotations

import pytest
import torch

from gpen_core.runtime import computes_fp16

needs_fp16 = pytest.mark.skipif(not computes_fp16(), reason="this torch does not compute float16 on the processor; 2.0 does not")
HALVES = [torch.bfloat16, pytest.param(torch.float16, marks=needs_fp16)]
