"""What follows the filters: L2 pooling and local contrast normalisation, on maps (height, width, maps, batch).

Source: Le et al. 2012, section 3.2; Jarrett et al. 2009 for the normalisation: subtractive, then divisive, one Gaussian window
over space and all maps together.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def padded(x: Tensor, pad: int) -> Tensor:
    """Zeros around maps (height, width, maps, batch): so many rows and columns in all, of an odd number one more after."""
    before, after = pad // 2, pad - pad // 2
    return F.pad(x, (0, 0, 0, 0, before, after, before, after)) if pad else x


def pool(h: Tensor, size: int, stride: int = 1, maps: int = 1, floor: float = 0.0, pad: int = 0, group: int = 1) -> Tensor:
    """sqrt(floor + sum of squares) over neighbouring places of one map, and over neighbouring maps of a square torus of them,
    or over groups of maps.

    Args:
        h: (height, width, maps, batch).
        size: edge of the neighbourhood of places.
        stride: from one pool to the next.
        maps: edge of the neighbourhood of maps; odd.
        floor: the paper's epsilon, once a pool.
        pad: rows and columns of zeros around.
        group: so many maps in a row become one.

    Returns:
        ((height + pad - size) / stride + 1, the same of width, maps / group, batch).
    """
    squares = padded(h.square(), pad)
    if maps > 1:
        squares = _over_maps(squares, maps)
    if group > 1:
        squares = squares.unflatten(2, (-1, group)).sum(dim=3)
    if size > 1 or stride > 1:
        squares = _sums(squares, size, stride)
    return (squares + floor).sqrt()


def _sums(x: Tensor, size: int, stride: int) -> Tensor:
    height, width, maps, batch = x.shape
    # Seen as one picture with maps x batch channels that lie side by side in memory.
    planes = x.reshape(1, height, width, maps * batch).permute(0, 3, 1, 2)
    summed = F.avg_pool2d(planes, size, stride, divisor_override=1)
    return summed.permute(0, 2, 3, 1).reshape(*summed.shape[2:], maps, batch)


def _over_maps(squares: Tensor, size: int) -> Tensor:
    edge = math.isqrt(squares.shape[2])
    torus = squares.unflatten(2, (edge, edge))
    shifts = range(-(size // 2), size // 2 + 1)
    rows = sum((torus.roll(shift, 2) for shift in shifts), torch.zeros_like(torus))
    return sum((rows.roll(shift, 3) for shift in shifts), torch.zeros_like(torus)).flatten(2, 3)


def normalise_contrast(x: Tensor, size: int, floor: float = 0.01, crop: bool = True) -> Tensor:
    """g = x - mean over the window; y = g / max(floor, root mean square of g over the window).

    Means weigh places by a Gaussian of standard deviation size / 4 and all maps alike; at the border windows are cut off, and
    their weights still sum to one.

    Args:
        x: (height, width, maps, batch).
        size: edge of the window; odd. 0 changes nothing.
        floor: least divisor.
        crop: give only places whose windows are whole.

    Returns:
        Like x; smaller by size - 1 in both directions where cropped.
    """
    if size == 0:
        return x
    window = gaussian(size, x.dtype, x.device)
    rows, columns = (band(edge, window) for edge in x.shape[:2])
    centred = x - blurred(x.mean(dim=2, keepdim=True), rows, columns)
    out = divided(centred, blurred(centred.square().mean(dim=2, keepdim=True), rows, columns), floor)
    half = size // 2
    return out[half : len(out) - half, half : out.shape[1] - half] if crop else out


def divided(centred: Tensor, spread: Tensor, floor: float) -> Tensor:
    """Maps by the root of a window's mean square, or by the floor."""
    # The root of zero has no slope; below the floor the divisor has none anyway.
    return centred / spread.clamp_min(floor**2).sqrt()


def gaussian(size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Tensor:
    """A window (size,) that sums to one; rows and columns of the square one are its products."""
    at = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-0.5 * (at / (size / 4)).square())
    return (weights / weights.sum()).to(device, dtype)


def blurred(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Windowed means of (height, width, 1, batch), rows first: a product with a band matrix each way."""
    height, width, _, batch = x.shape
    down = rows @ x.reshape(height, width * batch)
    return torch.matmul(columns, down.view(len(rows), width, batch)).unsqueeze(2)


def band(length: int, window: Tensor) -> Tensor:
    """(length, length) whose rows are the window around each place, cut off at the ends, summing to one."""
    half = len(window) // 2
    matrix = sum(
        torch.diag(weight.expand(max(length - abs(shift), 0)), shift)
        for shift, weight in enumerate(window, start=-half)
        if abs(shift) < length
    )
    assert isinstance(matrix, Tensor)
    return matrix / matrix.sum(dim=1, keepdim=True)
