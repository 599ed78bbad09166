"""Encodings in processes of their own, to be killed or limited there. (Processes cannot import the modules of tests.)"""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

from striate.app.features import encode_store
from striate.app.screen import Screen
from striate.errors import StriateError
from striate.images import ImageStore
from training import clean_server


def encode(run: Path, store: Path, out: Path) -> None:
    """What the command does, with everything safe on disk after every block."""
    encode_store(run, ImageStore(store), out, Screen(quiet=True), save_every_s=0)


def killed_after(run: Path, store: Path, out: Path, seconds: float) -> bool:
    """Whether the encoding was killed before it was done."""
    process = clean_server().Process(target=encode, args=(run, store, out))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def limited(run: Path, store: Path, out: Path, most_bytes: int, message: Path) -> None:
    """The same where no file may be longer than this; what it says goes to a file (written beforehand, or none could be)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    said = os.open(message, os.O_WRONLY | os.O_CREAT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
    try:
        encode(run, store, out)
    except StriateError as error:
        os.write(said, str(error).encode()[:most_bytes])


def with_little_memory(run: Path, store: Path, out: Path, more_bytes: int, said: Path) -> None:
    """Encode pixels while no more memory may be asked for than this above what there was before; exits with 1 if it was."""
    opened = ImageStore(store)
    some = out.with_name(f"warm{out.suffix}")
    encode_store(run, opened, some, Screen(quiet=True, check=lambda: None), layer="hidden1")
    status = Path("/proc/self/status").read_text().splitlines()
    held = 1024 * int(next(line for line in status if line.startswith("VmData")).split()[1])
    resource.setrlimit(resource.RLIMIT_DATA, (held + more_bytes, held + more_bytes))
    try:
        encode_store(run, opened, out, Screen(quiet=True), layer="pixels")
    except (MemoryError, RuntimeError, OSError) as error:
        said.write_text(f"{type(error).__name__}: {error}")
        os._exit(1)
