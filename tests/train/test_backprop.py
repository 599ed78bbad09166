"""Back-propagation by hand against automatic differentiation, and against itself in other formats and after a restart."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.classifier import LogisticNet, random_net
from striate.train.backprop import BackpropLearner, BackpropSettings, Validation
from striate.train.batches import Labelled
from striate.train.objectives import Objective, binary_cross_entropy, softmax_cross_entropy, squared_error
from striate.train.updates import Rates

_RATE = 0.5


def _learner(
    net: LogisticNet, settings: BackpropSettings | None = None, objective: Objective = softmax_cross_entropy, **other
) -> BackpropLearner:  # type: ignore[no-untyped-def]
    momentum = other.pop("momentum", 0.0)
    return BackpropLearner(
        net.weights,
        net.biases,
        objective,
        settings or BackpropSettings(),
        lambda step: Rates(_RATE, momentum),
        input_scale=net.input_scale,
        **other,
    )


def _data(inputs: int, classes: int, count: int = 40, seed: int = 0) -> Labelled:
    draws = Draws(seed, purpose="data")
    rows = draws.normal("rows", (count, inputs))
    return Labelled(rows, (rows @ draws.normal("truth", (inputs, classes))).argmax(dim=1))


def _autograd_step(net: LogisticNet, batch: Labelled, decay: float, factors: tuple[float, ...]) -> list[Tensor]:
    """Weights and biases after one step of gradient descent, in float64 by torch's own differentiation."""
    net = net.to(dtype=torch.float64)
    parameters = [tensor.clone().requires_grad_() for tensor in (*net.weights, *net.biases)]
    levels = len(net.weights)
    other = LogisticNet(tuple(parameters[:levels]), tuple(parameters[levels:]), net.input_scale)
    F.cross_entropy(other.logits(batch.rows.double()), batch.labels).backward()
    after = []
    for number, parameter in enumerate(parameters):
        factor = factors[min(number % levels, len(factors) - 1)]
        shrink = decay * parameter.detach() if number < levels else 0.0
        after.append(parameter.detach() - _RATE * factor * (parameter.grad + shrink))
    return after


@pytest.mark.parametrize("hidden", [(), (30,), (30, 20), (25, 20, 15)])
def test_a_step_is_gradient_descent_on_the_cross_entropy(hidden: tuple[int, ...]) -> None:
    """Against float64 automatic differentiation; float32 sums of 40 rows leave 2e-6, a wrong factor leaves 1e-3 and more."""
    net = random_net((12, *hidden, 5), Draws(3), input_deviation=1.7, gain=2.0)
    batch = _data(12, 5)
    factors = (0.3, 1.0)
    learner = _learner(net, BackpropSettings(weight_decay=0.01, rates=factors))
    metrics = learner.step(batch)
    expected = _autograd_step(net, batch, 0.01, factors)
    for ours, theirs in zip((*learner.weights, *learner.biases), expected, strict=True):
        assert (ours.double() - theirs).abs().max() < 2e-6
    assert float(metrics["loss"]) == pytest.approx(float(F.cross_entropy(net.logits(batch.rows), batch.labels)), rel=1e-5)
    wrong = _autograd_step(net, batch, 0.01, (1.0, 1.0))
    assert (learner.weights[0].double() - wrong[0]).abs().max() > 1e-4


@pytest.mark.parametrize(("objective", "binary"), [(squared_error, False), (binary_cross_entropy, True)])
def test_an_autoencoders_step_is_gradient_descent_on_its_error(objective: Objective, binary: bool) -> None:
    """A linear code layer and each output unit, against float64 automatic differentiation."""
    net = random_net((9, 14, 3, 14, 9), Draws(5), gain=1.5)
    rows = Draws(6).uniform("rows", (30, 9))
    learner = _learner(net, objective=objective, linear=frozenset({1}))
    learner.step(rows)
    parameters = [tensor.double().clone().requires_grad_() for tensor in (*net.weights, *net.biases)]
    below = rows.double()
    for level in range(4):
        below = below @ parameters[level].t() + parameters[level + 4]
        if level in (0, 2):
            below = below.sigmoid()
    if binary:
        loss = F.binary_cross_entropy_with_logits(below, rows.double(), reduction="sum") / len(rows)
    else:
        loss = (below - rows).square().sum() / 2 / len(rows)
    loss.backward()
    for ours, parameter in zip((*learner.weights, *learner.biases), parameters, strict=True):
        assert (ours.double() - (parameter.detach() - _RATE * parameter.grad)).abs().max() < 5e-6


