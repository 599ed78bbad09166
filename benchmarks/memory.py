"""Claim: training on a store ten times larger than the process's memory limit works, and memory does not grow with the store.

Each size runs in a process of its own under RLIMIT_DATA (its private memory after the imports plus the limit). Pixels are
read through shared memory maps, which the system may drop at any time; what counts is the peak of private memory (RssAnon).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from timing import row

_CHILD = """
import json, os, resource, sys, threading, time
import numpy as np, torch
torch.set_num_threads(2)
from striate.app.build import build
from striate.app.recipe import check_recipe
store, limit = sys.argv[1], int(sys.argv[2])
def anonymous():
    return next(int(l.split()[1]) << 10 for l in open("/proc/self/status") if l.startswith("RssAnon"))
def data():
    return next(int(l.split()[1]) << 10 for l in open("/proc/self/status") if l.startswith("VmData"))
torch.mm(torch.ones(256, 256), torch.ones(256, 256))
before = anonymous()
if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (data() + limit, resource.RLIM_INFINITY))
peak = [0]
def watch():
    while True:
        peak[0] = max(peak[0], anonymous()); time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
recipe = check_recipe({"name": "memory", "data": {"store": store}, "preprocess": {"kind": "standardise"},
    "model": {"hidden": 256, "sigma": 0.5},
    "train": {"epochs": 1, "batch_size": 128, "memory_gb": 0.01, "dtype": "fp32"}}, "memory")
experiment = build(recipe, lambda line: None)
assert experiment.streamed
for batch in experiment.batches.starting_at(0):
    experiment.learner.step(batch)
    if experiment.learner.step_number >= experiment.loop.total_steps: break
print(json.dumps({"peak": peak[0] - before, "pictures": len(experiment.store), "steps": experiment.learner.step_number}))
"""


def _store(path: Path, count: int) -> None:
    import numpy as np

    from striate.images import StoreWriter

    random = np.random.default_rng(0)
    with StoreWriter(path, (3, 32, 32)) as writer:
        for start in range(0, count, 4096):
            for i, image in enumerate(random.integers(0, 256, (min(4096, count - start), 3, 32, 32), dtype=np.uint8)):
                writer.append(image, f"{start + i:064x}", key=str(start + i), source="made up")
            writer.commit()
        writer.finish()


def _measure(store: Path, limit: int) -> dict[str, int]:
    done = subprocess.run([sys.executable, "-c", _CHILD, str(store), str(limit)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"training under the limit failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def rows(quick: bool = False) -> list[dict[str, object]]:
    limit = 512 << 20
    count = (1 if quick else 10) * limit // 3072
    with tempfile.TemporaryDirectory() as folder:
        peaks = {}
        for label, pictures in (("tenth", count // 10), ("whole", count)):
            _store(Path(folder) / label, pictures)
            peaks[label] = _measure(Path(folder) / label, limit)
        mib = 2**20
        share = peaks["whole"]["peak"] / limit
        title = f"peak private memory / limit of {limit >> 20} MiB, training one epoch on a store of {count * 3072 >> 20} MiB"
        grown = peaks["whole"]["peak"] / peaks["tenth"]["peak"]
        peers = {"peak_MiB": peaks["whole"]["peak"] / mib, "peak_MiB_of_a_tenth_of_the_store": peaks["tenth"]["peak"] / mib}
        return [
            row(title, share, "share", "< 1", peers),
            row("peak on the whole store / on a tenth of it", grown, "ratio", "about 1 (no growth)"),
        ]


if __name__ == "__main__":
    print(json.dumps(rows(), indent=1))
