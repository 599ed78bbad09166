"""How far a product of two rows, as it was computed, can lie from what it is, in units of the rows' norms.

Each component of a row that is rounded to a format is off by u of itself at most, so a product of two is off by 2u |q||x| (the
sum of |q_i x_i| is at most |q||x|: Cauchy and Schwarz). Adding d numbers up in float32, in any order, adds d 2^-24 |q||x|, and
an output rounded to the format another u. (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.)
"""

from __future__ import annotations

import torch

# Half of the distance between neighbouring numbers, relative: 24 and 8 digits.
_UNIT = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}
# Tensor cores may cut float32 operands to 10 bits rather than round them.
_TF32_UNIT = 2.0**-10
# Second-order terms, and the few operations that come after the product.
_MORE = 8


def product_margin(dim: int, dtype: torch.dtype, device: torch.device, rounded: int = 2) -> float:
    """A bound on |computed - true| / (|q||x|) of products of rows of this width, whose sums run in float32.

    Args:
        dim: components of a row.
        dtype: of the operands.
        device: where; a GPU may take float32 operands as tf32, and add parts of a long bf16 product up in bf16.
        rounded: how many of the two operands were rounded to that format.
    """
    sums = (dim + _MORE) * _UNIT[torch.float32]
    gpu = device.type == "cuda"
    if dtype == torch.float32:
        return sums + (2 * _TF32_UNIT if gpu and torch.backends.cuda.matmul.allow_tf32 else 0.0)
    # The output is rounded, too; on a GPU, parts of the sum.
    return sums + (rounded + (4 if gpu else 1)) * _UNIT[dtype] * (1 + 2 * _UNIT[dtype])
