from __future__ import annotations

from typing import Any


class Context:
    block: Any = None  # what components are being put into
