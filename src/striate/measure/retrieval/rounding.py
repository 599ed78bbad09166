"""How far products of rows, as they are computed, can lie from what they are.

A query that is rounded to a format is off by a known vector, and its product with a row x by that vector's norm times |x| at
most (Cauchy and Schwarz). Rounding a row moves each component by u of itself at most, the product by u |q||x|. Adding d numbers
up in float32, in any order, costs d 2^-24 |q||x|, and rounding the output u of the product itself. (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Half of the distance between neighbouring numbers, relative: 24 and 8 digits.
UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}
# Tensor cores may cut float32 operands to 10 bits after the first, rather than round them.
_TF32_UNIT = 2.0**-10
# Parts of a long bf16 product that a GPU may round before it adds them.
_GPU_PARTS = 3
# Second-order terms, and the few operations that come after the product.
_MORE = 8


def sum_error(dim: int) -> float:
    """Of float32 sums of so many products, relative to |q||x|."""
    return (dim + _MORE) * UNIT[torch.float32]


def product_errors(queries: np.ndarray, operand: Tensor, rows_rounded: bool) -> np.ndarray:
    """A bound on |computed - true| / |x| of a query's products before they are rounded to their format, (queries,).

    Args:
        queries: float64 (q, d).
        operand: the same in the products' format, on the products' device.
        rows_rounded: whether rows were brought to that format, or came in it.
    """
    norms = np.linalg.norm(queries, axis=1)
    rounded = np.linalg.norm(queries - operand.cpu().double().numpy(), axis=1)
    units = float(rows_rounded) * UNIT[operand.dtype]
    if operand.device.type == "cuda":
        tf32 = torch.backends.cuda.matmul.allow_tf32
        units += _GPU_PARTS * UNIT[torch.bfloat16] if operand.dtype == torch.bfloat16 else 2 * _TF32_UNIT * tf32
    return (rounded + (units + sum_error(queries.shape[1])) * norms) * (1 + 2 * UNIT[operand.dtype])
