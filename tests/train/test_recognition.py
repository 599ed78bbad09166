"""Training stages under a classifier: gradients by another way, who learns when, exact resume."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.module import FeatureModule
from striate.models.sparse import NetSpec, SparseNet, StageSpec
from striate.models.sparse.module import sparse_steps
from striate.models.sparse.trained import TrainedSparseNet
from striate.models.top import Kind, Scores, new_top
from striate.train.batches import Labelled
from striate.train.recognition import RecognitionLearner, RecognitionSettings
from striate.train.sparse import SparseSettings
from striate.train.updates import Rates

SGD = SparseSettings(rule="sgd", unit=False)
ADAGRAD = SparseSettings(unit=False)


def batch(step: int, count: int = 20) -> Labelled:
    """Pictures of three kinds of blobs on noise, and which kind."""
    draws, shapes = Draws(7, step), Draws(1).normal("shapes", (3, 144))
    labels = (draws.uniform("kinds", (count,)) * 3).long()
    return Labelled(shapes[labels] * (0.5 + draws.uniform("amounts", (count, 1))) + draws.normal("noise", (count, 144)), labels)


def learner(
    kind: Kind = "softmax",
    sharing: str = "untied",
    rule: SparseSettings = ADAGRAD,
    rate: float = 0.02,
    dtype: torch.dtype = torch.float32,
    **settings: object,
) -> RecognitionLearner:
    first = StageSpec(4, 2, 4, pool=2, norm=3, norm_edges="keep", sharing=sharing)  # type: ignore[arg-type]
    net = SparseNet(NetSpec((1, 12, 12), (first, StageSpec(3, maps=5, pad=1, pool=2, norm=0))), True).start(Draws(0))
    last = net.activities(batch(0, 200).rows, ["norm2"])["norm2"]
    top = new_top(last.permute(3, 2, 0, 1).flatten(1), 3, kind)
    return RecognitionLearner(
        net,
        top,
        RecognitionSettings(rule, **settings),  # type: ignore[arg-type]
        lambda step: Rates(rate, 0.9),
        dtype=dtype,
    )


def trained(one: RecognitionLearner, steps: int, start: int = 0) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in one.step(batch(step)).items()} for step in range(start, start + steps)]


def begun(one: RecognitionLearner) -> RecognitionLearner:
    """Past the start, at which no error flows down: the classifier's weights are zero."""
    one.top.weights.copy_(Draws(2).normal("weights", one.top.weights.shape))
    one.top.bias.copy_(Draws(2).normal("bias", one.top.bias.shape))
    return one


def by_modules(one: RecognitionLearner, seen: Labelled) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients, in float64, of modules that cut out every place's field and know nothing of blocks."""
    net = one.net
    steps = [*sparse_steps(TrainedSparseNet(net.spec, net.state(), True, net.pool_floor)), ("logits", Scores(one.top))]
    module = FeatureModule(torch.nn.Identity(), steps, ["logits"], net.spec.input).double()
    buffers = {name: buffer for name, buffer in module.named_buffers() if name.endswith(("weights", "bias"))}
    for buffer in buffers.values():
        buffer.requires_grad_()
    [scores] = module(seen.rows.double())
    if one.top.kind == "softmax":
        loss = F.cross_entropy(scores, seen.labels)
    else:
        loss = F.binary_cross_entropy_with_logits(scores, F.one_hot(seen.labels, 3).double(), reduction="sum") / len(scores)
    return loss.detach(), dict(zip(buffers, torch.autograd.grad(loss, list(buffers.values()))))


@pytest.mark.parametrize("sharing", ["untied", "tied"])
@pytest.mark.parametrize("kind", ["softmax", "one-against-all"])
def test_a_step_goes_down_the_gradient_of_the_whole_network(kind: Kind, sharing: str) -> None:
    """One step of plain descent shows each gradient; the same network as modules in float64 says what it should be."""
    one, seen = begun(learner(kind, sharing, SGD, rate=1.0, top_rate=1.0)), batch(1)
    loss, wanted = by_modules(one, seen)
    before = {name: tensor.clone() for name, tensor in one.state().items()}
    told = one.step(seen)
    assert abs(float(told["loss"]) - float(loss)) < 1e-5 * float(loss)
    moved = {name: (before[name] - tensor).double() for name, tensor in one.state().items() if "memory" not in name}
    found = [moved["stage1.encoder"], moved["stage2.encoder"], moved["top.weights"], moved["top.bias"]]
    assert len(wanted) == 4
    for own, (name, gradient) in zip(found, wanted.items()):
        if own.ndim == 6 and gradient.ndim == 4:
            # A convolution's kernels: (maps, channels, size, size).
            own = own[0, 0].permute(0, 3, 1, 2)
        size = float(gradient.abs().max())
        assert size > 1e-5, name
        # Differences of weights of order one in float32.
        assert float((own.reshape(gradient.shape) - gradient).abs().max()) < 1e-4 * size + 4e-7, name


