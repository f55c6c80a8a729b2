"""Registers the section "GPEN face restoration" in Settings."""

from gpen_webui import settings
from gpen_webui.copies import is_in_use

if is_in_use(__file__):
    settings.register()
