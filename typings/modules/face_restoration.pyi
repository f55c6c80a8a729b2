from typing import Any

import numpy as np
from numpy.typing import NDArray

class FaceRestoration:
    def name(self) -> str: ...
    def restore(self, np_image: NDArray[np.uint8], *args: Any, **kwargs: Any) -> NDArray[np.uint8]: ...  # SD.Next: one argument more
