"""Claim: near-duplicates of CIFAR-10's 60,000 pictures, exact, in well under a minute of two cores; planted copies all found.

Peers in the same run: FAISS's flat index (range search over the same rows, the same pairs), and, where STRIATE_IMAGEDEDUP names
the python of an environment that has it, imagededup's perceptual hash on the 10,000 test pictures as files.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from cifar import pictures
from striate.measure.duplicates import Compared, Pairs, PictureRows, Search, calibrate, find_pairs, group, sharpness
from striate.measure.duplicates.calibration import cropped, resized, saved_again
from timing import row

_PLAIN = 0.30
_IMAGEDEDUP = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from imagededup.methods import PHash
method = PHash(verbose=False)
started = time.time()
codes = method.encode_images(image_dir=sys.argv[1], num_enc_workers=2)
found = method.find_duplicates(encoding_map=codes, max_distance_threshold=int(sys.argv[2]), num_dist_workers=2)
print(json.dumps({"seconds": time.time() - started, "pairs": [[a, b] for a, near in found.items() for b in near if a < b]}))
"""


def compared_of(images: np.ndarray) -> Compared:
    return Compared(PictureRows(lambda positions: images[positions], len(images)))


def timed_search(images: np.ndarray) -> tuple[float, float, Pairs, float]:
    """Seconds of everything (calibration included), of a search at a given threshold without crops, and what was found."""
    started = time.perf_counter()
    compared = compared_of(images)
    search = calibrate(compared, Search(0.0)).search
    found = find_pairs(compared, search)
    everything = time.perf_counter() - started
    started = time.perf_counter()
    plain = find_pairs(compared_of(images), Search(_PLAIN, crops=0))
    return everything, time.perf_counter() - started, plain, len(found)


def faiss_flat(images: np.ndarray, wanted: Pairs) -> tuple[float, float]:
    """Seconds of a flat range search over all rows, and the share of our pairs that it finds."""
    import faiss

    rows = compared_of(images).rows(np.arange(len(images))).numpy()
    started = time.perf_counter()
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    found: set[tuple[int, int]] = set()
    for start in range(0, len(rows), 4096):
        limits, _, near = index.range_search(rows[start : start + 4096], _PLAIN**2)
        first = np.repeat(np.arange(start, start + len(limits) - 1), np.diff(limits.astype(np.int64)))
        found |= {(int(a), int(b)) for a, b in zip(first, near) if a < b}
    seconds = time.perf_counter() - started
    ours = set(zip(wanted.first.tolist(), wanted.second.tolist()))
    return seconds, len(ours & found) / max(len(ours | found), 1)


def plant(images: np.ndarray, share: float = 0.1) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """The last tenth replaced by copies of others: all pictures, each copy's original and kind, number of the first copy."""
    draws = np.random.default_rng(1)
    first = int(len(images) * (1 - share))
    originals = draws.choice(first, len(images) - first, replace=False)
    kinds = np.arange(len(originals)) % 4
    copies = []
    for original, kind in zip(originals, kinds):
        picture = images[original]
        box = draws.integers(0, 3, 4).astype(float)
        box[draws.integers(4)] = draws.integers(1, 3)
        quality = int(draws.integers(50, 96))
        if kind == 0:
            copies.append(saved_again(picture, quality))
        elif kind == 1:
            copies.append(resized(picture, float(draws.choice([0.75, 1.25, 1.5, 2.0]))))
        elif kind == 2:
            copies.append(cropped(picture, box))
        else:
            copies.append(saved_again(cropped(picture, box), quality))
    return np.concatenate([images[:first], np.stack(copies)]), originals, kinds, first


def judge(
    first: np.ndarray, second: np.ndarray, originals: np.ndarray, start: int, relatives: np.ndarray
) -> tuple[float, float]:
    """Recall of planted copies, and precision over pairs that touch one.

    A pair is right if it joins a copy to its original, to another copy of it, or to a near-duplicate that the original had
    before (`relatives`: a number that those share); such natural pairs were looked at by eye.
    """
    source = np.concatenate([np.arange(start), originals])
    touched = second >= start
    same = source[first] == source[second]
    found = np.unique(second[touched & same & (first < start)])
    wrong = touched & ~same & (relatives[source[first]] != relatives[source[second]])
    return len(found) / len(originals), 1 - wrong.sum() / max(touched.sum(), 1)


