"""A run that several processes train: the first keeps it, the others work in folders that are thrown away.

Every process reads the same recipe, pictures and, where a run is resumed, checkpoint, and takes the same steps; what it would
write and say is the first one's to write and say.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from striate.app.screen import Screen
from striate.cluster.parallel import Share, from_first, processes, tell_all, wait_for_all

# What a run is resumed from; the rest is for people.
_NEEDED = ("run.json", "recipe.yaml", "metrics.jsonl", "preprocessor.*", "encoder.safetensors", "checkpoints/*")
_SENT_AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Place:
    """Where one process works.

    Attributes:
        run: its run directory.
        screen: where it speaks.
        share: its place among the processes.
    """

    run: Path
    screen: Screen
    share: Share


@contextmanager
def together(run: Path, screen: Screen, timeout_s: float) -> Iterator[Place]:
    """This process's place: the run itself, or a copy to throw away if it is not the first of several.

    Args:
        run: the run directory, or where it will be.
        screen: where the first process speaks.
        timeout_s: how long to wait for another process before it counts as lost.
    """
    with processes(timeout_s) as share:
        if share.count == 1:
            yield Place(run, screen, share)
            return
        with tempfile.TemporaryDirectory() as folder:
            own = run if share.rank == 0 else Path(folder) / "run"
            hand_over(run, own, share)
            if share.rank > 0:
                screen = Screen(quiet=True, check=screen.check)
            # Nobody writes before everybody has read.
            wait_for_all()
            yield Place(own, screen, share)


def hand_over(run: Path, own: Path, share: Share) -> None:
    """Bring what a run is resumed from to every process: linked where the folder is seen, sent where not."""
    described = run / "run.json"
    seen = tell_all(described.read_text() if described.is_file() else "")
    if not seen[0]:
        return
    files = [str(file.relative_to(run)) for pattern in _NEEDED for file in sorted(run.glob(pattern)) if file.is_file()]
    if all(text == seen[0] for text in seen):
        for name in files if share.rank else []:
            _link(run / name, own / name)
        return
    sizes = json.loads(tell_all(json.dumps({name: (run / name).stat().st_size for name in files}))[0])
    for name, size in sizes.items():
        _send(run / name, own / name, size, share)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # Checkpoints are replaced and never changed; the metrics are cut and written on.
    if source.suffix == ".safetensors":
        try:
            os.link(source, target)
            return
        except OSError:
            # Another file system, or one without links.
            pass
    shutil.copyfile(source, target)


def _send(source: Path, target: Path, size: int, share: Share) -> None:
    """A file of the first process's to all others."""
    first = share.rank == 0
    if not first:
        target.parent.mkdir(parents=True, exist_ok=True)
    with (source if first else target).open("rb" if first else "wb") as file:
        for start in range(0, size, _SENT_AT_ONCE):
            piece = np.empty(min(_SENT_AT_ONCE, size - start), np.uint8)
            if first:
                piece[:] = np.frombuffer(file.read(len(piece)), np.uint8)
            from_first(torch.from_numpy(piece))
            if not first:
                file.write(piece.tobytes())
