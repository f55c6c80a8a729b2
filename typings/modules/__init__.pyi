# The WebUI's package (A1111 1.5 to 1.10, Forge, reForge, SD.Next).
