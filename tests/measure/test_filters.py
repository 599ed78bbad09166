"""Edge, point or noise: known populations are told apart, hard negatives included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bounds import share_bound
from striate.measure import fit_filters
from striate.measure.filters import KINDS

COUNT = 150
SIZES = [8, 32]


def _random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _grid(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    return x, y


def gabors(size: int, noise: float = 0.3) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Localised Gabors of any place, direction and phase, coloured, with white noise of so much of their norm."""
    g, (x, y) = _random(0), _grid(size)

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(COUNT, 1, 1, generator=g)

    x0, y0, theta, phase = uniform(0.3, 0.7) * size, uniform(0.3, 0.7) * size, uniform(0, math.pi), uniform(0, 2 * math.pi)
    across = uniform(0.08, 0.16) * size
    along = across * uniform(1, 2)
    frequency = torch.maximum(uniform(0.08, 0.28), 0.25 / across)
    u, v = (x - x0) * theta.cos() + (y - y0) * theta.sin(), (y - y0) * theta.cos() - (x - x0) * theta.sin()
    picture = torch.exp(-0.5 * ((u / across) ** 2 + (v / along) ** 2)) * torch.cos(2 * math.pi * frequency * u + phase)
    picture /= picture.square().sum((1, 2), keepdim=True).sqrt()
    dirt = torch.randn(COUNT, size, size, generator=g)
    dirt *= noise / dirt.square().sum((1, 2), keepdim=True).sqrt()
    colours = 1 + 0.3 * torch.randn(COUNT, 3, 1, 1, generator=g)
    return (picture + dirt)[:, None] * colours, theta.flatten().numpy(), frequency.flatten().numpy()


def points(size: int) -> torch.Tensor:
    """Round spots of one to a few pixels with a weak surround, of any colour and place."""
    g, (x, y) = _random(1), _grid(size)
    x0, y0 = ((0.2 + 0.6 * torch.rand(COUNT, 1, 1, generator=g)) * size for _ in "xy")
    width = 0.5 + 0.04 * size * torch.rand(COUNT, 1, 1, generator=g)
    distance = (x - x0) ** 2 + (y - y0) ** 2
    spot = torch.exp(-0.5 * distance / width**2) - 0.15 * torch.exp(-0.5 * distance / (2 * width) ** 2)
    spot /= spot.square().sum((1, 2), keepdim=True).sqrt()
    dirt = torch.randn(COUNT, 3, size, size, generator=g) * 0.2 / size
    return spot[:, None] * (1 + 0.3 * torch.randn(COUNT, 3, 1, 1, generator=g)) + dirt


def white(size: int) -> torch.Tensor:
    return torch.randn(COUNT, 3, size, size, generator=_random(2))


def pink(size: int) -> torch.Tensor:
    """Noise of natural pictures' 1/f spectrum: smooth, yet nothing is in it."""
    f = torch.fft.fftfreq(64)
    radius = (f[:, None] ** 2 + f[None] ** 2).sqrt().clamp_min(1 / 64)
    field = torch.fft.ifft2(torch.fft.fft2(torch.randn(COUNT, 3, 64, 64, generator=_random(3))) / radius).real
    field = field[:, :, :size, :size]
    return field - field.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("size", SIZES)
def test_gabors_are_edges_and_their_parameters_are_found(size: int) -> None:
    """At least 95% edges (binomial bound at 1e-6); median direction within 2 degrees, frequency within 0.015 cycles a pixel."""
    pictures, theta, frequency = gabors(size)
    fits = fit_filters(pictures)
    assert fits.shares()["edge"] >= 0.95 - share_bound(0.95, COUNT)
    # The stripes run at right angles to theta; directions are equal modulo pi.
    error = np.abs((fits.orientation - math.pi / 2 - theta + math.pi / 2) % math.pi - math.pi / 2)
    assert np.degrees(np.median(error)) < 2
    assert np.median(np.abs(fits.frequency - frequency)) < 0.015


@pytest.mark.parametrize("size", SIZES)
def test_spots_are_points_not_edges(size: int) -> None:
    shares = fit_filters(points(size)).shares()
    assert shares["edge"] <= share_bound(0.02, COUNT)
    assert shares["point"] >= 0.9 - share_bound(0.9, COUNT)


@pytest.mark.parametrize("size", SIZES)
def test_white_noise_is_noise(size: int) -> None:
    """And far from the threshold: the best Gabor explains less than 0.45 of any of them."""
    fits = fit_filters(white(size))
    assert fits.shares()["noise"] == 1
    assert fits.gabor_r2.max() < 0.45


def test_smooth_noise_is_noise_in_whole_pictures() -> None:
    assert fit_filters(pink(32)).shares()["edge"] <= 0.02 + share_bound(0.02, COUNT)


def test_a_grating_over_the_whole_picture_is_not_localised() -> None:
    x, _ = _grid(32)
    grating = torch.cos(2 * math.pi * 0.15 * x + torch.linspace(0, 6, 10)[:, None, None])[:, None]
    assert fit_filters(grating).shares()["noise"] == 1


def test_dead_filters_are_noise() -> None:
    assert fit_filters(torch.zeros(4, 3, 8, 8)).shares()["noise"] == 1


@pytest.mark.parametrize("size", SIZES)
def test_turning_mirroring_and_scaling_change_no_kind(size: int) -> None:
    """A handful near a threshold may change sides; nine in ten must not, and edges turn by 90 degrees."""
    pictures = torch.cat([gabors(size)[0][:50], points(size)[:50], white(size)[:50]])
    base = fit_filters(pictures)
    turned = fit_filters(torch.rot90(pictures, 1, (2, 3)))
    for other in (turned, fit_filters(pictures.flip(3)), fit_filters(-pictures), fit_filters(1e-3 * pictures)):
        assert (other.kind == base.kind).mean() >= 0.9
    edges = (base.kind == 0) & (turned.kind == 0)
    difference = np.abs((turned.orientation - base.orientation)[edges] % math.pi - math.pi / 2)
    assert np.median(difference) < 0.05


def test_colour_edges_are_edges_and_saturated() -> None:
    """Red against green at equal brightness: no luminance at all, yet an edge on its own colour axis."""
    grey = gabors(8, noise=0.0)[0][:, :1]
    coloured = torch.cat([grey, -grey, torch.zeros_like(grey)], dim=1)
    fits = fit_filters(coloured)
    assert fits.shares()["edge"] >= 0.95 - share_bound(0.95, COUNT)
    assert fits.saturation.min() > 0.99
    assert fit_filters(grey.expand(-1, 3, -1, -1)).saturation.max() < 0.01


def test_grey_filters_of_mnist_size_and_shares_add_up() -> None:
    shares = fit_filters(torch.randn(20, 1, 28, 28, generator=_random(5))).shares()
    assert set(shares) == set(KINDS)
    assert sum(shares.values()) == pytest.approx(1)
