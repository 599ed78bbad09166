"""Columns and shares of batches in processes of their own (gloo): the same training as in one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from striate.cluster.columns import ColumnProcess
from striate.cluster.parallel import Share, average
from striate.draws import Draws
from striate.errors import BadInput
from striate.models.convnet import ConvNet, named_net
from striate.models.convnet.layers import NetSpec
from striate.train.convnet import ConvnetLearner, ConvnetSettings
from striate.train.pictures import Crops
from striate.train.updates import Rates
from training import clean_server

_STEPS = 3


def spec() -> NetSpec:
    return named_net("source", 6, {"units": 32, "deep_std": 0.05, "places_norm": False}, crop=67)


def batch(step: int) -> Crops:
    pixels = (Draws(step).uniform("pixels", (4, 3, 67, 67)) * 255).to(torch.uint8)
    return Crops(pixels, torch.zeros(4, 3), torch.arange(4) + step % 2)


def learner(net: torch.nn.Module, **ways: object) -> ConvnetLearner:
    settings = ConvnetSettings(10, divide=40.0)
    return ConvnetLearner(net, torch.full((3, 67, 67), 120.0), settings, lambda step: Rates(1e-3, 0.9), **ways)  # type: ignore[arg-type]


def alone() -> dict[str, Tensor]:
    made = learner(ConvNet(spec(), Draws(0)))
    for step in range(_STEPS):
        made.step(batch(step))
    return made.parameters()


def _enter(rank: int, port: int, what: str, out: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo")
    if what == "columns":
        column = ColumnProcess(ConvNet(spec(), Draws(0)))
        made = learner(column)
        for step in range(_STEPS):
            made.step(batch(step))
        whole = column.whole()
        if whole is not None:
            torch.save(whole, out)
    else:
        made = learner(ConvNet(spec(), Draws(0)), combine=average, part=(rank, 2))
        for step in range(_STEPS):
            whole_batch, own = batch(step), Share(rank, 2).part(4)
            made.step(Crops(whole_batch.pixels[own], whole_batch.shift[own], whole_batch.labels[own]))
        if rank == 0:
            torch.save(dict(made.parameters()), out)
    dist.destroy_process_group()


def _run(what: str, out: Path) -> dict[str, Tensor]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = clean_server()
    processes = [context.Process(target=_enter, args=(rank, port, what, out)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found: dict[str, Tensor] = torch.load(out, weights_only=True)
    return found


@pytest.mark.parametrize("what", ["columns", "batches"])
def test_two_processes_train_the_net_that_one_trains(what: str, tmp_path: Path) -> None:
    """Dropout, decay and momentum included; sums in another order differ in float32's last digits."""
    expected, found = alone(), _run(what, tmp_path / "whole.pt")
    start = {name: tensor.detach() for name, tensor in ConvNet(spec(), Draws(0)).state_dict().items()}
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        moved = float((tensor - start[name]).norm())
        assert moved > 0, name
        assert float((found[name] - tensor).norm()) < 1e-4 * moved + 1e-7 * float(tensor.norm()), name


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    assert Share(2, 4).part(8) == slice(4, 6)
    with pytest.raises(BadInput, match="cannot be shared evenly by 3"):
        Share(0, 3).part(4)
