"""What a unit wants: the picture of a given norm that it answers most, by projected gradient ascent.

Source: Le et al. 2012, section 4.3: maximise f(x) with |x| = 1, by line search (the paper prints "arg min"). The bound here is
the mean norm of preprocessed pictures: at norm one a whole picture would lie in the linear regime of contrast normalisation.

On that sphere most directions are fine detail that no picture has, and where filters were whitened they answer to it most. So
a second climb goes over pictures whose spectrum is that of pictures: each frequency moves as easily as it is strong in them.
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


@dataclass(frozen=True)
class Spectrum:
    """How strong each frequency is in pictures.

    Attributes:
        amplitudes: mean ones, (channels, height, width // 2 + 1).
        shape: of the pictures, (channels, height, width).
    """

    amplitudes: Tensor
    shape: tuple[int, int, int]

    @staticmethod
    def of(rows: Tensor, shape: tuple[int, int, int]) -> Spectrum:
        """That of preprocessed pictures (n, pixels) of a shape; what is absent counts a thousandth of the strongest."""
        mean = torch.fft.rfft2(rows.view(-1, *shape)).abs().mean(dim=0)
        return Spectrum(mean.clamp_min(1e-3 * float(mean.max())), shape)

    def colour(self, white: Tensor) -> Tensor:
        """White pictures (n, pixels) with this spectrum."""
        return self._scaled(white, self.amplitudes)

    def whiten(self, rows: Tensor) -> Tensor:
        """Back from there."""
        return self._scaled(rows, 1 / self.amplitudes)

    def _scaled(self, rows: Tensor, factors: Tensor) -> Tensor:
        waves = torch.fft.rfft2(rows.view(-1, *self.shape)) * factors
        return torch.fft.irfft2(waves, s=self.shape[1:]).flatten(1)


def natural_stimulus(
    respond: Callable[[Tensor], Tensor], first: Tensor, norm: float, spectrum: Spectrum, *, steps: int = 30
) -> Stimulus:
    """Climb as `optimal_stimulus` does, but over pictures of a given spectrum.

    Args:
        respond: preprocessed pictures (n, pixels) to the unit's answers (n,); differentiable.
        first: the picture to start from (pixels,).
        norm: of the pictures.
        spectrum: of pictures.
        steps: of the ascent; the further it goes, the more of what no picture has comes in.
    """

    def picture(white: Tensor) -> Tensor:
        coloured = spectrum.colour(white)
        return norm * coloured / coloured.norm(dim=1, keepdim=True)

    start = spectrum.whiten(first[None])[0]
    frames = _climb(lambda white: respond(picture(white)), start / start.norm(), 1.0, steps)
    shown = tuple(picture(frame[None])[0] for frame in frames)
    with torch.no_grad():
        answer = float(respond(shown[-1][None])[0])
    return Stimulus(shown[-1], answer, (answer,), shown)


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
