"""What the three sets share besides the ops."""

from __future__ import annotations

import numpy as np

Array = np.ndarray  # in a type hint; an op also takes and returns CuPy's arrays
IGNORE = -100  # a target with this value does not count in a loss
