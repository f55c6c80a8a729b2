# ComfyUI 0.3.64 to 0.8.0.
