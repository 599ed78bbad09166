"""What replicas exchange, by which rule and at which rates: what follows from a recipe, its model, and how many there are."""

from __future__ import annotations

from typing import Any

from striate.app.recipe import ExchangeGroup
from striate.cluster.rules import RULES
from striate.errors import BadInput
from striate.train import Rates
from striate.train.exchanged import GivesGradients

_WARM_START = 100
# Steps from push to push where replicas train by themselves; DiLoCo's authors take 500, on models of months.
_APART = 50


def chosen_rule(exchange: ExchangeGroup, learner: Any) -> tuple[str, bool]:
    """The shards' rule, and whether replicas send gradients.

    Raises:
        BadInput: the rule is for gradients, and this kind of model gives none.
    """
    gives = isinstance(learner, GivesGradients)
    if exchange.mode in ("local", "diloco"):
        if exchange.rule not in ("auto", "delta"):
            raise BadInput(f"cluster.exchange.mode={exchange.mode} exchanges changes: leave rule={exchange.rule} out")
        return "nesterov" if exchange.mode == "diloco" else "delta", False
    if exchange.rule == "auto":
        own = getattr(learner, "own_rule", "delta")
        return (own if own in RULES else "momentum") if gives else "delta", gives
    if exchange.rule != "delta" and not gives:
        raise BadInput(
            f"cluster.exchange.rule={exchange.rule} is for models that give gradients (convnet, sparse); this one exchanges "
            "changes: set cluster.exchange.rule=delta"
        )
    return exchange.rule, exchange.rule != "delta"


def intervals(exchange: ExchangeGroup, gradients: bool, advised: int | None = None) -> tuple[int, int]:
    """Steps from pull to pull, and from push to push.

    Args:
        exchange: the recipe's group.
        gradients: whether they are what is sent; changes are answered at each push.
        advised: what `auto` stands for; None: 1, which a plan will put right.
    """
    push = exchange.push_every or (_APART if exchange.mode in ("local", "diloco") else 1)
    found = [(advised or 1) if every == "auto" else every for every in (exchange.pull_every, push)]
    return found[0 if gradients else 1], found[1]


def takes_advice(exchange: ExchangeGroup, gradients: bool) -> bool:
    """Whether an interval is the plan's to choose.

    Raises:
        BadInput: in rounds, whose intervals are part of how they learn.
    """
    found = exchange.push_every == "auto" or (gradients and exchange.pull_every == "auto")
    if found and exchange.mode != "downpour":
        raise BadInput(f"cluster.exchange.push_every=auto is for mode=downpour: mode={exchange.mode} takes a number of steps")
    return found


def warm_start(exchange: ExchangeGroup, gradients: bool, replicas: int, total_steps: int) -> int:
    """Minibatches that one replica learns from alone.

    First gradients are large and alike: several replicas' together overshoot, and Adagrad never forgets it.
    """
    if exchange.warm_start_steps is not None:
        return exchange.warm_start_steps
    needed = gradients and exchange.mode == "downpour" and replicas > 1
    return min(_WARM_START, total_steps // 20) if needed else 0


def rates(exchange: ExchangeGroup, momentum: float, gradients: bool, replicas: int) -> Rates | None:
    """What the shards apply pushes with; None: what each replica's schedule says.

    Args:
        exchange: the recipe's group.
        momentum: the recipe's, for a rate of the exchange's own.
        gradients: whether they are what is sent.
        replicas: how many.
    """
    if exchange.mode == "diloco":
        # Of its authors.
        return Rates(exchange.rate or 0.7, 0.9 if exchange.momentum is None else exchange.momentum)
    if not gradients:
        # Rounds average; at their own pace, changes that K replicas made from about the same start, each with its own momentum,
        # would carry K times too far.
        return Rates(exchange.rate or (1.0 if exchange.mode != "downpour" else 1.0 / replicas), 0.0)
    if exchange.rate is None:
        return None
    return Rates(exchange.rate, momentum if exchange.momentum is None else exchange.momentum)
