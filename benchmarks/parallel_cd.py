"""Claim: contrastive divergence by K processes exchanges what chapter 4 says it does, and is nearly K times as fast.

8,000 visible x 20,000 hidden units, random data, as in the paper's tests; a thread a process; gloo on this machine's loopback.
All in one sitting: one process of the plain learner, one of the shared code, two in every mode. Bytes are counted at the
collectives and, beside them, at the interface. Predictions are the cost model's, from rates measured by the same processes.
Where the system lets us, two network namespaces with the paper's 105 MB/s between them are two hosts.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from striate.cluster.bits import pack, unpack
from striate.cluster.costs import received_bytes
from striate.cluster.layout import MODES, Mode
from striate.cluster.trial import Trial, try_out
from timing import row

# Table 4.1: megabytes to all processes for 8,000 examples, weight synchronisation apart.
TABLE = {False: {2: 48, 4: 144, 8: 336}, True: {2: 296, 4: 888, 8: 2072}}
EXAMPLES = 8000
HOSTS = (("striate-a", "to-b"), ("striate-b", "to-a"))


def rows(quick: bool = False) -> list[dict[str, object]]:
    sizes = (1000, 2500) if quick else (8000, 20_000)
    found = _packing()
    for dtype, batch, steps in (("fp32", 1000, 2), ("fp32", 100, 5), ("bf16", 1000, 2), ("bf16", 100, 5))[: 1 if quick else 4]:
        found += _speed(Trial(*sizes, batch, dtype=dtype, steps=steps), MODES)
    if not quick:
        found += _speed(Trial(*sizes, 1000, gaussian=True, steps=2), ("both",))
        found += _two_hosts()
    found += _traffic(sizes, (2,) if quick else (2, 4, 8))
    return found + _drift(sizes)


def _speed(base: Trial, modes: Sequence[Mode]) -> list[dict[str, object]]:
    kind = "gaussian" if base.gaussian else "binary"
    title = f"{kind}, {base.dtype}, minibatch {base.batch}, {base.visible} x {base.hidden}"
    (plain,), (one,) = try_out([replace(base, mode="plain"), replace(base, mode="hidden")], 1)
    auto, *others = try_out([base, *(replace(base, mode=mode) for mode in modes)], 2)
    told = {mode: results[0] for mode, results in zip(modes, others)}
    chosen = auto[0]
    best = min(plain.step_s, one.step_s)
    predicted = {mode: result.predicted(base, 2) / result.step_s for mode, result in told.items()}
    profile = {f"{name}_s": value for name, value in chosen.profile.items()}
    bars = {("binary", 1000): ">= 1.8", ("binary", 100): ">= 1.6"}
    return [
        row(
            f"speed-up of 2 processes, auto ({chosen.mode}), {title}",
            best / chosen.step_s,
            "ratio",
            bars.get((kind, base.batch), "(none set)"),
            {"step_s": chosen.step_s, "plain_s": plain.step_s, "one_s": one.step_s, **profile},
        ),
        row(
            f"speed-up of 2 processes, the algorithm of 4.2, {title}",
            best / told["both"].step_s,
            "ratio",
            ">= 1.35",
            {mode: best / result.step_s for mode, result in told.items() if mode != "both"},
        ),
        row(f"one process of the shared code / the plain learner, {title}", one.step_s / plain.step_s, "ratio", "<= 1.05"),
        row(f"model of costs / measured, 2 processes, both, {title}", predicted["both"], "ratio", "(none set)", predicted),
    ]


def _traffic(sizes: tuple[int, int], counts: tuple[int, ...]) -> list[dict[str, object]]:
    found = []
    for gaussian in (False, True):
        for count in counts:
            trial = Trial(*sizes, 1000, gaussian, mode="both", steps=1, warm=False)
            (results,) = try_out([trial], count)
            scale = EXAMPLES / trial.batch / 1e6
            peers = {
                "interface_mb": results[0].interface * scale,
                "formula_mb": received_bytes(trial.problem, "both", count) * scale,
            }
            if sizes == (8000, 20_000):
                peers["paper_mb"] = TABLE[gaussian][count]
            counted = sum(result.received for result in results) * scale
            kind = "gaussian" if gaussian else "binary"
            title = f"received by {count} processes per 8,000 examples, {kind}"
            found.append(row(title, counted, "MB", "the paper's, within 2%", peers))
    return found


def _drift(sizes: tuple[int, int]) -> list[dict[str, object]]:
    trial = Trial(*sizes, 1000, gaussian=True, mode="both", steps=EXAMPLES // 1000, sync_images=EXAMPLES, warm=False)
    ((result, _),) = try_out([trial], 2)
    assert result.drift is not None
    title = "weight drift after 8,000 images, fp32, gaussian, beside the weights' size"
    return [row(title, result.drift, "ratio", "<= 1e-06", {"paper": 1e-9})]


def _two_hosts() -> list[dict[str, object]]:
    """A model whose messages take as long as its products on the paper's network."""
    found = []
    with _shaped_link() as hosts:
        if not hosts:
            return []
        for gaussian in (False, True):
            base = Trial(2000, 5000, 100, gaussian, steps=7)
            (alone,), (shared, *_), (through, *_) = (
                try_out([replace(base, mode="hidden")], 1)[0],
                try_out([replace(base, mode="both")], 2)[0],
                try_out([replace(base, mode="both")], 2, hosts)[0],
            )
            by_mode = try_out([replace(base, mode=mode) for mode in MODES], 2, hosts)
            ratios = {mode: one[0].predicted(base, 2) / one[0].step_s for mode, one in zip(MODES, by_mode)}
            rates = through.machine
            assert rates is not None
            peers = {
                **ratios,
                "link_mb_s": rates.bandwidth / 1e6,
                "link_ms": rates.latency_s * 1e3,
                "step_s": through.step_s,
                "loopback_step_s": shared.step_s,
                "one_process_s": alone.step_s,
            }
            kind = "gaussian" if gaussian else "binary"
            title = f"two hosts, 105 MB/s: model of costs / measured, both, {kind}, minibatch 100, 2000 x 5000"
            found.append(row(title, ratios["both"], "ratio", "(none set)", peers))
    return found


