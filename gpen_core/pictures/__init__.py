"""What stands behind gpen_core.picture: form.py (the Picture itself), arrays.py, reading.py, writing.py, metadata.py."""
