"""Registers the face restorer "GPEN" (Settings > Face restoration), if the host has face restorers."""

from gpen_webui import host

if host.restores_faces():
    from gpen_webui import restorer

    restorer.register()
