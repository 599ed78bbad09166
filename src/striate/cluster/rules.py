"""Update rules as a parameter shard applies them: in place, on flat float32 vectors, at the speed of memory.

Each is a function of (values, memories, update, rates). A gradient rule is given gradients, whose minus is the way down;
`delta` is given changes that replicas made by themselves, and `nesterov` the mean of such changes, as DiLoCo's outer optimiser
(Douillard et al. 2023, algorithm 1). Adagrad is DistBelief's: each parameter's rate is gamma / sqrt(sum of squared gradients)
(Dean et al. 2012, section 4.1). Benchmark: `async-sgd`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.train.updates import Rates

TINY = 1e-8


def sgd(values: Tensor, memories: Sequence[Tensor], update: Tensor, rates: Rates) -> None:
    """w <- w - rate g."""
    values.add_(update, alpha=-rates.learning_rate)


def delta(values: Tensor, memories: Sequence[Tensor], update: Tensor, rates: Rates) -> None:
    """w <- w + rate d."""
    values.add_(update, alpha=rates.learning_rate)


def momentum(values: Tensor, memories: Sequence[Tensor], update: Tensor, rates: Rates) -> None:
    """v <- momentum v - rate g;  w <- w + v. (The rate inside the velocity, as everywhere here.)"""
    # torch's kernel takes lr times (momentum v + (1 - dampening) g) off: with lr -1 and a dampening of 1 + rate it is this.
    _fused_momentum(values, memories[0], update, rates.momentum, lr=-1.0, dampening=1.0 + rates.learning_rate)


def adagrad(values: Tensor, memories: Sequence[Tensor], update: Tensor, rates: Rates) -> None:
    """s <- s + g^2;  w <- w - rate g / sqrt(s), in one pass over memory."""
    (squares,) = memories
    # torch's own fused kernel: the same three operations in blocks that stay in cache take twice as long, in numpy three times.
    torch._fused_adagrad_(
        [values],
        [update],
        [squares],
        [torch.zeros(())],
        lr=rates.learning_rate,
        lr_decay=0.0,
        weight_decay=0.0,
        eps=TINY,
        maximize=False,
    )


def nesterov(values: Tensor, memories: Sequence[Tensor], update: Tensor, rates: Rates) -> None:
    """v <- momentum v + d;  w <- w + rate (d + momentum v), of a mean change d."""
    _fused_momentum(values, memories[0], update, rates.momentum, lr=-rates.learning_rate, nesterov=True)


def _fused_momentum(
    values: Tensor,
    velocity: Tensor,
    update: Tensor,
    momentum: float,
    *,
    lr: float,
    dampening: float = 0.0,
    nesterov: bool = False,
) -> None:
    if momentum == 0:
        # The kernel would not keep the velocity.
        torch.mul(update, 1 - dampening, out=velocity)
        values.add_(velocity, alpha=-lr)
        return
    torch._fused_sgd_(
        [values],
        [update],
        [velocity],
        weight_decay=0.0,
        momentum=momentum,
        lr=lr,
        dampening=dampening,
        nesterov=nesterov,
        maximize=False,
        is_first_step=False,
    )


@dataclass(frozen=True)
class Rule:
    """One of them.

    Attributes:
        apply: changes values and memories in place.
        memories: how many vectors it remembers.
        takes_gradients: whether it is given gradients, or changes.
        fades: whether steps grow shorter with the gradients seen.
    """

    apply: Callable[[Tensor, Sequence[Tensor], Tensor, Rates], None]
    memories: int
    takes_gradients: bool
    fades: bool = False


RULES = {
    "sgd": Rule(sgd, 0, takes_gradients=True),
    "momentum": Rule(momentum, 1, takes_gradients=True),
    "adagrad": Rule(adagrad, 1, takes_gradients=True, fades=True),
    "delta": Rule(delta, 0, takes_gradients=False),
    "nesterov": Rule(nesterov, 1, takes_gradients=False),
}
