"""Registers the routes /gpen/restore and /gpen/models."""

from gpen_webui import api

api.register()
