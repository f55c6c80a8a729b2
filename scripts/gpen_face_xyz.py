"""Registers the axes of the X/Y/Z plot."""

from gpen_webui import xyz

xyz.register()
