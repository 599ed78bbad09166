"""What a unit wants: the picture of a given norm that it answers most, by projected gradient ascent.

Source: Le et al. 2012, section 4.3: maximise f(x) with |x| = 1, by line search (the paper prints "arg min"). The bound here is
the mean norm of preprocessed pictures: at norm one a whole picture would lie in the linear regime of contrast normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from striate.draws import Draws

_HALVINGS = 12


@dataclass(frozen=True)
class Stimulus:
    """The best of several ascents.

    Attributes:
        row: preprocessed picture (pixels,).
        answer: of the unit.
        answers: where each start ended.
        frames: rows along the best ascent, the start first.
    """

    row: Tensor
    answer: float
    answers: tuple[float, ...]
    frames: tuple[Tensor, ...]


def optimal_stimulus(
    respond: Callable[[Tensor], Tensor], dim: int, norm: float, *, starts: int = 4, steps: int = 100, seed: int = 0
) -> Stimulus:
    """Climb from random pictures on the sphere of a norm; every step lengthens while it helps and is halved while it does not.

    Args:
        respond: preprocessed pictures (n, pixels) to the unit's answers (n,); differentiable.
        dim: pixels.
        norm: of the pictures.
        starts: how many random pictures to start from.
        steps: of each ascent.
        seed: of the starts.
    """
    best: tuple[float, list[Tensor]] | None = None
    ends = []
    for number in range(starts):
        start = Draws(seed, number, "stimulus/").normal("start", (dim,))
        frames = _climb(respond, norm * start / start.norm(), norm, steps)
        with torch.no_grad():
            end = float(respond(frames[-1][None])[0])
        ends.append(end)
        if best is None or end > best[0]:
            best = end, frames
    assert best is not None
    return Stimulus(best[1][-1], best[0], tuple(ends), tuple(best[1]))


def _climb(respond: Callable[[Tensor], Tensor], x: Tensor, norm: float, steps: int) -> list[Tensor]:
    frames, length = [x], 0.5 * norm
    for _ in range(steps):
        leaf = x.clone().requires_grad_()
        answer = respond(leaf[None])[0]
        [slope] = torch.autograd.grad(answer, leaf)
        # Along the sphere only: what points outwards changes nothing but the norm.
        slope = slope - (slope @ x) / norm**2 * x
        if float(slope.norm()) < 1e-12:
            break
        direction = slope / slope.norm()
        for _ in range(_HALVINGS):
            moved = x + length * direction
            moved = norm * moved / moved.norm()
            with torch.no_grad():
                better = float(respond(moved[None])[0]) > float(answer)
            if better:
                break
            length /= 2
        else:
            break
        x, length = moved, 1.5 * length
        frames.append(x)
    return frames
