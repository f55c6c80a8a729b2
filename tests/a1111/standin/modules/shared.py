from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .face_restoration import FaceRestoration


class OptionInfo:
    def __init__(
        self,
        default: Any = None,
        label: str = "",
        component: type | None = None,
        component_args: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
        onchange: Callable[[], None] | None = None,
        section: tuple[str, str] | None = None,
        refresh: Callable[[], object] | None = None,
        comment_before: str = "",
        comment_after: str = "",
    ) -> None:
        self.default = default
        self.label = label
        self.component = component
        self.component_args = component_args
        self.section = section
        self.refresh = refresh
        self.comment_after = comment_after
        self.infotext: str | None = None
        self.category_id: str | None = None


class Options:
    """Settings as attributes. `data` holds those that were set, `data_labels` all there are; another one raises AttributeError."""

    def __init__(self) -> None:
        self.__dict__["data"] = {"face_restoration_unload": False}
        self.__dict__["data_labels"] = {"face_restoration_model": OptionInfo("CodeFormer", "Face restoration model")}

    def add_option(self, key: str, info: OptionInfo) -> None:
        self.data_labels[key] = info

    def __setattr__(self, key: str, value: Any) -> None:
        self.data[key] = value

    def __getattr__(self, key: str) -> Any:
        data: dict[str, Any] = self.__dict__["data"]
        labels: dict[str, OptionInfo] = self.__dict__["data_labels"]
        if key in data:
            return data[key]
        if key in labels:
            return labels[key].default
        raise AttributeError(key)


class State:
    """`said` keeps every text the progress bar showed."""

    def __init__(self) -> None:
        self.interrupted = False
        self.skipped = False
        self.stopping_generation = False
        self.job = ""
        self.said: list[str | None] = []
        self._textinfo: str | None = None

    @property
    def textinfo(self) -> str | None:
        return self._textinfo

    @textinfo.setter
    def textinfo(self, text: str | None) -> None:
        self._textinfo = text
        self.said.append(text)

    def begin(self, job: str = "(unknown)") -> None:
        self.interrupted = self.skipped = False
        self.job = job

    def end(self) -> None:
        self.job = ""


opts = Options()
state = State()
cmd_opts = SimpleNamespace(api=True, nowebui=False, api_auth=None)
face_restorers: list[FaceRestoration] = []
