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
PACK = "gpen_pack"
NATIVE = {"IMAGE": "picture(s)", "MASK": "mask(s)"}


def load_pack() -> types.ModuleType:
    """The pack, imported as ComfyUI does, with the least of a host: a folder list."""
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


def help_page(pack: types.ModuleType, name: str) -> str:
    node = pack.NODE_CLASS_MAPPINGS[name]
    lines = [f"# {node.TITLE}", "", node.DESCRIPTION, "", "## Inputs", "", "| input | kind | default | what it does |", "|---|---|---|---|"]
    optional = pack.INPUTS[name].get("optional", {})
    for key, (kind, extra) in inputs(pack, name).items():
        choices = ", ".join(kind) if isinstance(kind, list) and len(kind) < 9 else "a list"
        shown = choices if isinstance(kind, list) else f"{extra['min']} to {extra['max']}" if "min" in extra else str(kind)
        default = "not connected" if key in optional else str(extra["default"]) or "empty" if "default" in extra else ""
        lines.append(f"| {key} | {shown} | {default} | {extra['tooltip']} |")
    lines += ["", "## Outputs", "", "| output | kind | what it is |", "|---|---|---|"]
    lines += [
        f"| {out} | {kind} | {tip} |" for out, kind, tip in zip(node.RETURN_NAMES, node.RETURN_TYPES, node.OUTPUT_TOOLTIPS, strict=True)
    ]
    return "\n".join(lines) + "\n"


def english(pack: types.ModuleType) -> dict[str, Any]:
    from gpen_core.options import RestoreOptions

    labels = {"mask_kind" if option.name == "mask" else option.name: option.label for option in RestoreOptions.table()}
    texts: dict[str, Any] = {}
    for name, node in pack.NODE_CLASS_MAPPINGS.items():
        described = {
            key: {"name": labels[key] if is_setting(kind) and key in labels else key.replace("_", " "), "tooltip": extra["tooltip"]}
            for key, (kind, extra) in inputs(pack, name).items()
        }
        outputs = [(out.replace("_", " "), tip) for out, tip in zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True)]
        texts[name] = entry(node.TITLE, node.DESCRIPTION, described, outputs)
    return texts


def is_setting(kind: Any) -> bool:
    """Whether an input is a widget, not a socket: the same word can name both (faces)."""
    return isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN")


def translated(pack: types.ModuleType, language: str) -> dict[str, Any]:
    source = json.loads((ROOT / "nodes" / "texts" / f"{language}.json").read_text("utf-8"))
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
    texts = {ROOT / "web" / "docs" / f"{name}.md": help_page(pack, name) for name in pack.NODE_CLASS_MAPPINGS}
    for language in ("en", "de", "zh"):
        content = english(pack) if language == "en" else translated(pack, language)
        texts[ROOT / "locales" / language / "nodeDefs.json"] = json.dumps(content, ensure_ascii=False, indent=2) + "\n"
    return texts


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
