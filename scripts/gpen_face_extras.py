"""Registers the accordion "GPEN" in Extras. The host finds the class by its name in this module."""

from gpen_webui.extras import GpenExtras

__all__ = ["GpenExtras"]
