"""Registers the script that writes the restorer's settings into generation parameters. The host finds the class by its name here."""

from gpen_webui import host
from gpen_webui.copies import is_in_use

if is_in_use(__file__) and host.restores_faces():
    from gpen_webui import infotext
    from gpen_webui.infotext import GpenInfotext

    __all__ = ["GpenInfotext"]

    infotext.register()
