"""Registers the axes of the X/Y/Z plot, which set the face restorer."""

from gpen_webui import host

if host.restores_faces():
    from gpen_webui import xyz

    xyz.register()
