# report() is not in SD.Next: gpen_webui/host.py asks for it with getattr.
