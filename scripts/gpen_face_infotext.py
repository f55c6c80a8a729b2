"""Registers the script that writes the settings into generation parameters. The host finds the class by its name in this module."""

from gpen_webui import infotext
from gpen_webui.infotext import GpenInfotext

__all__ = ["GpenInfotext"]

infotext.register()
