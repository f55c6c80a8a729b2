"""The array type of a picture's pixels in all steps."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]  # (height, width, 3), RGB, 0..1, unless stated otherwise
