"""An RBM that several processes share: which of chapter 4's algorithms, and the learner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from striate.app.kinds.kind import Prepared, Subject, check_shape, schedule_settings
from striate.app.load import Parts
from striate.app.recipe import ClusterGroup
from striate.cluster.costs import Cost, Machine, Problem
from striate.cluster.layout import DESCRIBED, Layout, Mode
from striate.cluster.measuring import choose, choose_transport, measure
from striate.cluster.parallel import SharedRows, from_first, tell_all
from striate.cluster.profile import Profile
from striate.cluster.sharded import ShardedLearner
from striate.cluster.wire import Wire
from striate.models.rbm import RBM
from striate.train import CDSettings, schedule

# Larger messages than any: everything goes one way.
_ALWAYS = 1 << 62


def build_shared(prepared: Prepared, rbm: RBM, settings: CDSettings, dtype: torch.dtype) -> Subject:
    """The learner of this process's share."""
    recipe, share, device = prepared.recipe, prepared.share, prepared.device
    wire = Wire(share.rank, share.count, Profile(device, exact=prepared.profile))
    layout, why = _layout(recipe.cluster, wire, _problem(rbm, settings, recipe.train.batch_size, dtype), dtype, device)
    if share.count > 1:
        prepared.say(f"{share.count} processes, {layout.mode}: {DESCRIBED[layout.mode]}; {why}")
        # Starts that were trained may differ in their last digits from machine to machine.
        for tensor in rbm.state().values():
            from_first(tensor)
    learner = ShardedLearner(
        rbm,
        settings,
        schedule(schedule_settings(recipe.train), prepared.total_steps),
        wire,
        layout,
        seed=recipe.seed,
        dtype=dtype,
    )
    below = prepared.below.rbms

    def parts() -> Parts:
        whole = learner.collected()
        return Parts(below) if whole is None else Parts((*below, whole.to("cpu", torch.float32)))

    def filters() -> Tensor:
        whole = learner.collected()
        return torch.empty(0, rbm_width) if whole is None else Parts((*below, whole.to(dtype=torch.float32))).filters()

    def take(given: Mapping[str, Tensor], source: str) -> None:
        for name, shape in shapes.items():
            check_shape(name, given, shape, source)
        learner.begin_from(given)

    rbm_width = below[0].num_visible if below else rbm.num_visible
    shapes = {name: tuple(tensor.shape) for name, tensor in rbm.state().items()}
    return Subject(
        learner,
        SharedRows(prepared.rows, share) if layout.mode == "data" else prepared.rows,
        parts=parts,
        filters=filters,
        take=take,
        title=f"{rbm.num_visible} visible x {rbm.num_hidden} hidden units",
        spread={"processes": share.count, "mode": layout.mode, "parts": layout.parts, "why": why},
        profile=lambda: profiles(wire),
    )


def _problem(rbm: RBM, settings: CDSettings, batch: int, dtype: torch.dtype) -> Problem:
    return Problem(
        rbm.num_visible,
        rbm.num_hidden,
        batch,
        binary=rbm.units.kind == "bernoulli" and settings.sample_visible,
        states=settings.data_states and settings.final_states,
        k=settings.k,
        itemsize=dtype.itemsize,
        exact=8 if dtype == torch.float64 else 4,
    )


def _layout(group: ClusterGroup, wire: Wire, problem: Problem, dtype: torch.dtype, device: torch.device) -> tuple[Layout, str]:
    """What the recipe asks for, or what should be fastest by the rates of these processes and their network."""
    if wire.count == 1:
        return Layout("hidden", 1, group.sync_images), "one process"
    wanted: Mode | None = None if group.mode == "auto" else group.mode
    if group.transport == "auto":
        wire.collective_up_to = choose_transport(wire, device)
    else:
        wire.collective_up_to = _ALWAYS if group.transport == "collective" else 0
    machine = measure(wire, problem, dtype, device)
    layout, costs = choose(problem, wire.count, machine, wanted)
    wire.received = 0
    why = _why(layout.mode, costs, machine) if wanted is None else "as the recipe says"
    return Layout(layout.mode, group.parts or layout.parts, group.sync_images), why


def _why(mode: Mode, costs: Mapping[Mode, Cost], machine: Machine) -> str:
    steps = ", ".join(
        f"{name} {one.step_s:.3g} s and {one.received / 1e6:.3g} MB"
        for name, one in sorted(costs.items(), key=lambda pair: pair[1].step_s)
    )
    return (
        f"a step should take {steps} (measured: {machine.flops / 1e9:.0f} GFLOP/s a process, "
        f"network {machine.bandwidth / 1e9:.2g} GB/s, {1e3 * machine.latency_s:.2g} ms)"
    )


def profiles(wire: Wire) -> list[dict[str, float]]:
    """Where every process's time went, and what it received; asked for by all at the same time."""
    import json

    own: dict[str, Any] = {**wire.profile.seconds, "received_bytes": wire.received}
    return [own] if wire.count == 1 else [json.loads(text) for text in tell_all(json.dumps(own))]
