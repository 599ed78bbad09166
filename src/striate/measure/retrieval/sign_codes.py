"""Codes of features without training a net: the signs of centred principal components, turned so that signs lose little.

Source: Gong and Lazebnik 2011, iterative quantisation (ITQ): of all rotations of the components, one that brings rows
nearest to the corners of a cube, found by turns of signs and of orthogonal Procrustes. (Learned ones: `striate.app.codes`.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from striate.draws import generator
from striate.errors import BadInput
from striate.measure.binary_codes import pack
from striate.measure.embedding import Components, find_components

# Turns; the paper stops at 50, and sees little after 20.
_TURNS = 30


@dataclass(frozen=True)
class SignCoder:
    """Rows to bits.

    Attributes:
        components: of the rows.
        rotation: orthogonal, (bits, bits).
    """

    components: Components
    rotation: np.ndarray

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """Packed codes uint64 (n, words) of rows (n, d)."""
        return pack(self.components.apply(np.asarray(rows, dtype=np.float32)) @ self.rotation > 0)


def learn_sign_codes(sample: np.ndarray, bits: int, seed: int = 0) -> SignCoder:
    """A coder for rows like a sample's, (n, d).

    Raises:
        BadInput: more bits than the sample has dimensions or rows.
    """
    most = min(sample.shape)
    if not 1 <= bits <= most:
        raise BadInput(
            f"codes of {bits} bits from {sample.shape[0]:,} rows of {sample.shape[1]:,} numbers: expected 1 to {most:,}"
        )
    components = find_components(sample, bits, seed)
    rows = components.apply(sample)
    rotation = np.linalg.qr(generator(seed, "sign codes").standard_normal((bits, bits)))[0].astype(np.float32)
    for _ in range(_TURNS):
        signs = np.where(rows @ rotation > 0, 1, -1).astype(np.float32)
        left, _, right = np.linalg.svd(rows.T @ signs)
        rotation = left @ right
    return SignCoder(components, rotation)
