"""Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images": the figures on data and whitening.

Each function takes the pictures of a store with their moments, redraws a figure, and measures what the paper sees in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from striate.app.reproduce.finding import Finding
from striate.images import ImageStore
from striate.measure.covariance import correlation, pixel_correlations
from striate.preprocess import Moments, Preprocessor, PreprocessSettings, Spectrum, batches_of
from striate.preprocess import spectrum as spectrum_of
from striate.preprocess.preprocessor import Kind
from striate.show import Figure, contact_sheet, filter_sheet, pair_sheet, png_bytes
from striate.show import figures as draw

# The paper deletes 1,000 of 3,072 directions; other sizes lose the same share.
_DELETED_SHARE = 1000 / 3072
_SHOWN = 20


@dataclass
class Pictures:
    """A store's pictures, their moments and both preprocessings, computed once for all figures."""

    store: ImageStore
    moments: Moments

    @staticmethod
    def of(store: ImageStore) -> Pictures:
        """Gather the moments in one pass."""
        moments = Moments(int(np.prod(store.shape)))
        for batch in batches_of(store):
            moments.update(batch.reshape(len(batch), -1))
        return Pictures(store, moments)

    @functools.cached_property
    def eigen(self) -> Spectrum:
        """The moments' spectrum: at 3,072 dimensions it takes longer than everything else here."""
        return spectrum_of(self.moments.covariance)

    @property
    def deleted(self) -> int:
        """How many directions the paper's share is here."""
        return round(_DELETED_SHARE * self.moments.dim)

    def preprocessor(self, kind: Kind, delete: int) -> Preprocessor:
        """Whitened or unwhitened, with so many directions deleted."""
        settings = PreprocessSettings(kind=kind, delete=delete)
        return Preprocessor.from_moments(self.moments, settings, self.store.shape, self.eigen)

    def sample(self, count: int = _SHOWN) -> np.ndarray:
        """Some pictures, evenly picked."""
        return self.store[np.linspace(0, len(self.store) - 1, count).astype(int)]


def covariance_matrix(pictures: Pictures) -> Finding:
    """Figure 1.1: the covariance matrix of all pixels and colours."""
    covariance = pictures.moments.covariance.numpy()
    found = pixel_correlations(covariance, pictures.store.shape)
    matrix = draw.image(correlation(covariance))
    return Finding(
        "1.1",
        "Nearby pixels are strongly correlated, colours at one pixel highly so, and the matrix shows left-right symmetry.",
        f"correlation of neighbours {found.by_distance[0]:.2f}, of pixels {len(found.by_distance)} apart "
        f"{found.by_distance[-1]:.2f}, of colours at one pixel {found.colours:.2f}; mirror symmetry {found.mirrored:.3f}",
        bool(found.by_distance[0] > 0.8 > found.by_distance[-1] and found.colours > 0.8 and found.mirrored > 0.95),
        (Figure("Three by three blocks, one a pair of colours; within each, rows and columns are pixels.", matrix, wide=True),),
    )


