"""How a model is spread: which algorithm of chapter 4, in how many parts a batch travels, how often copies are made one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Mode = Literal["both", "each-update", "hidden", "visible", "data"]
MODES: tuple[Mode, ...] = get_args(Mode)

DESCRIBED = {
    "both": "weights of own hidden and of own visible units (section 4.2)",
    "each-update": "weights learned by their hidden units' owner and sent to the visible units' at every update",
    "hidden": "weights of own hidden units; visible inputs are exchanged",
    "visible": "weights of own visible units; hidden inputs are exchanged",
    "data": "all weights; examples are shared, statistics are summed",
}


@dataclass(frozen=True)
class Layout:
    """One way of working together.

    Attributes:
        mode: the algorithm, see `DESCRIBED`.
        parts: pieces of a batch, each of which travels while the next is worked on.
        sync_images: mode `both`: images between the moments at which the visible units' copy of the weights overwrites the
            hidden units'; 0 for never.
    """

    mode: Mode
    parts: int = 1
    sync_images: int = 8000
