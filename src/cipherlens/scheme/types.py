"""Names for the arrays of the engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Limbs = NDArray[np.float64]
"""Centred residues, one row of N for each prime; leading axes count parts or digits."""

Slots = NDArray[np.complex128]
"""Complex slot values, shape (N / 2,)."""
