"""What differs between the WebUIs of A1111's family when they are started and clicked through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_A1111 = ("--skip-prepare-environment", "--skip-torch-cuda-test", "--skip-version-check", "--skip-python-version-check")


@dataclass(frozen=True)
class Host:
    """How one WebUI starts on a CPU without a checkpoint, and what its page is like."""

    title: str
    arguments: tuple[str, ...]
    restores: bool = True  # whether it has face restorers
    tab: str = "Extras"
    section: str = "Settings"  # the tab with the settings
    settings: str = "{}"  # config.json
    by_script: bool = False  # whether its own Extras API passes arguments to extensions


HOSTS = {
    "a1111": Host("A1111", (*_A1111, "--use-cpu", "all", "--no-half", "--skip-load-model-at-start", "--no-download-sd-model")),
    "forge": Host("Forge", (*_A1111, "--always-cpu", "--skip-load-model-at-start", "--no-download-sd-model")),
    "forge-neo": Host("Forge Neo", (*_A1111, "--cpu"), settings='{"VERSION_UID": "PY313"}'),
    "reforge": Host("reForge", (*_A1111, "--always-cpu", "--skip-load-model-at-start", "--no-download-sd-model")),
    "sdnext": Host(
        "SD.Next",
        ("--skip-all", "--use-cpu=all", "--docs"),
        restores=False,
        tab="Process",
        section="System",
        settings='{"theme_type": "Standard", "gradio_theme": "black-teal", "sd_checkpoint_autoload": false, "samples_format": "png"}',
        by_script=True,
    ),
}


def named(checkout: Path) -> str:
    """Which of HOSTS a checkout is."""
    if (checkout / "installer.py").is_file():
        return "sdnext"
    if not (checkout / "modules_forge").is_dir():
        return "a1111"
    if (checkout / "ldm_patched").is_dir():
        return "reforge"
    return "forge-neo" if '"neo"' in (checkout / "modules_forge" / "forge_version.py").read_text("utf-8") else "forge"
