"""A run that several processes train: the first keeps it, the others work in folders that are thrown away.

Every process reads the same recipe, pictures and, where a run is resumed, checkpoint, and takes the same steps on its share of
each batch; what it would write and say is the first one's to write and say.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from striate.app.screen import Screen
from striate.cluster.parallel import Share, processes, wait_for_all


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
def together(run: Path, screen: Screen) -> Iterator[Place]:
    """This process's place: the run itself, or a copy to throw away if it is not the first that torchrun started."""
    with processes() as share:
        if share.count == 1:
            yield Place(run, screen, share)
            return
        with tempfile.TemporaryDirectory() as folder:
            own = run
            if share.rank > 0:
                own = Path(folder) / "run"
                if run.exists():
                    shutil.copytree(run, own)
                screen = Screen(quiet=True, check=screen.check)
            # Nobody writes before everybody has read.
            wait_for_all()
            yield Place(own, screen, share)
