"""Errors a user can meet. Each says what was found, what was expected and what to do, and carries its exit code."""

from __future__ import annotations


class StriateError(ValueError):
    """The work failed for a reason that can be named. Exit code 1."""

    exit_code = 1


class BadInput(StriateError):
    """What the user gave (a path, a key, a file) cannot be used. Exit code 2."""

    exit_code = 2


class Diverged(StriateError):
    """Numbers blew up while training; the last good checkpoint is kept. Exit code 1."""


class Interrupted(StriateError):
    """Stopped by the user or the system with everything saved; the message says how to go on. Exit code 130."""

    exit_code = 130
