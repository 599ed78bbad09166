"""Fitting many small pictures at once by a Gabor function and, beside it, by a round spot with a surround.

A Gabor of given place, size, orientation and frequency is linear in its two quadrature amplitudes, so those are solved
exactly and only six numbers a picture are searched (variable projection), all pictures in one batch. The spot (difference of
two round Gaussians of one centre) is linear in its two amplitudes the same way and has three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_STEPS = 60
_RATE = 0.08
# The surround of a spot is this much wider than its centre (retinal receptive fields: 1.6; here wide enough for both).
_SURROUND = 2.0
# Amplitudes are solved from 2x2 normal equations; this keeps nearly parallel quadrature pairs (frequency 0) solvable.
_RIDGE = 1e-6


@dataclass(frozen=True)
class GaborFit:
    """Parameters of the best Gabor of each picture, (n,) each; lengths in pixels, angles in radians.

    Attributes:
        r2: share of the picture's energy it explains.
        x, y: centre, from the left and top pixel centres.
        theta: direction across the stripes, 0 to pi.
        frequency: cycles a pixel.
        phase: of the cosine at the centre.
        across, along: standard deviations of the envelope across and along the stripes.
    """

    r2: Tensor
    x: Tensor
    y: Tensor
    theta: Tensor
    frequency: Tensor
    phase: Tensor
    across: Tensor
    along: Tensor


def _grid(pictures: Tensor) -> tuple[Tensor, Tensor]:
    height, width = pictures.shape[1:]
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return x.to(pictures.device), y.to(pictures.device)


def _explained(pictures: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Energy of unit-norm pictures explained by two templates, and their amplitudes; all (n, h, w) -> (n,)."""
    a = (first * first).sum((1, 2)) + _RIDGE
    b = (first * second).sum((1, 2))
    c = (second * second).sum((1, 2)) + _RIDGE
    p, q = (pictures * first).sum((1, 2)), (pictures * second).sum((1, 2))
    determinant = (a * c - b * b).clamp_min(_RIDGE**2)
    u, v = (c * p - b * q) / determinant, (a * q - b * p) / determinant
    return u * p + v * q, u, v