def test_dropout_is_on_average_the_net_without_it() -> None:
    """Inverted dropout keeps a unit's mean: over 4,000 masks, each output of a linear net within 5 standard errors."""
    net = random_net((6, 50, 3), Draws(0), gain=1.0)
    batch = _data(6, 3, 10)
    hidden = net.hidden(batch.rows)[0]
    learner = _learner(net, BackpropSettings(dropout=0.4))
    outputs = []
    for step in range(400):
        room = learner._workspace(10)
        torch.div(batch.rows, net.input_scale, out=room.rows)
        learner._forward(room, Draws(0, purpose="dropout/").at(step))
        outputs.append(room.activity[-1].clone())
    drawn = torch.stack(outputs)
    expected = hidden @ net.weights[1].t()
    error = drawn.std(dim=0) / len(drawn) ** 0.5
    assert ((drawn.mean(dim=0) - expected).abs() < 5 * error).all()
    # Variance of a sum of inverted Bernoulli terms: p / (1 - p) * sum (w h)^2; to 6 relative standard errors of 400 draws.
    variance = (0.4 / 0.6) * hidden.square() @ net.weights[1].square().t()
    assert (drawn.var(dim=0) / variance - 1).abs().max() < 6 * (2 / 400) ** 0.5


def test_bf16_products_follow_the_same_path() -> None:
    """200 steps in bf16 end near fp32's training loss, and both well below where they began."""
    net, batch = random_net((30, 256, 5), Draws(1), gain=1.0), _data(30, 5, 200)
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        learner = _learner(net, momentum=0.9, dtype=dtype)
        losses[dtype] = [float(learner.step(batch)["loss"]) for _ in range(200)]
    assert losses[torch.float32][-1] < 0.1 * losses[torch.float32][0]
    assert losses[torch.bfloat16][-1] == pytest.approx(losses[torch.float32][-1], rel=0.1, abs=0.01)


def test_a_restarted_net_goes_on_to_the_last_bit() -> None:
    net, batch = random_net((12, 30, 5), Draws(3)), _data(12, 5)
    settings = BackpropSettings(dropout=0.3, patience=3)
    held = Validation(_data(12, 5, seed=1), every=2)
    whole = _learner(net, settings, momentum=0.9, validation=held)
    for _ in range(5):
        whole.step(batch)
    state = {name: tensor.clone() for name, tensor in whole.state().items()}
    restarted = _learner(net, settings, momentum=0.9, validation=held)
    restarted.load_state(state)
    for _ in range(4):
        whole.step(batch)
        restarted.step(batch)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, restarted.state()[name]), name
    with pytest.raises(BadInput, match="weights0"):
        _learner(random_net((12, 31, 5), Draws(3)), validation=held).load_state(state)


def test_the_best_parameters_on_held_out_rows_are_kept_and_patience_ends() -> None:
    """Labels at random cannot be learned: the error on other rows gets no better for long, training ends, the best stays."""
    net = random_net((10, 40, 2), Draws(0), gain=1.0)
    draws = Draws(9)
    batch = Labelled(draws.normal("rows", (30, 10)), (draws.uniform("labels", (30,)) < 0.5).long())
    held = Labelled(draws.normal("held", (50, 10)), (draws.uniform("held-labels", (50,)) < 0.5).long())
    learner = _learner(net, BackpropSettings(patience=5), validation=Validation(held, every=10))
    errors = []
    while not learner.finished:
        learner.step(batch)
        if learner.step_number % 10 == 0:
            errors.append(learner.diagnose()["validation_error"])
        assert learner.step_number < 10_000
    weights, biases = learner.best()
    best = LogisticNet(tuple(weights), tuple(biases), net.input_scale)
    assert float((best.predict(held.rows) != held.labels).float().mean()) == pytest.approx(min(errors))
    assert len(errors) == errors.index(min(errors)) + 1 + 6
