"""The groups of recipes whose models are stages of untied filters (Le et al. 2012): see `groups.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from striate.app.groups import Strict


class SparseStageGroup(Strict):
    """One stage of a sparse autoencoder: filtering, L2 pooling, contrast normalisation (striate.models.sparse.StageSpec)."""

    size: int = Field(18, ge=1, description="edge of a receptive field")
    stride: int = Field(1, ge=1)
    maps: int = Field(8, ge=1, description="filters at each place")
    pad: int = Field(0, ge=0, description="rows and columns of zeros added in all, half before and half after")
    pool: int = Field(5, ge=1, description="edge of the neighbourhood of a map that is pooled")
    pool_stride: int = Field(1, ge=1)
    pool_pad: int = Field(0, ge=0, description="as pad, before pooling")
    pool_maps: int = Field(1, ge=1, description="edge of the neighbourhood of maps that is pooled; odd")
    norm: int = Field(5, ge=0, description="edge of the window of contrast normalisation; odd, 0 for none")
    norm_edges: Literal["crop", "keep"] = "crop"
    norm_floor: float = Field(0.01, gt=0, description="least divisor")
    sharing: Literal["untied", "tiled", "tied"] = Field("untied", description="which places have filters of their own")
    tile: int = Field(2, ge=1, description="sharing=tiled: places after which filters repeat")
    pool_group: int = Field(1, ge=1, description="so many maps in a row are pooled into one: independent subspaces")


class SparseGroup(Strict):
    """A locally connected sparse autoencoder (Le et al. 2012)."""

    kind: Literal["sparse"]
    below: None = None
    stages: list[SparseStageGroup] = Field([SparseStageGroup()], min_length=1, description="from the picture up")
    first: int | None = Field(None, ge=1, description="use only so many of the stages, from the picture up; null: all")
    without: list[Literal["pool", "norm"]] = Field(default_factory=list, description="leave these out of every stage: controls")
    start: Literal["pictures", "noise"] = Field("pictures", description="first filters: what places see of pictures, or noise")
    input_norm: int = Field(0, ge=0, description="edge of a contrast normalisation of the picture itself; 0 for none")
    tied_decoder: bool = Field(False, description="rebuild with the encoder's own weights: reconstruction ICA")
    pool_floor: float = Field(1e-2, gt=0, description="added to sums of squares under the root")


class RecogniserGroup(Strict):
    """A sparse autoencoder's stages under a classifier, trained on labels (Le et al. 2012, section 5)."""

    kind: Literal["recogniser"]
    below: Path | None = Field(None, description="a run of a sparse autoencoder: its network, and its filters to start from")
    stages: list[SparseStageGroup] | None = Field(
        None, min_length=1, description="without below: the network, from the picture up, which starts at random"
    )
    input_norm: int = Field(0, ge=0, description="without below: as of a sparse autoencoder")
    pool_floor: float = Field(1e-2, gt=0, description="without below: as of a sparse autoencoder")
    start: Literal["run", "noise", "pictures"] | None = Field(
        None, description="first filters: the run's, noise, or what places see of pictures; null: the run's if there is one"
    )
    top: Literal["softmax", "one-against-all"] = Field("softmax", description="one softmax, or a logistic regression a class")
