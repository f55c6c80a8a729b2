"""A stand-in for the WebUI's package `modules`: only what gpen_webui touches, behaving as docs and real runs say the host behaves."""