@contextmanager
def _shaped_link() -> Iterator[Sequence[tuple[str, str]]]:
    """Two network namespaces with a link of 840 Mb/s each way; nothing where the system has no means for it."""
    (a, to_b), (b, to_a) = HOSTS
    commands = [
        f"ip netns add {a}",
        f"ip netns add {b}",
        f"ip link add {to_b} netns {a} type veth peer name {to_a} netns {b}",
        *(f"ip -n {name} addr add 10.77.0.{number}/24 dev {link}" for number, (name, link) in enumerate(HOSTS, start=1)),
        *(f"ip -n {name} link set {link} up" for name, link in HOSTS),
        *(f"ip -n {name} link set lo up" for name, _ in HOSTS),
        *(
            f"ip netns exec {name} tc qdisc add dev {link} root tbf rate 840mbit burst 64kb latency 50ms"
            for name, link in HOSTS
        ),
    ]
    made = shutil.which("ip") is not None and shutil.which("tc") is not None
    try:
        for command in commands if made else []:
            if subprocess.run(command.split(), capture_output=True, check=False).returncode:
                made = False
                break
        yield HOSTS if made else ()
    finally:
        for name, _ in HOSTS if shutil.which("ip") else ():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _packing() -> list[dict[str, object]]:
    truth = torch.rand(1000, 4000) < 0.5
    wide, bits = torch.empty(1000, 8000), pack(truth)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    calls = {"pack": lambda: pack(truth), "unpack": lambda: unpack(bits, wide[:, :4000])}
    found = []
    for name, call in calls.items():
        seconds = []
        for _ in range(21):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
        rate = truth.numel() * 4 / statistics.median(seconds) / 1e9
        found.append(row(f"{name} bits, one core, of their float32 form", rate, "GB/s", ">= 2"))
    torch.set_num_threads(threads)
    return found
