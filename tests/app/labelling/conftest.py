"""Ledgers are closed after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import labelling


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """So that no file stays open."""
    yield
    while labelling.opened:
        labelling.opened.pop().close()
