"""Registers the face restorer "GPEN" (Settings > Face restoration)."""

from gpen_webui import restorer

restorer.register()