def _gabor_templates(pictures: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    x, y = _grid(pictures)
    x0, y0, theta, frequency, across, along = _natural(raw, pictures.shape[1:])
    dx, dy = x - x0[:, None, None], y - y0[:, None, None]
    cos, sin = theta.cos()[:, None, None], theta.sin()[:, None, None]
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    envelope = torch.exp(-0.5 * ((u / across[:, None, None]) ** 2 + (v / along[:, None, None]) ** 2))
    angle = 2 * math.pi * frequency[:, None, None] * u
    return envelope * angle.cos(), envelope * angle.sin()


def _natural(raw: Tensor, size: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Free numbers to parameters in range: centre within the picture, widths from 0.4 pixels to the picture's side."""
    height, width = size
    side = max(height, width)
    x0 = (width - 1) * torch.sigmoid(raw[:, 0])
    y0 = (height - 1) * torch.sigmoid(raw[:, 1])
    frequency = 0.5 * torch.sigmoid(raw[:, 3])
    across, along = (0.4 + (0.6 * side - 0.4) * torch.sigmoid(raw[:, i]) for i in (4, 5))
    return x0, y0, raw[:, 2], frequency, across, along


def _logit(share: Tensor) -> Tensor:
    return torch.logit(share.clamp(0.02, 0.98))


def _centroid(pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre and spread (standard deviation along an axis) of each picture's squared energy, sharpened against noise."""
    x, y = _grid(pictures)
    energy = pictures.square()
    weight = energy.square() / energy.square().sum((1, 2), keepdim=True).clamp_min(1e-30)
    cx, cy = (weight * x).sum((1, 2)), (weight * y).sum((1, 2))
    distance = (x - cx[:, None, None]) ** 2 + (y - cy[:, None, None]) ** 2
    return cx, cy, ((weight * distance).sum((1, 2)) / 2).sqrt().clamp_min(0.6)


def _spectral_peaks(pictures: Tensor, count: int) -> list[tuple[Tensor, Tensor]]:
    """The strongest orientations and frequencies (theta, frequency) of each picture's zero-padded spectrum."""
    size = 32 if max(pictures.shape[1:]) <= 16 else 64
    power = torch.fft.rfft2(pictures, s=(size, size)).abs()
    fy = torch.fft.fftfreq(size, device=pictures.device)[:, None].expand(size, size // 2 + 1)
    fx = torch.fft.rfftfreq(size, device=pictures.device)[None, :].expand(size, size // 2 + 1)
    radius = (fx**2 + fy**2).sqrt()
    power = power * (radius <= 0.5)
    found = []
    for _ in range(count):
        best = power.flatten(1).argmax(dim=1)
        bx, by = fx.flatten()[best], fy.flatten()[best]
        found.append((torch.atan2(by, bx), (bx**2 + by**2).sqrt()))
        near = (fx - bx[:, None, None]) ** 2 + (fy - by[:, None, None]) ** 2 < (3 / size) ** 2
        power = power.masked_fill(near, 0)
    return found


def fit_gabors(pictures: Tensor) -> GaborFit:
    """The best Gabor of each picture (n, h, w), float32; pictures are scaled to unit norm first.

    Cost: two starts of 60 gradient steps; 400 pictures of 32x32 take about 5 s on two cores.
    """
    pictures = _unit(pictures)
    height, width = pictures.shape[1:]
    cx, cy, spread = _centroid(pictures)
    side = max(height, width)
    best_r2, best_raw = None, None
    for theta, frequency in _spectral_peaks(pictures, 2):
        widths = _logit((spread - 0.4) / (0.6 * side - 0.4))
        starts = (_logit(cx / (width - 1)), _logit(cy / (height - 1)), theta, _logit(frequency / 0.5), widths, widths)
        raw, r2 = _climb(pictures, torch.stack(starts, dim=1))
        if best_r2 is None or best_raw is None:
            best_r2, best_raw = r2, raw
        else:
            better = r2 > best_r2
            best_r2, best_raw = torch.where(better, r2, best_r2), torch.where(better[:, None], raw, best_raw)
    assert best_r2 is not None and best_raw is not None
    x0, y0, theta, frequency, across, along = _natural(best_raw, pictures.shape[1:])
    _, u, v = _explained(pictures, *_gabor_templates(pictures, best_raw))
    return GaborFit(best_r2, x0, y0, theta % math.pi, frequency, torch.atan2(-v, u), across, along)


def _climb(pictures: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient ascent of the explained energy; every picture keeps the best point it passed."""
    raw = raw.clone().requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    best = torch.full((len(raw),), -1.0, device=raw.device)
    best_raw = raw.detach().clone()
    for _ in range(_STEPS):
        explained, _, _ = _explained(pictures, *_gabor_templates(pictures, raw))
        better = explained.detach() > best
        best = torch.where(better, explained.detach(), best)
        best_raw = torch.where(better[:, None], raw.detach(), best_raw)
        optimiser.zero_grad()
        (-explained.sum()).backward()
        optimiser.step()
        schedule.step()
    return best_raw, best.clamp(0, 1)


def fit_spots(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The energy explained by the best round spot with a surround, and its standard deviation in pixels, (n,) each."""
    pictures = _unit(pictures)
    x, y = _grid(pictures)
    best = torch.zeros(len(pictures), device=pictures.device)
    best_width = torch.ones_like(best)
    side = max(pictures.shape[1:])
    for cx, cy in _spot_centres(pictures):
        distance = (x - cx[:, None, None]) ** 2 + (y - cy[:, None, None]) ** 2
        for width in _widths(side):
            centre = torch.exp(-0.5 * distance / width**2)
            surround = torch.exp(-0.5 * distance / (_SURROUND * width) ** 2)
            explained, _, _ = _explained(pictures, centre, surround)
            better = explained > best
            best = torch.where(better, explained, best)
            best_width = torch.where(better, torch.full_like(best, width), best_width)
    return best.clamp(0, 1), best_width


def _widths(side: int) -> list[float]:
    widths, width = [], 0.4
    while width < 0.4 * side:
        widths.append(width)
        width *= 1.3
    return widths


def _spot_centres(pictures: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Where a spot may sit: the strongest pixel, and the energy's centre around it."""
    x, y = _grid(pictures)
    strongest = pictures.abs().flatten(1).argmax(dim=1)
    px, py = x.flatten()[strongest], y.flatten()[strongest]
    centres = [(px, py)]
    for reach in (1.5, 3.0):
        near = torch.exp(-0.5 * ((x - px[:, None, None]) ** 2 + (y - py[:, None, None]) ** 2) / reach**2)
        weight = pictures.square() * near
        weight = weight / weight.sum((1, 2), keepdim=True).clamp_min(1e-30)
        centres.append(((weight * x).sum((1, 2)), (weight * y).sum((1, 2))))
    return centres


def _unit(pictures: Tensor) -> Tensor:
    pictures = pictures.float()
    return pictures / pictures.square().sum((1, 2), keepdim=True).sqrt().clamp_min(1e-30)
