"""The A1111 WebUI family's door onto gpen_core (A1111 1.5 to 1.10, Forge, reForge, SD.Next): what the files in scripts/ register.

Only this package and scripts/ import the host (`modules`, gradio, fastapi, pydantic). docs/a1111.md is the user's guide.
"""
