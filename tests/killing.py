"""Imports that run in processes of their own, to be killed there. (Processes cannot import the modules of tests.)"""

from __future__ import annotations

import multiprocessing
import resource
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

from striate.errors import StriateError
from striate.images import import_images


def clean_server() -> ForkServerContext:
    """Processes forked from one that has the modules loaded: starting one takes milliseconds, so many can be killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killing", "striate.images.sources", "PIL.PngImagePlugin"])
    return context


def bring_in(folder: Path, store: Path) -> None:
    """A small import with many commits, decoded in this one process."""
    import_images(folder, store, size=16, workers=1, commit_every=20)


def killed_after(folder: Path, store: Path, seconds: float) -> bool:
    """Whether the import was killed before it was done."""
    process = clean_server().Process(target=bring_in, args=(folder, store))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def limited(folder: Path, store: Path, most_bytes: int, message: Path) -> None:
    """The same where no file may be longer than this; what it says goes to a file (written beforehand, or none could be)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        bring_in(folder, store)
    except StriateError as error:
        message.write_text(str(error))
