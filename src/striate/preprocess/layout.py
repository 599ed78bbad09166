"""Where the patch models of a picture look: tiles, tiles offset by half a patch, and the whole picture made small.

Krizhevsky 2009, section 2.5 and figure 2.4: of a 32x32 picture, 4x4 tiles of 8x8 pixels, 3x3 more between them, and a 26th
patch that is the picture subsampled to 8x8 (means of 4x4 pixels). Two or three of the 26 see each pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.errors import BadInput


@dataclass(frozen=True)
class PatchLayout:
    """The patches of pictures of one shape.

    Attributes:
        shape: (channels, side, side) of the pictures.
        patch: side of a patch, which divides the pictures' in at least two.

    Raises:
        BadInput: pictures that are not square, or no whole number of patches wide.
    """

    shape: tuple[int, int, int]
    patch: int = 8

    def __post_init__(self) -> None:
        _, height, width = self.shape
        if height != width or width % self.patch or width < 2 * self.patch or self.patch % 2:
            raise BadInput(
                f"patches of {self.patch}x{self.patch} do not tile pictures of {height}x{width}: expected square pictures, "
                "an even patch, and at least two patches a side"
            )

    @property
    def places(self) -> list[tuple[int, int]]:
        """(top, left) of each patch cut out: the tiles row by row, then those between them."""
        size, side = self.patch, self.shape[1]
        grids = (range(0, side - size + 1, size), range(size // 2, side - size, size))
        return [(top, left) for grid in grids for top in grid for left in grid]

    @property
    def count(self) -> int:
        """Number of patches, the subsampled picture last."""
        return len(self.places) + 1

    @property
    def dim(self) -> int:
        """Numbers in a patch."""
        return self.shape[0] * self.patch**2

    @property
    def factor(self) -> int:
        """Pixels a side that one pixel of the subsampled picture is the mean of."""
        return self.shape[1] // self.patch

    def cut(self, rows: Tensor) -> Tensor:
        """Rows (n, pixels) to patches (count, n, dim)."""
        pictures = rows.view(-1, *self.shape)
        out = torch.empty(self.count, len(pictures), self.shape[0], self.patch, self.patch, device=rows.device)
        for number, (top, left) in enumerate(self.places):
            out[number] = pictures[:, :, top : top + self.patch, left : left + self.patch]
        out[-1] = F.avg_pool2d(pictures, self.factor)
        return out.flatten(2)

    def spread(self, patches: Tensor) -> Tensor:
        """The transpose of `cut`: weights on patches (count, n, dim) to weights on pictures (count, n, pixels).

        A filter on the subsampled picture becomes the same filter on pixels, each of its weights repeated over the pixels it is
        the mean of and divided by their number: total inputs stay what they were.
        """
        small = patches.view(self.count, -1, self.shape[0], self.patch, self.patch)
        out = torch.zeros(self.count, small.shape[1], *self.shape, dtype=patches.dtype, device=patches.device)
        for number, (top, left) in enumerate(self.places):
            out[number, :, :, top : top + self.patch, left : left + self.patch] = small[number]
        repeated = small[-1].repeat_interleave(self.factor, dim=2).repeat_interleave(self.factor, dim=3)
        out[-1] = repeated / self.factor**2
        return out.flatten(2)

    def coverage(self) -> Tensor:
        """How many of the patches see each pixel of one colour, the subsampled picture included, (side, side)."""
        seen = torch.ones(self.shape[1:])
        for top, left in self.places:
            seen[top : top + self.patch, left : left + self.patch] += 1
        return seen
