"""What is done with one face, one step a module."""
