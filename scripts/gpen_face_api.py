"""Registers the routes /gpen/restore and /gpen/models."""

from gpen_webui import api
from gpen_webui.copies import is_in_use

if is_in_use(__file__):
    api.register()