@pytest.mark.parametrize("sharing", ["untied", "tiled", "tied"])
@pytest.mark.parametrize("kind", ["softmax", "one-against-all"])
def test_training_teaches_what_can_be_told_apart(kind: Kind, sharing: str) -> None:
    """Chance is an error of two thirds."""
    one = learner(kind, sharing)
    lines = trained(one, 80)
    assert sum(line["error"] for line in lines[-10:]) / 10 < 0.1
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]


def test_learning_all_beats_learning_the_top_alone() -> None:
    """On the same pictures: stages that may move fit them better."""
    ends = [trained(learner(rates=stages), 60)[-1]["loss"] for stages in ((1.0,), (0.0, 0.0, 1.0))]
    assert ends[0] < 0.5 * ends[1]


def test_first_the_top_learns_then_everything() -> None:
    one = learner(top_first=3)
    start = {name: tensor.clone() for name, tensor in one.state().items()}
    trained(one, 3)
    for name, tensor in one.state().items():
        assert torch.equal(tensor, start[name]) == name.startswith("stage"), name
    trained(one, 1, 3)
    assert all(not torch.equal(tensor, start[name]) for name, tensor in one.state().items())


@pytest.mark.parametrize(
    ("rates", "stay"), [((0.0, 1.0, 1.0), {"stage1"}), ((0.0, 0.0, 1.0), {"stage1", "stage2"}), ((1.0, 0.0), {"stage2", "top"})]
)
def test_layers_at_a_rate_of_nothing_stay_as_they_are(rates: tuple[float, ...], stay: set[str]) -> None:
    one = begun(learner(rates=rates))
    start = {name: tensor.clone() for name, tensor in one.state().items()}
    trained(one, 2)
    for name, tensor in one.state().items():
        if name != "step" and not name.endswith("memory"):
            assert torch.equal(tensor, start[name]) == (name.partition(".")[0] in stay), name


def test_decay_pulls_at_the_top_alone() -> None:
    """Without momentum yet, a step of w - rate (slope + decay w), the rate twice the filters'."""
    plain, decayed = (begun(learner(rule=SGD, rate=0.1, weight_decay=decay, top_rate=2.0)) for decay in (0.0, 0.5))
    start = plain.top.weights.clone()
    for one in (plain, decayed):
        one.step(batch(0))
    torch.testing.assert_close(decayed.top.weights, plain.top.weights - 0.2 * 0.5 * start)
    assert torch.equal(decayed.top.bias, plain.top.bias)
    assert torch.equal(decayed.net.stages[0].encoder, plain.net.stages[0].encoder)


def test_filters_of_norm_one_stay_so_where_that_is_asked_for() -> None:
    one = begun(learner(rule=SparseSettings(unit=True)))
    trained(one, 5)
    for stage in one.net.stages:
        norms = stage.filters().flatten(3).norm(dim=3)
        torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("sharing", ["untied", "tiled"])
def test_a_learner_goes_on_exactly(sharing: str) -> None:
    straight = learner(sharing=sharing, top_first=3)
    trained(straight, 10)
    broken = learner(sharing=sharing, top_first=3)
    trained(broken, 5)
    other = learner(sharing=sharing, top_first=3)
    other.load_state({name: tensor.clone() for name, tensor in broken.state().items()})
    trained(other, 5, 5)
    assert all(torch.equal(tensor, other.state()[name]) for name, tensor in straight.state().items())


def test_another_network_s_checkpoint_is_refused() -> None:
    one, state = learner(), learner().state()
    for name, words in (("top.bias.memory", "this classifier needs"), ("stage2.encoder", "this network needs")):
        with pytest.raises(BadInput, match=f"holds nothing for {name}, {words}"):
            one.load_state({key: tensor for key, tensor in state.items() if key != name})


def test_half_the_digits_lead_nearly_the_same_way() -> None:
    """bf16 has 8 bits: after two steps metrics agree to a few percent."""
    full, half = (trained(begun(learner(dtype=dtype)), 3)[-1]["loss"] for dtype in (torch.float32, torch.bfloat16))
    assert full != half and abs(full - half) < 0.05 * full


def test_what_travels_is_what_learns() -> None:
    one = learner()
    assert [part.name for part in one.exchanged()] == ["stage1.encoder", "stage2.encoder", "top.weights", "top.bias"]
    sizes = [part.size for part in one.exchanged()]
    assert sizes == [one.state()[part.name].numel() for part in one.exchanged()]
