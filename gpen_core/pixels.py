"""The one name for the numbers of a picture on their way through the steps."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]  # (height, width, 3), RGB, 0..1, where nothing else is said
