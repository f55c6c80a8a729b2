"""Registers the axes of the X/Y/Z plot, which set the face restorer."""

from gpen_webui import host
from gpen_webui.copies import is_in_use

if is_in_use(__file__) and host.restores_faces():
    from gpen_webui import xyz

    xyz.register()
