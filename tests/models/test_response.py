"""Response normalisation: the reference's values, a float64 loop, gradients, columns, and the compiled form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import Draws
from striate.models.convnet import fused
from striate.models.convnet.layers import Window
from striate.models.convnet.response import normalise

WINDOWS = [
    Window("maps", 5, 0.02),
    Window("maps", 5, 0.1, groups=2, relu=True),
    Window("maps", 4, 0.1),
    Window("maps", 3, 0.05, power=0.6, k=1.0),
    Window("places", 3, 0.1, power=0.75, k=1.0),
    Window("places", 5, 0.05, relu=True),
]


def by_loops(x: Tensor, window: Window) -> Tensor:
    """The definition, a number at a time, in float64."""
    x = x.double().clamp_min(0) if window.relu else x.double()
    out = torch.empty_like(x)
    count, maps, height, width = x.shape
    group = maps // window.groups
    half = window.size // 2
    for n in range(count):
        for m in range(maps):
            for i in range(height):
                for j in range(width):
                    if window.across == "maps":
                        low, high = max(m - half, m // group * group), min(m - half + window.size, (m // group + 1) * group)
                        seen = x[n, low:high, i, j]
                    else:
                        seen = x[n, m, max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1]
                    out[n, m, i, j] = x[n, m, i, j] / (window.k + window.scale * float((seen**2).sum())) ** window.power
    return out


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (1e-4, [29.906976, 26.084743, 23.236808]),
        (1e-4 / 5, [48.839363, 46.198883, 43.869134]),
    ],
)
def test_eight_maps_of_a_hundred_give_the_reference_s_values(scale: float, expected: list[float]) -> None:
    """The paper's formula as written, and as its authors' code and torch read it."""
    found = normalise(torch.full((1, 8, 1, 1), 100.0, dtype=torch.float64), Window("maps", 5, scale)).flatten()
    wanted = [expected[min(i, 7 - i, 2)] for i in range(8)]
    assert found.tolist() == pytest.approx(wanted, abs=5e-7)


@pytest.mark.parametrize("window", WINDOWS)
def test_it_is_its_definition(window: Window) -> None:
    x = Draws(0).normal("x", (2, 8, 4, 3)).mul_(5)
    assert torch.allclose(normalise(x.double(), window), by_loops(x, window), rtol=1e-12)
    assert torch.allclose(normalise(x, window).double(), by_loops(x, window), rtol=1e-5)
    half = normalise(x.to(torch.bfloat16), window).double()
    # In bf16 the input and output are rounded to 2^-9 each; sums are float32.
    exact = by_loops(x.to(torch.bfloat16), window)
    assert float(((half - exact).abs() / exact.abs().clamp_min(1e-3)).max()) < 0.015


@pytest.mark.parametrize("window", WINDOWS)
def test_its_gradient_is_true(window: Window) -> None:
    x = Draws(1).normal("x", (2, 6, 4, 3)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: normalise(value, window), x)


@pytest.mark.parametrize("size", [4, 5])
def test_torch_s_own_layer_agrees_once_alpha_is_per_map(size: int) -> None:
    x = Draws(2).normal("x", (2, 8, 5, 4)).double()
    theirs = F.local_response_norm(x, size, 0.3, 0.75, 2.0)
    assert torch.allclose(normalise(x, Window("maps", size, 0.3 / size)), theirs, rtol=1e-13)


def test_windows_never_cross_columns() -> None:
    x = Draws(3).normal("x", (1, 8, 3, 3)).double()
    window = Window("maps", 5, 0.5, groups=2)
    apart = torch.cat([normalise(half, Window("maps", 5, 0.5)) for half in x.chunk(2, dim=1)], dim=1)
    assert torch.allclose(normalise(x, window), apart, rtol=1e-13)


@pytest.mark.science
@pytest.mark.skipif(not fused.available("cpu"), reason="no C++ compiler here for torch to compile with")
def test_the_compiled_form_agrees_forward_and_backward() -> None:
    """Large enough for several blocks; float32 and bf16, with and without the ReLU that rides along."""
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.01)):
        x = Draws(4).normal("x", (3, 16, 61, 59)).mul_(20).to(dtype).contiguous(memory_format=torch.channels_last)
        above = Draws(5).normal("g", tuple(x.shape)).to(dtype)
        window = Window("maps", 5, 0.01, groups=2, relu=True)
        assert fused.supports(x, 5, 0.75)
        results = []
        for compiled, value in ((True, x), (False, x.double())):
            value = value.detach().requires_grad_()
            made = normalise(value, window, compiled)
            results.append((made.detach().double(), torch.autograd.grad(made, value, above.to(made.dtype))[0].double()))
        for ours, exact in zip(*results):
            assert float((ours - exact).norm() / exact.norm()) < tolerance
