from contextlib import AbstractContextManager
from typing import Any

queue_lock: AbstractContextManager[Any]  # a threading.Lock before 1.6, then the host's own FIFOLock