def one_pixels_covariance(pictures: Pictures) -> Finding:
    """Figure 1.2: a few pixels' correlation with all others."""
    channels, height, width = pictures.store.shape
    maps = correlation(pictures.moments.covariance.numpy()).reshape(channels, height, width, channels, height, width)
    places = [(height // 4, width // 4), (height // 2, width // 2), (height // 2, width - 3), (2, width // 2)]
    shown = np.stack([maps[0, y, x, 0] for y, x in places])[:, None]
    found = pixel_correlations(pictures.moments.covariance.numpy(), pictures.store.shape)
    return Finding(
        "1.2",
        "A pixel is correlated more with pixels of its own row and column than with those on the diagonals.",
        f"at equal distances the correlation along rows and columns is {found.axis_excess:+.3f} above that along diagonals",
        # Correlations that depend on distance alone give less than 0.002 either way.
        found.axis_excess > 0.01,
        (Figure("Correlation of four pixels (red) with all red pixels.", png_bytes(filter_sheet(shown, 4)), pixelated=True),),
    )


def spectrum(pictures: Pictures) -> Finding:
    """Figure 1.3: the eigenvalues' logarithm."""
    values = pictures.preprocessor("delete", 0).spectrum
    assert values is not None
    kept = len(values) - pictures.deleted
    share = float(values[:kept].sum() / values.sum())
    return Finding(
        "1.3",
        f"The spectrum falls over many orders of magnitude; the {pictures.deleted} last directions hold almost nothing.",
        f"the first {kept} of {len(values)} directions hold {100 * share:.3f}% of the variance; "
        f"{np.log10(float(values[0] / values[kept - 1])):.1f} orders of magnitude down to the last kept",
        share > 0.98,
        (Figure("Variance along each principal direction.", draw.spectrum(values.numpy(), pictures.deleted), wide=True),),
    )


def whitening_filters(pictures: Pictures) -> Finding:
    """Figure 1.4: rows of the whitening matrix."""
    return _filters(
        pictures,
        "forward",
        "1.4",
        "Whitening filters are localised: a pixel minus its neighbours of the same colour.",
    )


def dewhitening_filters(pictures: Pictures) -> Finding:
    """Figure 1.5: rows of the dewhitening matrix."""
    return _filters(pictures, "backward", "1.5", "Dewhitening filters are localised too, with smooth positive surrounds.")


def _filters(pictures: Pictures, which: str, number: str, claim: str) -> Finding:
    pre = pictures.preprocessor("whiten", pictures.deleted)
    channels, height, width = pictures.store.shape
    filters = pre.state()[which].view(channels, height, width, channels, height, width)
    y, x = height // 2, width // 2
    shown = filters[:, y, x].reshape(channels, channels, height, width)
    y0, y1, x0, x1 = y - 3, y + 4, x - 3, x + 4
    energy = float(shown[:, :, y0:y1, x0:x1].square().sum() / shown.square().sum())
    sign = float(shown[0, 0, y, x + 1] / shown[0, 0, y, x])
    expected_sign = sign < 0.5 if which == "forward" else sign > 0
    return Finding(
        number,
        claim,
        f"{100 * energy:.0f}% of a middle pixel's filter is within 7x7 pixels; its neighbour has {sign:+.2f} of its weight",
        energy > 0.5 and expected_sign,
        (Figure("Filters of the middle pixel, one a colour.", png_bytes(filter_sheet(shown.numpy(), 3)), pixelated=True),),
    )


def deleted_pictures(pictures: Pictures) -> Finding:
    """Figure 2.2: pictures with the least significant directions deleted."""
    pre = pictures.preprocessor("delete", pictures.deleted)
    sample = pictures.sample()
    rebuilt = pre.invert(pre.apply(sample)).numpy()
    error = float(np.sqrt(np.mean((rebuilt - sample) ** 2)))
    return Finding(
        "2.2",
        "Deleting the directions is hardly visible.",
        f"{error:.2f} levels of 255, root mean square, between pictures before and after",
        error < 5,
        (Figure("Pictures, and beneath each what is left of it.", png_bytes(pair_sheet(sample, rebuilt)), pixelated=True),),
    )


def whitened_pictures(pictures: Pictures) -> Finding:
    """Figure 2.3: whitened pictures, and their variance."""
    pre = pictures.preprocessor("whiten", pictures.deleted)
    sample = pictures.sample()
    rows = pre.apply(pictures.store[: min(len(pictures.store), 20_000)])
    variance = float(rows.var(dim=0).mean())
    white = 127.5 + 40 * pre.apply(sample).view(-1, *pictures.store.shape).numpy()
    expected = 1 - pictures.deleted / pictures.moments.dim
    return Finding(
        "2.3",
        "Whitened, edges stay and smooth parts vanish. (The paper takes the variance as 1; with directions deleted it is "
        f"{expected:.2f}.)",
        f"mean pixel variance {variance:.3f}",
        abs(variance - expected) < 0.1,
        (Figure("Pictures, and beneath each the same whitened.", png_bytes(pair_sheet(sample, white)), pixelated=True),),
    )


def patch_layout(pictures: Pictures) -> Finding:
    """Figure 2.4: 25 patches, a 4x4 grid of tiles and 3x3 more offset by half a patch."""
    _, height, width = pictures.store.shape
    size = height // 4
    tops = [size * i for i in range(4)], [size // 2 + size * i for i in range(3)]
    places = [(y, x) for grid in tops for y in grid for x in grid]
    coverage = np.zeros((height, width), int)
    for y, x in places:
        coverage[y : y + size, x : x + size] += 1
    picture = torch.from_numpy(pictures.sample(1)).float()
    sheet = np.stack([picture[0, :, y : y + size, x : x + size].numpy() for y, x in places]).astype(np.uint8)
    seen = np.bincount(coverage.ravel() + 1)
    return Finding(
        "2.4",
        "25 patches and the whole picture subsampled: two or three sets of hidden units see each pixel.",
        f"with the subsampled picture, {seen[2]} pixels are seen by two sets and {seen[3] if len(seen) > 3 else 0} by three",
        len(places) == 25 and set(np.unique(coverage + 1)) == {2, 3},
        (Figure("One picture's 25 patches: 4x4 tiles, then 3x3 offset.", png_bytes(contact_sheet(sheet, 5)), pixelated=True),),
    )


FIGURES: dict[str, Callable[[Pictures], Finding]] = {
    "1.1": covariance_matrix,
    "1.2": one_pixels_covariance,
    "1.3": spectrum,
    "1.4": whitening_filters,
    "1.5": dewhitening_filters,
    "2.2": deleted_pictures,
    "2.3": whitened_pictures,
    "2.4": patch_layout,
}
