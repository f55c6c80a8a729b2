"""Registers the face restorer "GPEN" (Settings > Face restoration), if the host has face restorers."""

from gpen_webui import host
from gpen_webui.copies import is_in_use

if is_in_use(__file__) and host.restores_faces():
    from gpen_webui import restorer

    restorer.register()
