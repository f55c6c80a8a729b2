"""The page to try gpen_core in a browser, and a small HTTP API beside it: `python -m gpen_core page`. See docs/page.md.

Only `page` and `server` need gradio; nothing outside this package imports it.
"""
