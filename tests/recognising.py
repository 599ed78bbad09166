"""A step of a classifier of many classes where memory is short. (Processes cannot import the modules of tests.)"""

from __future__ import annotations

import os
import resource
from pathlib import Path

import torch

from striate.draws import Draws
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.top import Kind, new_top
from striate.train.batches import Labelled
from striate.train.recognition import RecognitionLearner, RecognitionSettings
from striate.train.sparse import SparseSettings
from striate.train.updates import Rates

BATCH = 512
# 8 x 8 places of 8 maps: 512 features.
SPEC = NetSpec((1, 10, 10), (StageSpec(3, 1, 8, pool=1, norm=0),))


def learner(classes: int, kind: Kind) -> RecognitionLearner:
    """One that has seen nothing."""
    net = SparseNet(SPEC, tied_decoder=True).start(Draws(0))
    top = new_top(Draws(1).normal("features", (100, 512)), classes, kind)
    return RecognitionLearner(net, top, RecognitionSettings(SparseSettings(unit=False)), lambda step: Rates(0.01, 0.9))


def with_little_memory(classes: int, kind: Kind, more_bytes: int, said: Path) -> None:
    """A step while no more memory may be asked for than this above what there was before; exits with 1 if it was."""
    torch.set_num_threads(1)
    batch = Labelled(Draws(2).normal("rows", (BATCH, 100)), torch.arange(BATCH) % classes)
    # Whatever the libraries keep from their first products on.
    learner(500, kind).step(Labelled(batch.rows, batch.labels % 500))
    one = learner(classes, kind)
    status = Path("/proc/self/status").read_text().splitlines()
    held = 1024 * int(next(line for line in status if line.startswith("VmData")).split()[1])
    resource.setrlimit(resource.RLIMIT_DATA, (held + more_bytes, held + more_bytes))
    try:
        one.step(batch)
    except (MemoryError, RuntimeError) as error:
        said.write_text(f"{type(error).__name__}: {error}")
        os._exit(1)
