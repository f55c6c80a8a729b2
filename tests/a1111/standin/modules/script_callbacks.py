from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

registered: dict[str, list[Callable[..., Any]]] = defaultdict(list)


def on_before_ui(callback: Callable[[], None]) -> None:
    registered["before_ui"].append(callback)


def on_app_started(callback: Callable[[Any, Any], None]) -> None:
    registered["app_started"].append(callback)


def on_infotext_pasted(callback: Callable[[str, dict[str, Any]], None]) -> None:
    registered["infotext_pasted"].append(callback)


def run(name: str, *arguments: Any) -> None:
    for callback in registered[name]:
        callback(*arguments)
