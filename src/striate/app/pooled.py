"""``--address``: the same work done by a Ray cluster's workers, with the same result. What verbs over whole stores share."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from striate.errors import BadInput

if TYPE_CHECKING:
    from striate.cluster.pool import Pool


def add_address_argument(parser: argparse.ArgumentParser) -> None:
    """Where the work is done."""
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="have a Ray cluster do it; auto: the one this machine belongs to, local: one started here (docs/scale.md)",
    )


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    """How many do it."""
    parser.add_argument(
        "--workers", type=int, metavar="K", help="with --address: work on so many parts at a time (default: all processors)"
    )


@contextmanager
def pooled(address: str | None, workers: int | None, threads: int = 1, device: str = "cpu") -> Iterator[Pool | None]:
    """The workers that were asked for; None where none were.

    Args:
        address: the option.
        workers: the option.
        threads: of products, in each.
        device: that they compute on, as the option of that name says it.

    Raises:
        BadInput: options that say nothing together, or no cluster.
    """
    if address is None:
        if workers is not None:
            raise BadInput("--workers are those of a Ray cluster: give --address, too (--address local starts one here)")
        yield None
        return
    if workers is not None and workers < 1:
        raise BadInput(f"--workers must be at least 1, found {workers}")
    from striate.cluster.pool import pool

    with pool(address, workers, threads, device) as workers_there:
        yield workers_there
