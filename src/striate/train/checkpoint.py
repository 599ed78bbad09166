"""Checkpoints that are there whole or not at all: safetensors for tensors, JSON for state, checksummed, the last K kept."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from striate.errors import BadInput, StriateError
from striate.files import write_whole


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a run: the learner's tensors and the loop's own state."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


class CheckpointFolder:
    """The `checkpoints/` of a run.

    Args:
        path: the folder.
        keep: how many of the newest to keep.
    """

    def __init__(self, path: Path, keep: int = 2) -> None:
        self.path = path
        self._keep = keep

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write a checkpoint; the JSON, which holds the checksum, appears last and makes it count.

        Raises:
            StriateError: the disk is full; older checkpoints are untouched.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = self._tensors(step)
        try:
            write_tensors(file, tensors)
            described = {"step": step, "state": state}
            write_text(self._json(step), json.dumps({**described, "sha256": _digest(file, described)}))
        except StriateError:
            with suppress(OSError):
                file.unlink()
            raise
        self._tidy(step)

    def _tidy(self, newest: int) -> None:
        """Leave the last K up to the newest; later ones are damaged, others are leavings of a process that was killed."""
        kept = [step for step in self.steps() if step <= newest][-self._keep :]
        for step in set(self.steps()) - set(kept):
            self._json(step).unlink()
        names = {file.name for step in kept for file in (self._json(step), self._tensors(step))}
        for file in [*self.path.glob("step-*"), *self.path.glob(".step-*.tmp")]:
            if file.name not in names:
                file.unlink()

    def steps(self) -> list[int]:
        """Steps there are checkpoints of, oldest first."""
        return sorted(int(file.stem.removeprefix("step-")) for file in self.path.glob("step-*.json"))

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest whole checkpoint, and a line on each damaged one that was passed over."""
        warnings: list[str] = []
        for step in reversed(self.steps()):
            try:
                return self._load(step), warnings
            except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
                warnings.append(f"the checkpoint of step {step} is damaged and passed over: {error}")
        return None, warnings

    def _load(self, step: int) -> Checkpoint:
        described = json.loads(self._json(step).read_text())
        file = self._tensors(step)
        if described.pop("sha256") != _digest(file, described):
            raise ValueError("its checksum does not fit")
        return Checkpoint(step, load_file(file), described["state"])

    def _tensors(self, step: int) -> Path:
        return self.path / f"step-{step:08d}.safetensors"

    def _json(self, step: int) -> Path:
        return self.path / f"step-{step:08d}.json"


def _digest(file: Path, described: Mapping[str, Any]) -> str:
    """Of the tensors' file and of what stands beside them."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256")
    digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()


def write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file, whole or not at all."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def write(temporary: Path) -> None:
        # safetensors makes files that their owner alone may read; ours get what any new file here gets.
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        save_file(contiguous, temporary, dict(metadata) if metadata else None)
        temporary.chmod(mode)

    write_whole(file, write)


def write_text(file: Path, text: str) -> None:
    """A text file, whole or not at all."""
    write_whole(file, lambda temporary: temporary.write_text(text))


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of a run.

    Raises:
        BadInput: it is missing or damaged.
    """
    try:
        loaded = json.loads(file.read_text())
    except FileNotFoundError:
        raise BadInput(f"{file.parent} is no run (no {file.name})") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None
    if not isinstance(loaded, dict):
        raise BadInput(f"{file} holds no object")
    return loaded
