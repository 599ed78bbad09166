"""Parallel tempering: chains at many temperatures that swap states, so that modes far apart are reached from the hot ones.

Source: Desjardins et al. 2010; Cho et al. 2010. The hottest model is a base of independent pixels fitted to data rather than a
model with its weights at zero: for Gaussian visible units the models between stay Gaussian given h, which scaling the energy
alone does not give (Cho et al. 2011). The models between are those of `ais.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm.ais import Annealed


class TemperedChains:
    """Some chains at each of several temperatures.

    Args:
        path: models from the base (beta 0) to the RBM (beta 1).
        count: chains at each temperature.
        temperatures: how many, spaced evenly in beta from 0 to 1.
        draws: of where they start, in the base.

    Attributes:
        v: visible states (temperatures, count, visible), the RBM's own last.
        swapped: share of swaps taken in the last step, between each two neighbours.
    """

    def __init__(self, path: Annealed, count: int, temperatures: int, draws: Draws) -> None:
        if temperatures < 2:
            raise BadInput(f"tempering needs at least two temperatures, found {temperatures}")
        self.path = path
        self.betas = torch.linspace(0, 1, temperatures)
        start = path.start(count * temperatures, draws)
        self.v = start.view(temperatures, count, -1)
        self.swapped = torch.zeros(temperatures - 1)

    def step(self, draws: Draws) -> None:
        """One Gibbs step at every temperature, then swaps between neighbours, even pairs and odd pairs in turn."""
        temperatures, count, visible = self.v.shape
        beta = self.betas.repeat_interleave(count)[:, None].to(self.v)
        rows = self.v.reshape(-1, visible)
        mean = torch.sigmoid(beta * self.path.rbm.hidden_input(rows))
        h = (draws.uniform("h", mean.shape, mean.device) < mean).to(mean.dtype)
        self.v = self.path.resample(h, beta, draws).view(temperatures, count, visible)
        for parity in (0, 1):
            self._swap(parity, draws)

    def _swap(self, parity: int, draws: Draws) -> None:
        """Exchange states of neighbours with the probability that keeps every model's distribution."""
        temperatures, count, visible = self.v.shape
        rows = self.v.reshape(-1, visible)
        hidden_input = self.path.rbm.hidden_input(rows).view(temperatures, count, -1)
        slope = self.path.visible_slope(rows).view(temperatures, count)
        uniform = draws.uniform(f"swap{parity}", (temperatures, count), self.v.device)
        for cold in range(parity + 1, temperatures, 2):
            hot = cold - 1
            gain = self._log_weight(cold, hidden_input[hot], slope[hot]) + self._log_weight(
                hot, hidden_input[cold], slope[cold]
            )
            gain -= self._log_weight(cold, hidden_input[cold], slope[cold]) + self._log_weight(
                hot, hidden_input[hot], slope[hot]
            )
            taken = uniform[cold].log() < gain
            self.v[hot], self.v[cold] = (
                torch.where(taken[:, None], self.v[cold], self.v[hot]),
                torch.where(taken[:, None], self.v[hot], self.v[cold]),
            )
            self.swapped[hot] = float(taken.float().mean())

    def _log_weight(self, temperature: int, hidden_input: Tensor, slope: Tensor) -> Tensor:
        """log p_beta(v) but for what is the same at all temperatures, (count,)."""
        beta = float(self.betas[temperature])
        return beta * slope + F.softplus(beta * hidden_input).sum(dim=1)
