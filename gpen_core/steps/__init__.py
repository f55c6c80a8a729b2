"""The steps for one face, one module each."""
