"""Writes ComfyUI's help pages (web/docs) and translations (locales) from the nodes themselves and nodes/texts:

    python tests/comfyui/pages.py

A test asserts that what is in the repository is what this writes.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ROOT / "nodes" / "texts"
PACK = "gpen_pack"


def load_pack() -> types.ModuleType:
    """The pack, imported as ComfyUI does, with a minimal host: a list of folders."""
    if PACK in sys.modules:
        return sys.modules[PACK]
    folders: Any = types.ModuleType("folder_paths")
    folders.models_dir = str(ROOT / "nowhere")
    folders.folder_names_and_paths = {}
    folders.add_model_folder_path = lambda name, path, is_default=False: folders.folder_names_and_paths.setdefault(name, ([path], set()))
    folders.get_folder_paths = lambda name: folders.folder_names_and_paths[name][0]
    folders.get_filename_list = lambda name: []
    sys.modules["folder_paths"] = folders
    try:
        spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = module
        spec.loader.exec_module(module)
        # Asked for once while the list of folders is there.
        module.INPUTS = {name: node.INPUT_TYPES() for name, node in module.NODE_CLASS_MAPPINGS.items()}
    finally:
        del sys.modules["folder_paths"]
    return module


def inputs(pack: types.ModuleType, name: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    kinds = pack.INPUTS[name]
    return {**kinds["required"], **kinds.get("optional", {})}


def help_page(pack: types.ModuleType, name: str, texts: dict[str, Any], words: dict[str, str], space: str = "") -> str:
    """Lists, since the page's help panel is narrow, with the names that the node shows; texts: of nodeDefs.json, space: before a colon."""
    own = texts[name]
    lines = [f"# {own['display_name']}", "", own["description"], "", f"## {words['inputs']}", ""]
    for key, (kind, extra) in inputs(pack, name).items():
        label, tip = own["inputs"][key]["name"], own["inputs"][key]["tooltip"]
        lines.append(f"- **{label}** ({f'{space}; '.join(_facts(pack, name, key, kind, extra, words))}){space}: {tip}")
    lines += ["", f"## {words['outputs']}", ""]
    for out, kind in zip(own["outputs"].values(), pack.NODE_CLASS_MAPPINGS[name].RETURN_TYPES, strict=True):
        lines.append(f"- **{out['name']}** ({words.get(kind, kind)}){space}: {out['tooltip']}")
    return "\n".join(lines) + "\n"


def _facts(pack: types.ModuleType, name: str, key: str, kind: Any, extra: dict[str, Any], words: dict[str, str]) -> list[str]:
    """An input's range or choices, and its default."""
    if not is_setting(kind):
        return [kind, words["optional"]] if key in pack.INPUTS[name].get("optional", {}) else [kind]
    if isinstance(kind, list):
        takes = f"{words['one of']} {', '.join(kind)}" if len(kind) < 9 else words["a list"]
    else:
        takes = f"{extra['min']:g} {words['to']} {extra['max']:g}" if "min" in extra else words[kind]
    default = extra["default"]
    shown = words["on" if default else "off"] if isinstance(default, bool) else f"{default:g}" if isinstance(default, float) else default
    return [takes, f"{words['default']} {words['empty'] if shown == '' else shown}"]


CATEGORY = "face restoration"  # in the page's node library
# The few words of the help pages themselves; those of another language are in its file of nodes/texts.
WORDS = {
    "inputs": "Inputs", "outputs": "Outputs", "optional": "optional", "one of": "one of", "a list": "a list", "to": "to",
    "BOOLEAN": "on or off", "STRING": "text", "INT": "number", "on": "on", "off": "off", "default": "default", "empty": "empty",
    CATEGORY: CATEGORY,
}  # fmt: skip
# Labels that differ from their keys.
LABELS = {"bboxes": "Boxes", "bounding_boxes": "ComfyUI boxes", "detected_faces": "Faces", "form": "Box format"}


def label_of(key: str) -> str:
    """A key as a label: all of them begin with a capital, as those of the settings do."""
    return LABELS.get(key) or key.replace("_", " ").capitalize()


def english(pack: types.ModuleType) -> dict[str, Any]:
    from gpen_core.options import RestoreOptions
    from gpen_core.task_options import FACE_TASKS, TaskOptions

    table = (*RestoreOptions.table(), *(option for task in FACE_TASKS for option in TaskOptions.table(task)))
    labels = {"mask_kind" if option.name == "mask" else option.name: option.label for option in table}
    labels["mask_kind"] = "Mask type"  # the node has a socket of that name, for where to look
    texts: dict[str, Any] = {}
    for name, node in pack.NODE_CLASS_MAPPINGS.items():
        described = {
            key: {"name": labels[key] if is_setting(kind) and key in labels else label_of(key), "tooltip": extra["tooltip"]}
            for key, (kind, extra) in inputs(pack, name).items()
        }
        outputs = [(label_of(out), tip) for out, tip in zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True)]
        texts[name] = entry(node.TITLE, node.DESCRIPTION, described, outputs)
    return texts


def is_setting(kind: Any) -> bool:
    """Whether an input is a widget, not a socket: the same word can name both (faces)."""
    return isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN")


def languages() -> list[str]:
    """Those of nodes/texts. Their names are the page's codes (ja, zh-TW): it asks for locales and help pages by them."""
    return sorted(path.stem for path in TEXTS.glob("*.json"))


def source_of(language: str) -> dict[str, Any]:
    source: dict[str, Any] = json.loads((TEXTS / f"{language}.json").read_text("utf-8"))
    return source


def translated(pack: types.ModuleType, source: dict[str, Any]) -> dict[str, Any]:
    """The content of nodeDefs.json from a file of nodes/texts."""
    texts: dict[str, Any] = {}
    for name in pack.NODE_CLASS_MAPPINGS:
        title, description, outputs, own = source["nodes"][name]
        described: dict[str, Any] = {}
        for key, (kind, _) in inputs(pack, name).items():
            label, tip = own.get(key) or source["inputs"]["faces_option" if key == "faces" and is_setting(kind) else key]
            described[key] = {"name": label, "tooltip": tip}
        texts[name] = entry(title, description, described, outputs)
    return texts


def entry(title: str, description: str, described: dict[str, Any], outputs: Any) -> dict[str, Any]:
    numbered = {str(n): {"name": out, "tooltip": tip} for n, (out, tip) in enumerate(outputs)}
    return {"display_name": title, "description": description, "inputs": described, "outputs": numbered}


def files() -> dict[Path, str]:
    """Every page and translation: path and text."""
    pack = load_pack()
    texts = _files_of("en", pack, english(pack), WORDS)
    for language in languages():
        source = source_of(language)
        texts |= _files_of(language, pack, translated(pack, source), source["words"])
    return texts


def _files_of(language: str, pack: types.ModuleType, content: dict[str, Any], words: dict[str, str]) -> dict[Path, str]:
    written = {"nodeDefs": content} if language == "en" else {"nodeDefs": content, "main": {"nodeCategories": {CATEGORY: words[CATEGORY]}}}
    texts = {
        ROOT / "locales" / language / f"{name}.json": json.dumps(data, ensure_ascii=False, indent=2) + "\n"
        for name, data in written.items()
    }
    space = "\u00a0" if language == "fr" else ""
    return texts | {help_place(language, name): help_page(pack, name, content, words, space) for name in pack.NODE_CLASS_MAPPINGS}


def help_place(language: str, name: str) -> Path:
    """Where ComfyUI's page looks: first for its own language, in the node's folder."""
    return ROOT / "web" / "docs" / (f"{name}.md" if language == "en" else f"{name}/{language}.md")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
