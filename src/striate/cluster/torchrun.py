"""Whether torchrun started this process, told without importing torch."""

from __future__ import annotations

import os

_SET = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def started() -> bool:
    """Whether this is one of several processes of torchrun's; other launchers set some of its variables, not all."""
    return os.environ.keys() >= _SET and int(os.environ["WORLD_SIZE"]) > 1


def speaks() -> bool:
    """Whether this process prints results: of several, the first speaks for all."""
    return not started() or os.environ["RANK"] == "0"


def restarted() -> bool:
    """Whether this process takes the place of one that was lost."""
    return started() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
