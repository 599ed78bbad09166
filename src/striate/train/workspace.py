"""The arrays of a contrastive step, made once: no allocation in the loop."""

from __future__ import annotations

import torch

from striate.models.rbm import RBM


class Workspace:
    """Every array a step writes, made once for a batch size. Rows of the negative phase follow the data's."""

    def __init__(self, rbm: RBM, size: int, chains: int | None, dtype: torch.dtype) -> None:
        device = rbm.weights.device
        num_hidden, num_visible = rbm.weights.shape
        self.size = size
        self.num_negative = size if chains is None else chains
        rows = max(size, self.num_negative)
        self.v0 = torch.empty(size, num_visible, device=device)
        self.visible = torch.empty(size + self.num_negative, num_visible, dtype=dtype, device=device)
        self.hidden = torch.empty(size + self.num_negative, num_hidden, dtype=dtype, device=device)
        self.h_mean = torch.empty(size, num_hidden, device=device)
        self.h_state = torch.empty(size, num_hidden, dtype=dtype, device=device)
        self.positive_activity = torch.empty(num_hidden, device=device)
        self.v_mean = torch.empty(rows, num_visible, device=device)
        self.product_h = torch.empty(rows, num_hidden, dtype=dtype, device=device)
        self.product_v = torch.empty(rows, num_visible, dtype=dtype, device=device)
        self.uniform = torch.empty(rows * max(num_hidden, num_visible), device=device)
        if chains is not None:
            self.chain_state = torch.empty(chains, num_hidden, dtype=dtype, device=device)
            self.chain_mean = torch.empty(chains, num_hidden, device=device)