def imagededup(images: np.ndarray) -> dict[str, float]:
    """Its perceptual hash and our search on the same pictures and planted copies: seconds, recall, precision."""
    python = os.environ.get("STRIATE_IMAGEDEDUP")
    if not python:
        return {}
    planted, originals, _, start = plant(images)
    relatives = relatives_of(images[:start])
    started = time.perf_counter()
    ours = search_all(planted)
    seconds = time.perf_counter() - started
    recall, precision = judge(ours.first, ours.second, originals, start, relatives)
    found = {"ours, seconds": seconds, "ours, recall": recall, "ours, precision": precision}
    with tempfile.TemporaryDirectory() as folder:
        for number, picture in enumerate(planted):
            Image.fromarray(picture.transpose(1, 2, 0)).save(Path(folder) / f"{number:06d}.png", compress_level=1)
        for most in (4, 10):
            command = [python, "-c", _IMAGEDEDUP, folder, str(most)]
            told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
            result = json.loads(told.stdout.splitlines()[-1])
            pairs = np.array([[int(name[:6]) for name in pair] for pair in result["pairs"]] or [[0, 0]])
            recall, precision = judge(pairs[:, 0], pairs[:, 1], originals, start, relatives)
            name = f"imagededup phash, {most} bits"
            found |= {f"{name}, seconds": result["seconds"], f"{name}, recall": recall, f"{name}, precision": precision}
    return found


def search_all(images: np.ndarray) -> Pairs:
    compared = compared_of(images)
    return find_pairs(compared, calibrate(compared, Search(0.0)).search)


def relatives_of(images: np.ndarray) -> np.ndarray:
    """A number that near-duplicates already there share."""
    relatives = -np.arange(len(images)) - 1
    for number, one in enumerate(group(search_all(images), len(images), sharpness(images))):
        relatives[list(one.members)] = number
    return relatives


def rows(quick: bool = False) -> list[dict[str, object]]:
    train, _ = pictures("train", 8000 if quick else None)
    test, _ = pictures("test", 2000 if quick else None)
    images = np.concatenate([train, test])
    seconds, plain_seconds, plain, pairs = timed_search(images)
    flat_seconds, agreement = faiss_flat(images, plain)
    planted, originals, kinds, start = plant(images)
    relatives = relatives_of(images[:start])
    found = search_all(planted)
    recall, precision = judge(found.first, found.second, originals, start, relatives)
    source = np.concatenate([np.arange(start), originals])
    right = np.unique(found.second[(found.second >= start) & (source[found.first] == source[found.second])]) - start
    names = ("saved again", "resized", "cropped", "cropped and saved again")
    by_kind = {f"recall, {name}": float(np.isin(np.flatnonzero(kinds == k), right).mean()) for k, name in enumerate(names)}
    what = f"{len(images):,} pictures of CIFAR-10 (JPEG copy)"
    peers = imagededup(test)
    measured = [
        row(f"near-duplicates of {what}, crops included, calibration included", seconds, "s", "< 60", {"pairs": pairs}),
        row(
            f"the same pairs at {_PLAIN} without crops: FAISS flat's time / ours",
            flat_seconds / plain_seconds,
            "times",
            ">= 1",
            {"ours s": plain_seconds, "faiss flat s": flat_seconds, "share of pairs in common": agreement, "pairs": len(plain)},
        ),
        row(f"recall of copies planted in {what}", recall, "", ">= 0.99", by_kind),
        row(
            "precision of pairs that touch a planted copy",
            precision,
            "",
            ">= 0.99",
            {"pairs": int((found.second >= start).sum())},
        ),
    ]
    if peers:
        ratio = peers["imagededup phash, 10 bits, seconds"] / peers["ours, seconds"]
        name = f"{len(test):,} pictures with planted copies: imagededup's time / ours, calibration included"
        measured.append(row(name, ratio, "times", ">= 1", peers))
    return measured


if __name__ == "__main__":
    print(json.dumps(rows(), indent=1))
