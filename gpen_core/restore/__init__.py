"""From a picture to its restored one: the order of the steps."""
