"""Registers the section "GPEN face restoration" in Settings."""

from gpen_webui import settings

settings.register()
