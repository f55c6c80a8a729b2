"""From a picture to the restored picture: the order of the steps."""
