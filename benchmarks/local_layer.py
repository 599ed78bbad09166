"""Claim: a locally connected layer, a row of blocks at a time, trains several times as fast as any way to write it in torch.

A step is filtering, the gradient of the filters and that of the inputs. Peers: strided view and einsum, unfold and bmm, unfold
and a grouped convolution, a loop over places; each by autograd, each in the layout it likes. Measured in processes of their own
with a warm allocator (freed memory is kept) and with a cold one (the C library's default gives large arrays back, and every
step touches fresh pages). Interleaved; medians.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

from striate.compute import keep_memory
from striate.draws import Draws
from striate.models.sparse.filtering import encode
from striate.models.sparse.places import Places, best_block, with_block
from timing import interleaved, row

# batch, (channels, height, width), receptive field, stride, maps
SHAPES = {
    "64 x 3x64x64, field 10 stride 2, 8 maps": (64, (3, 64, 64), 10, 2, 8),
    "32 x 8x40x40, field 18 stride 1, 8 maps": (32, (8, 40, 40), 18, 1, 8),
}
BARS = {"warm": ">= 2.5", "cold": ">= 4"}


def rows(quick: bool = False) -> list[dict[str, object]]:
    found = []
    for allocator in ("warm", "cold"):
        command = [sys.executable, __file__, allocator, "quick" if quick else "full"]
        measured = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for label, one in measured.items():
            peers = {name: 1e3 * seconds for name, seconds in one["steps"].items()}
            best = min(value for name, value in peers.items() if not name.startswith("ours"))
            said = f"speed of a step / the best of plain torch, {allocator} allocator, {label}, fp32"
            found.append(row(said, best / peers["ours"], "times", BARS[allocator], peers))
            if allocator == "warm":
                for dtype, bar in (("fp32", ">= 85"), ("bf16", ">= 170")):
                    rates = {name: value for name, value in one["rates"].items() if dtype in name}
                    found.append(row(f"forward, {label}, {dtype}", rates[f"ours {dtype}"], "GFLOP/s", bar, rates))
    return found


def measure(quick: bool) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds of a step by each way, and rates of the forward pass, by shape."""
    return {label: _measure_one(*shape, rounds=3 if quick else 9) for label, shape in SHAPES.items()}


def _measure_one(batch: int, shape: tuple[int, int, int], size: int, stride: int, maps: int, rounds: int):
    draws = Draws(0)
    plain = Places(shape, size, stride, maps)
    places = best_block(plain, batch)
    down, along = places.grid
    inputs = draws.normal("inputs", (batch, *shape))
    weights = draws.normal("weights", (down, along, maps, shape[0], size, size)) / size
    answers = draws.normal("answers", (batch, maps, down, along))
    x = inputs.permute(2, 3, 1, 0).contiguous().requires_grad_()
    above = answers.permute(2, 3, 1, 0).contiguous()

    def ours(one: Places, dtype: torch.dtype):
        operand = one.empty_operand(dtype, "cpu")
        one.lay_out(weights.permute(0, 1, 2, 4, 5, 3).to(dtype), operand)
        operand.requires_grad_()
        seen, back = x.detach().to(dtype).requires_grad_(), above.to(dtype)
        return operand, seen, lambda: torch.autograd.grad(encode(seen, operand, one), (seen, operand), back)

    nchw, w = inputs.clone().requires_grad_(), weights.clone().requires_grad_()
    calls = {
        "ours": ours(places, torch.float32)[2],
        "ours, one place a block": ours(with_block(plain, (1, 1)), torch.float32)[2],
        "ours, bf16": ours(places, torch.bfloat16)[2],
    } | {name: lambda way=way: torch.autograd.grad(way(nchw, w, stride), (nchw, w), answers) for name, way in PEERS.items()}
    _check(calls, places)
    steps = interleaved(calls, rounds, warm_up=2)
    rates = {}
    work = 2e-9 * down * along * maps * places.fan_in * batch
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        operand, seen, _ = ours(places, dtype)
        left = torch.randn(down * along, maps, places.fan_in, dtype=dtype)
        right = torch.randn(down * along, places.fan_in, batch, dtype=dtype)
        with torch.no_grad():
            seconds = interleaved(
                {
                    f"ours {name}": lambda seen=seen, operand=operand: encode(seen, operand, places),
                    f"a bare product of ready operands, {name}": lambda left=left, right=right: torch.bmm(left, right),
                },
                rounds,
                warm_up=2,
            )
        rates |= {way: work / value for way, value in seconds.items()}
    return {"steps": steps, "rates": rates}


def _check(calls, places: Places) -> None:
    """All ways compute the same, or a race means nothing."""
    d_x, d_operand = calls["ours"]()
    filters = torch.empty(*places.banks, places.maps, places.size, places.size, places.shape[0])
    places.gather(d_operand, filters)
    for name in PEERS:
        other_x, other_w = calls[name]()
        torch.testing.assert_close(other_x.permute(2, 3, 1, 0), d_x, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(other_w.permute(0, 1, 2, 4, 5, 3), filters, rtol=1e-3, atol=1e-2)


def _view_einsum(x, w, stride):
    size = w.shape[-1]
    windows = x.unfold(2, size, stride).unfold(3, size, stride)
    return torch.einsum("bcijhw,ijmchw->bmij", windows, w)


def _unfold_bmm(x, w, stride):
    down, along, maps, _, size, _ = w.shape
    columns = F.unfold(x, size, stride=stride).permute(2, 0, 1)
    out = torch.bmm(columns, w.flatten(0, 1).flatten(2).transpose(1, 2))
    return out.permute(1, 2, 0).reshape(len(x), maps, down, along)


def _unfold_grouped(x, w, stride):
    down, along, maps, _, size, _ = w.shape
    columns = F.unfold(x, size, stride=stride).transpose(1, 2).flatten(1)[..., None]
    out = F.conv1d(columns, w.flatten(0, 2).flatten(1)[..., None], groups=down * along)
    return out.view(len(x), down, along, maps).permute(0, 3, 1, 2)


def _loop(x, w, stride):
    down, along, maps, _, size, _ = w.shape
    out = [
        x[:, :, i * stride : i * stride + size, j * stride : j * stride + size].flatten(1) @ w[i, j].flatten(1).t()
        for i in range(down)
        for j in range(along)
    ]
    return torch.stack(out, dim=2).view(len(x), maps, down, along)


PEERS = {
    "strided view and einsum": _view_einsum,
    "unfold and bmm": _unfold_bmm,
    "unfold and grouped convolution": _unfold_grouped,
    "loop over places": _loop,
}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    if sys.argv[1] == "warm":
        keep_memory()
    print(json.dumps(measure(sys.argv[2] == "quick")))
