"""Learned standard deviations of Gaussian visible units. Source: Krizhevsky 2009, section 1.4.3.2.

-dE/d(sigma) = (v - b)^2 / sigma^3 - v W'h / sigma^2. Learned here is log sigma, whose derivative is sigma times that:
((v - b) / sigma)^2 - (v / sigma) W'h. So sigma cannot turn negative, a step is a relative change, and the rule does not blow
up as sigma^-3 where sigma is small (differs: the paper learns sigma itself). The paper's rate is a hundredth to a thousandth
of the weights'; with more, points never become edges.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from striate.train.updates import Rates

# A pixel that the model explains fully would take its sigma to zero and the likelihood to infinity.
_LEAST, _MOST = 0.05, 4.0


class SigmaUpdate:
    """Momentum on log sigma; keeps a vector of deviations between a twentieth of and four times where they began.

    Args:
        sigma: (visible,), changed in place.
    """

    def __init__(self, sigma: Tensor) -> None:
        self.sigma = sigma
        self.velocity = torch.zeros_like(sigma)
        self.overlap = torch.zeros_like(sigma)
        self.log = sigma.log()
        middle = sigma.median().log()
        self.range = torch.stack([middle + math.log(_LEAST), middle + math.log(_MOST)])

    def apply(self, squares: Tensor, rates: Rates) -> None:
        """One update from the difference of squares (visible,); the products' part is in ``overlap``."""
        self.velocity.mul_(rates.momentum).add_(squares - self.overlap, alpha=rates.learning_rate)
        self.log.add_(self.velocity).clamp_(self.range[0], self.range[1])
        torch.exp(self.log, out=self.sigma)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs beside sigma: its logarithm to the last bit, and where sigma began."""
        return {"velocity.sigma": self.velocity, "log_sigma": self.log, "sigma_range": self.range}

    def refresh(self) -> None:
        """Begin from sigma as it is now, after it was set from outside."""
        torch.log(self.sigma, out=self.log)
