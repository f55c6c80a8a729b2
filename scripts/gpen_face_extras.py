"""Registers the accordion "GPEN" in Extras. The host finds the class by its name in this module."""

from gpen_webui.copies import is_in_use

if is_in_use(__file__):
    from gpen_webui.extras import GpenExtras

    __all__ = ["GpenExtras"]
