"""The run directory: everything one training leaves behind.

    recipe.yaml  run.json  metrics.jsonl  log.txt  checkpoints/  snapshots/  figures/  encoder.safetensors  report.html

`metrics.jsonl` is the truth about the curves; TensorBoard's events beside it are a convenience whose absence stops nothing.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from striate.train.checkpoint import CheckpointFolder, read_json, write_text


class Run:
    """One run's directory, opened for writing.

    Args:
        path: the directory; made if it is not there.
        keep: how many checkpoints to keep.
    """

    def __init__(self, path: Path, keep: int = 2) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.checkpoints = CheckpointFolder(path / "checkpoints", keep)
        self.snapshots = path / "snapshots"
        self.figures = path / "figures"
        self._events: Any = None

    def describe(self, **fields: Any) -> None:
        """Add to run.json: status, versions, command line, device, seconds, ..."""
        file = self.path / "run.json"
        known = read_json(file) if file.exists() else {}
        write_text(file, json.dumps({**known, **fields}, indent=1, default=str) + "\n")

    def note(self, message: str) -> None:
        """Append a dated line to log.txt."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        with (self.path / "log.txt").open("a") as log:
            log.write(f"{stamp} {message}\n")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line to metrics.jsonl and to TensorBoard's events."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        if self._events is not None:
            self._add_events(step, metrics)

    def _add_events(self, step: int, metrics: Mapping[str, float]) -> None:
        try:
            for name, value in metrics.items():
                self._events.add_scalar(name, value, step)
        # Its writer is a thread of its own, and tells of its failure (a full disk) at the next call.
        except Exception as error:
            self._events = None
            self.note(f"TensorBoard events stopped at step {step}: {error}")

    def sync(self) -> None:
        """Wait until metrics.jsonl is on the disk, so that no checkpoint is newer than its lines after a power cut."""
        file = self.path / "metrics.jsonl"
        if file.exists():
            with file.open("rb") as written:
                os.fsync(written.fileno())

    def cut_metrics(self, step: int) -> None:
        """Drop lines after a step (and a torn last one), so that a resumed run leaves neither holes nor doubles."""
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in kept))

    def open_events(self, purge_step: int) -> str | None:
        """Start TensorBoard's events; returns why not, if it cannot."""
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.path), purge_step=purge_step)
        # Whatever TensorBoard's import runs into is no reason to stop.
        except Exception as error:
            return f"TensorBoard events are off: {error}"
        return None

    def close(self) -> None:
        """Flush what is open."""
        if self._events is not None:
            self._events.close()
            self._events = None


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a torn last one is left out."""
    file = run / "metrics.jsonl"
    lines = []
    for line in file.read_text(errors="replace").splitlines() if file.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def machine() -> dict[str, Any]:
    """What the run ran on, for run.json."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": processor_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor_name() -> str:
    """The processor's own name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
