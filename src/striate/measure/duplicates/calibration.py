"""Where to draw the line: the user's own pictures, re-saved, resized and cropped, beside the pictures nearest to them.

A threshold from another collection means little: skies are nearer to each other than kitchens are. So copies are made of a
sample, their distances measured, and the distance of each sampled picture's nearest other beside them; the threshold proposed
lets nearly all copies pass. Others that lie below it are duplicates already there, or the price.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from striate.draws import generator
from striate.errors import BadInput
from striate.measure.duplicates.align import aligned_distances, tangent_distances
from striate.measure.duplicates.finding import Compared, Pairs, Search, planes_of, row_distances, screened
from striate.measure.duplicates.rows import SIDE, Projection, as_rows, tiny
from striate.measure.duplicates.search import near_pairs

# Of all copies, the share that is to be found.
_FOUND = 0.999
# Of all copies, the share that each screen is to let through.
_SCREENED = 0.998
# What is measured on some copies must hold for the rest.
_SLACK = 1.1
_LONGEST_REACH = 0.75
# No two rows of norm 1 are further apart.
_ANY = 2.0


@dataclass(frozen=True)
class Calibration:
    """What the threshold is drawn from.

    Attributes:
        search: the search proposed.
        copies: kind of copy -> distances to their originals.
        others: distance of each sampled picture's nearest other one; infinite where none came near enough to be measured.
        missed: share of the copies beyond the threshold or the screens.
        taken: share of the sampled pictures with another one within the threshold.
        sample: how many pictures were sampled.
    """

    search: Search
    copies: dict[str, np.ndarray]
    others: np.ndarray
    missed: float
    taken: float
    sample: int


def calibrate(
    compared: Compared,
    search: Search,
    threshold: float | None = None,
    sample: int = 1000,
    seed: int = 0,
) -> Calibration:
    """Propose a threshold (and screens) from copies of a sample.

    Args:
        compared: the collection, of pictures.
        search: crops and mirroring wanted; thresholds and screens are replaced.
        threshold: take this one instead of proposing.
        sample: how many pictures are copied, each once a kind.
        seed: of the sample and its copies.

    Raises:
        BadInput: fewer than two pictures show anything.
    """
    rows = compared.pictures
    positions = np.sort(generator(seed, "calibration").choice(len(rows), min(sample, len(rows)), replace=False))
    positions = positions[~rows(positions)[:, 0].isnan().numpy()]
    if len(positions) < 2:
        raise BadInput("fewer than two pictures show anything: there is nothing to compare")
    pictures = rows.read(positions)
    kinds = copies_of(pictures, search.crops, seed)
    aligned = search.crops > 0
    if aligned:
        search = _with_screens(pictures, kinds, compared.projection, search)
    distances: dict[str, np.ndarray] = {}
    for kind, copied in kinds.items():
        if aligned:
            found = aligned_distances(tiny(pictures), tiny(copied), search.crops * 1.3, _ANY).numpy()
        else:
            found = (as_rows(tiny(pictures), rows.metric) - as_rows(tiny(copied), rows.metric)).norm(dim=1).numpy()
        distances[kind] = np.nan_to_num(found, nan=np.inf)
    every = np.concatenate(list(distances.values()))
    proposed = float(np.quantile(every[np.isfinite(every)], _FOUND)) * _SLACK if threshold is None else threshold
    search = replace(search, threshold=proposed)
    others = _nearest_others(compared, positions, search)
    return Calibration(
        search, distances, others, float((every > proposed).mean()), float((others <= proposed).mean()), len(positions)
    )


def copies_of(pictures: np.ndarray, crops: float, seed: int) -> dict[str, np.ndarray]:
    """Copies of each picture (n, c, h, w), a kind each: as they come about on the web.

    Saved again as JPEG of quality 50 to 95; made smaller or larger by up to a quarter and a half, and back; and, if asked for,
    up to `crops` pixels (of the tiny picture) cut off each side, of two sides all of them, and enlarged again, alone and saved
    again.
    """
    draws = generator(seed, "copies")
    unit = max(pictures.shape[2:]) / min(max(pictures.shape[2:]), SIDE)
    kinds: dict[str, list[np.ndarray]] = {}
    for picture in pictures:
        quality, scale = int(draws.integers(50, 96)), float(draws.uniform(0.75, 1.5))
        box = draws.uniform(0, crops, 4)
        box[draws.permutation(4)[:2]] = crops
        kinds.setdefault("saved again", []).append(saved_again(picture, quality))
        kinds.setdefault("resized", []).append(resized(picture, scale))
        if crops > 0:
            cut = cropped(picture, box * unit)
            kinds.setdefault("cropped", []).append(cut)
            kinds.setdefault("cropped and saved again", []).append(saved_again(cut, quality))
    return {kind: np.stack(made) for kind, made in kinds.items()}


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)) if len(picture) == 3 else picture[0])


def _planar(image: Image.Image) -> np.ndarray:
    levels = np.asarray(image)
    return levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)


def saved_again(picture: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG and back."""
    buffer = io.BytesIO()
    _image(picture).save(buffer, "JPEG", quality=quality)
    return _planar(Image.open(buffer))


