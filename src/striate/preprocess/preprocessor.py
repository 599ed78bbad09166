"""The Preprocessor: fitted once on pictures, then applied to any, inverted for looking, and kept inside the model's file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from striate.errors import BadInput
from striate.images.sums import ColourComponents, PictureSums
from striate.preprocess.contrast import normalise_contrast
from striate.preprocess.moments import Moments
from striate.preprocess.whitening import LinearMap, Spectrum, deletion, spectrum, zca

Kind = Literal["whiten", "delete", "standardise", "scale", "mean"]
_LEVELS = 255.0
_COLOUR = ("colour_deviations", "colour_vectors")


@dataclass(frozen=True)
class PreprocessSettings:
    """From uint8 levels to what a model sees.

    Attributes:
        kind: `whiten` (ZCA), `delete` (mean removed, weak directions deleted), `standardise` (each pixel's own mean and
            standard deviation), `scale` (levels / 255, for binary units), `mean` (levels less the mean picture; for pictures of
            any size, with the principal components of colour beside it).
        delete: how many least significant directions are deleted (whiten and delete).
        epsilon: added to eigenvalues when whitening, in squared pixel levels.
        contrast: normalise each picture's brightness and contrast first.
        patch: edge in pixels of the patches the model sees; None for whole pictures.
    """

    kind: Kind = "whiten"
    delete: int = 0
    epsilon: float = 0.0
    contrast: bool = False
    patch: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("whiten", "delete", "standardise", "scale", "mean"):
            raise BadInput(f"preprocess.kind {self.kind!r} is unknown: use whiten, delete, standardise, scale or mean")
        if self.epsilon < 0:
            raise BadInput(f"preprocess.epsilon must not be negative, found {self.epsilon}")
        if self.contrast and self.kind in ("scale", "mean"):
            raise BadInput(
                f"preprocess.contrast makes fractions and negative numbers of levels: kind {self.kind} cannot use them"
            )


class Preprocessor:
    """Pictures to rows and back.

    Attributes:
        settings: how it was fitted.
        shape: (channels, height, width) of the pictures (or patches) it takes.
        spectrum: eigenvalues, largest first, of the data it was fitted on, (d,) float64; None for kinds without one.
        colour: principal components of the pictures' colours; None for kinds but `mean`.
    """

    def __init__(self, settings: PreprocessSettings, shape: tuple[int, int, int], state: Mapping[str, Tensor]) -> None:
        self.settings = settings
        self.shape = shape
        self._mean = state["mean"].float()
        self._forward = state["forward"].float()
        self._backward = state["backward"].float()
        self.spectrum: Tensor | None = state.get("spectrum")
        self.colour = (
            ColourComponents(state["colour_deviations"].numpy(), state["colour_vectors"].numpy())
            if "colour_vectors" in state
            else None
        )

    @property
    def mean(self) -> Tensor:
        """The mean picture in levels, float32 (channels, height, width); zeros for kind `scale`."""
        return self._mean.view(self.shape)

    @property
    def dim(self) -> int:
        """Width of a row."""
        channels, height, width = self.shape
        return channels * height * width

    @staticmethod
    def fit(pictures: Iterable[np.ndarray | Tensor], settings: PreprocessSettings) -> Preprocessor:
        """Learn the mean and the map from batches of uint8 pictures (n, c, h, w), in one pass and bounded memory.

        Raises:
            BadInput: too few pictures, or more deletion than dimensions.
        """
        if settings.kind == "mean":
            return Preprocessor.from_sums(_sums(pictures), settings)
        moments: Moments | None = None
        shape = (0, 0, 0)
        for batch in pictures:
            rows = torch.as_tensor(batch)
            if moments is None:
                shape = (rows.shape[1], rows.shape[2], rows.shape[3])
                moments = Moments(rows[0].numel())
            rows = rows.flatten(1)
            moments.update(normalise_contrast(rows.float()) if settings.contrast else rows)
        if moments is None or moments.count < 2:
            raise BadInput(f"preprocessing needs at least 2 pictures, found {moments.count if moments else 0}")
        return Preprocessor.from_moments(moments, settings, shape)

    @staticmethod
    def from_sums(sums: PictureSums, settings: PreprocessSettings) -> Preprocessor:
        """Kind `mean` from sums gathered elsewhere."""
        mean = torch.from_numpy(sums.mean.ravel())
        state = {"mean": mean, "forward": torch.ones(len(mean)), "backward": torch.ones(len(mean))}
        return Preprocessor(settings, sums.shape, {**state, **_colour_state(sums.colour)})

    @staticmethod
    def from_moments(
        moments: Moments, settings: PreprocessSettings, shape: tuple[int, int, int], eigen: Spectrum | None = None
    ) -> Preprocessor:
        """The same from moments gathered elsewhere; their spectrum may be given, where several settings share it."""
        if settings.kind == "scale":
            state = {
                "mean": torch.zeros(moments.dim),
                "forward": torch.full((moments.dim,), 1 / _LEVELS),
                "backward": torch.full((moments.dim,), _LEVELS),
            }
            return Preprocessor(settings, shape, state)
        if settings.kind == "standardise":
            # Pixels that never change are left at zero rather than divided by it.
            deviation = moments.variance.clamp_min(0).sqrt()
            inverse = torch.where(deviation > 0, 1 / deviation.clamp_min(1e-12), 0.0)
            return Preprocessor(settings, shape, {"mean": moments.mean, "forward": inverse, "backward": deviation})
        eigen = eigen or spectrum(moments.covariance)
        linear = _linear_map(eigen, settings)
        state = {
            "mean": moments.mean,
            "forward": linear.forward,
            "backward": linear.backward,
            "spectrum": eigen.values,
        }
        return Preprocessor(settings, shape, state)

    def apply(self, pictures: np.ndarray | Tensor) -> Tensor:
        """Pictures (n, c, h, w), uint8 or float levels 0..255, to float32 rows (n, dim)."""
        rows = torch.as_tensor(pictures).to(self._mean.device).flatten(1).float()
        if rows.shape[1] != self.dim:
            raise BadInput(f"pictures of {rows.shape[1]} values do not fit this model, which takes {self.shape}")
        if self.settings.contrast:
            rows = normalise_contrast(rows)
        return _times(rows - self._mean, self._forward)

    def invert(self, rows: Tensor) -> Tensor:
        """Rows (n, dim) to pictures (n, c, h, w) in pixel levels, float32, not clipped; deleted directions stay at the mean.

        Contrast that was divided out does not come back: such pictures have a standard deviation of about 50 levels.
        """
        levels = _times(rows.to(self._mean.device).float(), self._backward) + self._mean
        if self.settings.contrast:
            levels = levels + _LEVELS / 2
        return levels.view(-1, *self.shape)

    def filters_to_pixels(self, weights: Tensor) -> Tensor:
        """Filters (k, dim) as pictures (k, c, h, w): dewhitened where the data was whitened, unchanged otherwise."""
        if self.settings.kind == "whiten":
            weights = _times(weights.to(self._mean.device).float(), self._backward)
        return weights.float().view(-1, *self.shape)

    def fold(self, weights: Tensor) -> tuple[Tensor, Tensor] | None:
        """Filters (k, dim) as filters on raw levels: weights' and offset (k,) with W apply(x) = W' x - offset.

        None where contrast normalisation comes first, which is not linear.
        """
        if self.settings.contrast:
            return None
        forward = self._forward.double()
        folded = _times(weights.double().to(forward.device), forward.t() if forward.ndim == 2 else forward)
        return folded.float(), (folded @ self._mean.double()).float()

    def to(self, device: torch.device | str) -> Preprocessor:
        """The same on another device (but for the components of colour, which are used on the processor alone)."""
        moved = {name: t if name in _COLOUR else t.to(device) for name, t in self.state().items()}
        return Preprocessor(self.settings, self.shape, moved)

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors; with `describe` enough for `restore`."""
        state = {"mean": self._mean, "forward": self._forward, "backward": self._backward}
        if self.spectrum is not None:
            state["spectrum"] = self.spectrum
        if self.colour is not None:
            state |= _colour_state(self.colour)
        return state

    def describe(self) -> dict[str, Any]:
        """What the tensors do not say, as JSON."""
        return {**dataclasses.asdict(self.settings), "shape": list(self.shape)}

    @staticmethod
    def restore(description: Mapping[str, Any], state: Mapping[str, Tensor]) -> Preprocessor:
        """The preprocessor that `describe` and `state` were taken from, equal to the last bit."""
        settings = {key: value for key, value in description.items() if key != "shape"}
        channels, height, width = description["shape"]
        return Preprocessor(PreprocessSettings(**settings), (channels, height, width), state)


def _colour_state(colour: ColourComponents) -> dict[str, Tensor]:
    arrays = (colour.deviations, colour.vectors)
    return {name: torch.from_numpy(array) for name, array in zip(_COLOUR, arrays)}


def _sums(pictures: Iterable[np.ndarray | Tensor]) -> PictureSums:
    sums: PictureSums | None = None
    for batch in pictures:
        levels = np.asarray(batch)
        sums = sums or PictureSums((levels.shape[1], levels.shape[2], levels.shape[3]))
        sums.update(levels)
    if sums is None or sums.count < 2:
        raise BadInput(f"preprocessing needs at least 2 pictures, found {sums.count if sums else 0}")
    return sums


def _linear_map(eigen: Spectrum, settings: PreprocessSettings) -> LinearMap:
    if settings.kind == "whiten":
        return zca(eigen, settings.delete, settings.epsilon)
    return deletion(eigen, settings.delete)


def _times(rows: Tensor, factor: Tensor) -> Tensor:
    """A full map (d, d) or one number a pixel (d,)."""
    return rows @ factor if factor.ndim == 2 else rows * factor
