# InputAccordion came with 1.6: gpen_webui/extras.py asks for it with getattr.