def resized(picture: np.ndarray, scale: float) -> np.ndarray:
    """To another size and back."""
    image = _image(picture)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return _planar(image.resize(size, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC))


def cropped(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """With (left, top, right, bottom) pixels cut off, enlarged again."""
    image = _image(picture)
    left, top, right, bottom = (float(side) for side in box)
    window = (left, top, image.width - right, image.height - bottom)
    return _planar(image.resize(image.size, Image.Resampling.BICUBIC, box=window))


def _with_screens(pictures: np.ndarray, kinds: dict[str, np.ndarray], projection: Projection, search: Search) -> Search:
    """Screens that copies pass."""
    rows = as_rows(tiny(pictures), "contrast")
    short, planes = projection(rows), planes_of(tiny(pictures), projection)
    reaches, screens = [], []
    for copied in kinds.values():
        level = tiny(copied)
        other = projection(as_rows(level, "contrast"))
        reaches.append((short - other).norm(dim=1))
        screens.append(tangent_distances(*planes, *planes_of(level, projection)))
    reach, screen = (float(torch.cat(parts).nan_to_num(nan=9.0).quantile(_SCREENED)) for parts in (reaches, screens))
    return replace(search, reach=min(reach, _LONGEST_REACH), screen=screen * _SLACK)


def _nearest_others(compared: Compared, positions: np.ndarray, search: Search) -> np.ndarray:
    """The distance of each sampled picture's nearest other; infinite beyond what is measured."""
    nearest = np.full(len(positions), np.inf)
    rows, aligned = compared.pictures, search.crops > 0
    reach = search.reach if aligned else 2 * search.threshold
    for first, second in near_pairs(compared.short[torch.from_numpy(positions)], reach, compared.short, search.device):
        first = positions[first]
        first, second = first[first != second], second[first != second]
        if aligned:
            first, second = screened(compared.planes, compared.planes, first, second, 1.25 * search.screen)
            pictures = rows.pictures(first), rows.pictures(second)
            found = aligned_distances(*pictures, search.crops * 1.3, 1.5 * search.threshold).numpy()
        else:
            found = row_distances(rows, rows, first, second)
        np.minimum.at(nearest, np.searchsorted(positions, first), found)
    return nearest


def pairs_of_copies(pairs: Pairs, originals: np.ndarray, first_copy: int) -> tuple[int, int]:
    """Of pairs that touch a planted copy, how many join it to what it was made from, and how many do not.

    Args:
        pairs: found among pictures followed by copies.
        originals: position of what each copy was made from.
        first_copy: position of the first copy.
    """
    source = np.concatenate([np.arange(first_copy), originals])
    touched = pairs.second >= first_copy
    right = int((touched & (source[pairs.first] == source[pairs.second])).sum())
    return right, int(touched.sum()) - right
