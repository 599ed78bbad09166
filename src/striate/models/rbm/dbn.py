"""Deep belief nets: a stack of RBMs, each on the activities of the one below. Source: Krizhevsky 2009, section 1.4.5.

The top two layers are an RBM; below it, arrows point down: p(v, h1, h2) = p(v | h1) p_top(h1, h2). Training is greedy, a layer
at a time, on the mean activities of the layer below (section 2.8), so a net is nothing but its RBMs in order.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.rbm.gibbs import gibbs
from striate.models.rbm.rbm import RBM
from striate.models.rbm.units import Bernoulli, bernoulli


@dataclass(frozen=True)
class DeepBeliefNet:
    """A stack of RBMs, the lowest first.

    Raises:
        BadInput: there is none, a layer's visible units are not as many as the hidden units below it, or, above the lowest
            layer, not binary.
    """

    rbms: tuple[RBM, ...]

    def __post_init__(self) -> None:
        if not self.rbms:
            raise BadInput("a deep belief net needs at least one RBM")
        for level, (below, above) in enumerate(zip(self.rbms, self.rbms[1:]), start=2):
            check_stacks(below, above, level)

    def up(self, v: Tensor) -> list[Tensor]:
        """Mean activities of every layer, each computed from the means below: (batch, visible) -> [(batch, hidden_l)]."""
        activities = []
        for rbm in self.rbms:
            v = rbm.hidden_mean(v)
            activities.append(v)
        return activities

    def down(self, top: Tensor, draws: Draws | None = None) -> Tensor:
        """From the top layer's states (batch, hidden) to the mean of the visible units, in data units.

        Args:
            top: states or means.
            draws: layers between are sampled with these; None passes means down.
        """
        for level in range(len(self.rbms) - 1, 0, -1):
            top = self.rbms[level].visible_mean(top)
            if draws is not None:
                top = bernoulli(top, draws, f"down{level}")
        return self.rbms[0].visible_mean(top)

    def sample(self, count: int, draws: Draws, steps: int = 1000, start: Tensor | None = None) -> Tensor:
        """Means of visible units given samples of the layer above: Gibbs at the top, then one pass down.

        Args:
            count: how many.
            draws: of every state.
            steps: of Gibbs sampling in the top RBM.
            start: hidden states of the top layer to begin at (count, hidden); by default fair coins.
        """
        top = self.rbms[-1]
        h = (draws.uniform("start", (count, top.num_hidden)) < 0.5).to(top.weights.dtype) if start is None else start
        v, _ = gibbs(top, h, draws.within("top"), steps)
        for level in range(len(self.rbms) - 2, -1, -1):
            mean = self.rbms[level].visible_mean(v)
            v = mean if level == 0 else bernoulli(mean, draws, f"down{level}")
        return v if len(self.rbms) > 1 else top.visible_mean(bernoulli(top.hidden_mean(v), draws, "last"))


def check_stacks(below: RBM, above: RBM, level: int) -> None:
    """Raise `BadInput` unless an RBM fits on top of another."""
    if above.num_visible != below.num_hidden:
        raise BadInput(
            f"layer {level} has {above.num_visible} visible units, but the layer below it has {below.num_hidden} hidden ones"
        )
    if not isinstance(above.units, Bernoulli):
        raise BadInput(f"layer {level} has {above.units.kind} visible units: activities of the layer below need bernoulli ones")


def transposed(below: RBM) -> RBM:
    """The next layer's start that leaves a net with two layers what it was with one: the RBM below upside down.

    With it p(h1) of the new top RBM is that of the old one, so that the variational bound starts tight (equation 1.7). Exact
    where the visible units are binary; with Gaussian ones the weights are the same and the states are not.
    """
    return RBM(below.weights.t().contiguous(), below.hidden_bias.clone(), below.visible_bias.clone(), Bernoulli())


def first_layer_likes(below: RBM, above: RBM, count: int = 4) -> tuple[Tensor, Tensor]:
    """Which first-layer filters each second-layer unit weighs most and least (figure 2.15).

    Returns:
        Indices (hidden of above, count) of the most positive weights, largest first, and of the most negative, least first.
    """
    check_stacks(below, above, 2)
    return above.weights.topk(count, dim=1).indices, above.weights.topk(count, dim=1, largest=False).indices
