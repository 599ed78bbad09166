"""Candidates by the Hamming distance of short codes, all of which lie in memory: 32 bytes a picture at 256 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from striate.app.quick_search.quick import Finder
from striate.measure.embedding import Components
from striate.measure.retrieval import Codes, SignCoder, learn_sign_codes


class SignCodes:
    """Signs of turned principal components (`striate.measure.retrieval.sign_codes`). Effort: candidates a neighbour.

    Args:
        bits: of a code.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.kind = f"codes of {bits} bits"
        self.suffix = f"codes{bits}.npz"
        self.efforts: Sequence[int] = (10, 20, 40, 80, 160)

    def make(self, sample: np.ndarray, blocks: Iterator[np.ndarray], count: int, file: Path) -> None:
        """Learn a coder, and write it with the codes of all rows that are numbers."""
        coder = learn_sign_codes(sample, self.bits)
        codes, shown = [], []
        for rows in blocks:
            shown.append(np.isfinite(rows).all(axis=1))
            codes.append(coder.codes(rows[shown[-1]]))
        with file.open("wb") as opened:
            np.savez(
                opened,
                codes=np.concatenate(codes),
                positions=np.flatnonzero(np.concatenate(shown)),
                mean=coder.components.mean.numpy(),
                directions=coder.components.directions.numpy(),
                rotation=coder.rotation,
            )

    def open(self, file: Path) -> Finder:
        """Search of those codes."""
        with np.load(file, allow_pickle=False) as kept:
            components = Components(torch.from_numpy(kept["mean"]), torch.from_numpy(kept["directions"]))
            coder = SignCoder(components, kept["rotation"])
            positions, codes = kept["positions"], Codes(kept["codes"])

        def candidates(queries: np.ndarray, k: int, effort: int) -> np.ndarray:
            return positions[codes.nearest(coder.codes(queries), min(k * effort, len(codes))).positions]

        return candidates
