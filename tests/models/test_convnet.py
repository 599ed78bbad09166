"""Convolutional nets: the paper's arithmetic, profiles, gradients, and columns."""

from __future__ import annotations

import itertools
from dataclasses import fields

import pytest
import torch
import torch.nn.functional as F

from striate.draws import Draws
from striate.errors import BadInput
from striate.models.convnet import PROFILES, ConvNet, alexnet, named_net, profile
from striate.models.convnet.columns import Columns
from striate.models.convnet.layers import Conv, Dense, Dropout, Local, NetSpec, Norm, Pool, Start, Window
from striate.models.convnet.local import local_filters
from striate.models.convnet.shapes import count, parameters, training_flop

# Parameters by layer, from the paper and its authors' code (reference: the configuration files of 2012 and cuda-convnet2).
LAYERS = {
    "paper": [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000],
    "source": [34_944, 307_456, 885_120, 663_936, 442_624, 37_752_832, 16_781_312, 4_097_000],
    "half": [17_472, 153_728, 221_376, 331_968, 442_624, 37_752_832, 16_781_312, 4_097_000],
    "one-gpu": [23_296, 307_392, 663_936, 884_992, 590_080, 37_752_832, 16_781_312, 4_097_000],
}
CIFAR = {"80sec": 145_578, "19pct": 89_578, "18pct": 89_578, "13pct": 1_116_490, "11pct": 2_112_970}


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_the_parameters_it_should(name: str) -> None:
    found = [one.parameters for one in count(named_net(name, 1000)) if one.parameters]
    assert found == LAYERS[name]


def test_the_whole_net_counts_as_the_reference_does() -> None:
    assert parameters(named_net("paper", 1000)) == 60_965_224
    assert parameters(named_net("one-gpu", 1000)) == 61_100_840
    assert sum(one.products for one in count(named_net("paper", 1000))) == 724_406_816
    assert training_flop(named_net("paper", 1000)) == 2 * 2_067_805_248


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_nets_count_as_cuda_convnets(name: str) -> None:
    assert parameters(named_net(name, 10)) == CIFAR[name]
    net = ConvNet(named_net(name, 10), Draws(0))
    assert sum(parameter.numel() for parameter in net.parameters()) == CIFAR[name]
    edge = net.spec.input[1]
    assert net(torch.zeros(2, 3, edge, edge)).shape == (2, 10)


def test_the_first_layers_have_the_paper_s_shapes_in_every_reading_of_its_input() -> None:
    for name in ("paper", "one-gpu", "caffenet"):
        shapes = {one.layer.name: one.output for one in count(named_net(name, 1000))}
        assert shapes["conv1"][1:] == (55, 55)
        assert shapes["pool1"][1:] == (27, 27)
        assert shapes["pool2"][1:] == (13, 13)
        assert shapes["pool5"] == (256, 6, 6)
    # 290,400 in the first layer, not the 253,440 of the paper's figure 2.
    assert count(named_net("paper", 1000))[0].neurons == 290_400


def test_arithmetic_and_the_module_agree_on_shapes() -> None:
    for name, switches in (("source", {"units": 64}), ("six-conv", {"units": 64}), ("paper", {"pool": 2, "units": 64})):
        spec = named_net(name, 7, switches)
        net = ConvNet(spec, Draws(0))
        names = tuple(layer.name for layer in spec.layers)
        found = net.activities(torch.zeros(1, *spec.input), names)
        assert {name: tuple(x.shape[1:]) for name, x in found.items()} == {one.layer.name: one.output for one in count(spec)}


def test_a_profile_changes_only_what_it_says() -> None:
    """The source is the paper but for the order, the second normalisation, alpha per map, and the deep layers' start."""
    paper, source = profile("paper"), profile("source")
    different = {field.name for field in fields(paper) if getattr(paper, field.name) != getattr(source, field.name)}
    assert different == {"order", "places_norm", "alpha_per_map", "deep_std"}
    assert profile("paper", {"alpha_per_map": True}).alpha_per_map


def test_the_order_of_the_source_normalises_signed_responses() -> None:
    names = [layer.name for layer in named_net("source", 10).layers[:8]]
    assert names == ["conv1", "norm1", "pool1", "relu1", "conv2", "norm2", "norm2-places", "pool2"]
    assert [layer.name for layer in named_net("paper", 10).layers[:4]] == ["conv1", "relu1", "norm1", "pool1"]


def test_starts_are_those_of_the_paper_and_of_the_source() -> None:
    starts = {layer.name: layer.start for layer in named_net("paper", 1000).learned}
    assert all(start.std == 0.01 for start in starts.values())
    assert [name for name, start in starts.items() if start.bias == 1] == ["conv2", "conv4", "conv5", "fc6", "fc7"]
    deep = {layer.name: layer.start.std for layer in named_net("source", 1000).learned}
    assert [deep[f"conv{n}"] for n in range(1, 6)] == [0.01, 0.01, 0.03, 0.03, 0.03]
    net = ConvNet(named_net("source", 1000, {"units": 256}), Draws(0))
    # 331,776 normal draws: their standard deviation is within 1% of 0.03 (five standard errors are 0.6%).
    assert float(net.layer("conv4").weight.detach().std()) == pytest.approx(0.03, rel=0.01)


def test_one_gpu_nets_carry_torchvision_s_names_and_shapes() -> None:
    state = ConvNet(named_net("one-gpu", 1000)).state_dict()
    expected = {
        "features.0": (64, 3, 11, 11),
        "features.3": (192, 64, 5, 5),
        "features.6": (384, 192, 3, 3),
        "features.8": (256, 384, 3, 3),
        "features.10": (256, 256, 3, 3),
        "classifier.1": (4096, 9216),
        "classifier.4": (4096, 4096),
        "classifier.6": (1000, 4096),
    }
    assert {name: tuple(state[f"{name}.weight"].shape) for name in expected} == expected
    assert list(state) == [f"{name}.{part}" for name in expected for part in ("weight", "bias")]


def test_one_gpu_nets_compute_what_torchvision_s_do() -> None:
    """torchvision's AlexNet is these torch layers in this order; theirs and ours share a state dict."""
    nn = torch.nn
    peer = nn.Sequential()
    peer.features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    peer.classifier = nn.Sequential(
        nn.Dropout(), nn.Linear(9216, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)
    )
    peer.eval()
    ours = ConvNet(named_net("one-gpu", 5, {"units": 32}), Draws(1))
    peer.load_state_dict(ours.state_dict())
    x = torch.from_numpy(__import__("numpy").random.default_rng(0).normal(size=(2, 3, 224, 224)).astype("float32"))
    assert torch.allclose(ours(x), peer.classifier(peer.features(x).flatten(1)), atol=1e-6)


def test_columns_see_only_their_own_maps_before_the_third_convolution() -> None:
    spec = alexnet(profile("paper", {"units": 16}), 4)
    net = ConvNet(spec, Draws(0))
    x = Draws(1).normal("x", (1, 3, 224, 224)).mul_(50)
    before = net.activities(x, ("pool2", "relu3"))
    with torch.no_grad():
        net.layer("conv1").weight[:48] += 0.01
    after = net.activities(x, ("pool2", "relu3"))
    assert torch.equal(before["pool2"][:, 128:], after["pool2"][:, 128:])
    assert not torch.equal(before["pool2"][:, :128], after["pool2"][:, :128])
    assert not torch.equal(before["relu3"][:, 192:], after["relu3"][:, 192:])


def test_without_cross_talk_columns_never_meet_before_the_dense_layers() -> None:
    net = ConvNet(alexnet(profile("paper", {"units": 16, "cross_talk": False}), 4), Draws(0))
    x = Draws(1).normal("x", (1, 3, 224, 224)).mul_(50)
    before = net.activities(x, ("pool5",))["pool5"]
    with torch.no_grad():
        net.layer("conv1").weight[:48] += 0.01
    assert torch.equal(before[:, 128:], net.activities(x, ("pool5",))["pool5"][:, 128:])


def test_dropout_conventions_agree_in_expectation_at_test_time() -> None:
    """Scaled at test time, a layer gives half; scaled while training, all: what the next layer sees differs by two."""
    layers = (Dense("fc", 8), Dropout("drop"))
    x = torch.ones(1, 4)
    plain = ConvNet(NetSpec("n", (4,), (*layers, Dense("out", 2))), Draws(0))  # type: ignore[arg-type]
    inverted = ConvNet(NetSpec("n", (4,), (layers[0], Dropout("drop", inverted=True), Dense("out", 2))), Draws(0))  # type: ignore[arg-type]
    assert torch.allclose(2 * plain.activities(x, ("drop",))["drop"], inverted.activities(x, ("drop",))["drop"])
    mask = {"drop": torch.tensor([[1.0, 0, 1, 0, 1, 0, 1, 0]])}
    assert torch.allclose(2 * (plain(x, mask) - plain.layer("out").bias), inverted(x, mask) - inverted.layer("out").bias)


def test_local_filters_are_convolutions_where_all_places_share() -> None:
    x = Draws(0).normal("x", (2, 3, 7, 6)).double()
    weight = Draws(0).normal("w", (4, 3, 3, 3)).double()
    bias = Draws(0).normal("b", (4,)).double()
    for pad in (0, 1):
        places = (7 + 2 * pad - 2) * (6 + 2 * pad - 2)
        untied = weight.flatten(1).expand(places, -1, -1).contiguous()
        found = local_filters(x, untied, bias.expand(places, -1), 3, pad)
        assert torch.allclose(found, F.conv2d(x, weight, bias, padding=pad))


def test_local_filters_differ_by_place_and_have_true_gradients() -> None:
    x = Draws(0).normal("x", (2, 2, 4, 4)).double().requires_grad_()
    weight = Draws(0).normal("w", (9, 3, 8)).double().requires_grad_()
    bias = Draws(0).normal("b", (9, 3)).double().requires_grad_()
    found = local_filters(x, weight, bias, 2)
    patch = x[:, :, 1:3, 2:4].flatten(1)
    # Place (1, 2) of 3 x 3 is number 5.
    assert torch.allclose(found[:, :, 1, 2], patch @ weight[5].t() + bias[5])
    assert torch.autograd.gradcheck(lambda *a: local_filters(*a, 2), (x, weight, bias))


def test_pooling_in_ceil_mode_counts_what_is_there() -> None:
    """Squares that stick out over the edge average over the pixels inside, as cuda-convnet does."""
    net = ConvNet(NetSpec("n", (1, 4, 4), (Pool("pool", "average", 3, 2, ceil=True), Dense("out", 2))), Draws(0))
    x = torch.arange(16.0).view(1, 1, 4, 4)
    pooled = net.activities(x, ("pool",))["pool"]
    assert pooled.shape[2:] == (2, 2)
    assert float(pooled[0, 0, 1, 1]) == pytest.approx(float(x[0, 0, 2:, 2:].mean()))


def test_unknown_nets_switches_and_layers_are_named() -> None:
    with pytest.raises(BadInput, match="did you mean paper"):
        named_net("papr", 10)
    with pytest.raises(BadInput, match="no switch 'colums'"):
        named_net("paper", 10, {"colums": 1})
    with pytest.raises(BadInput, match="80sec has none"):
        named_net("80sec", 10, {"columns": 1})
    with pytest.raises(BadInput, match="--mode rgb"):
        named_net("paper", 10, channels=1)
    with pytest.raises(BadInput, match="no layer 'fc9'"):
        ConvNet(named_net("80sec", 10), Draws(0)).activities(torch.zeros(1, 3, 32, 32), ("fc9",))


def test_layers_that_do_not_fit_are_errors() -> None:
    with pytest.raises(BadInput, match="nothing to see"):
        count(NetSpec("n", (3, 4, 4), (Conv("conv", 8, 5), Dense("out", 2))))
    with pytest.raises(BadInput, match="cannot be split into 2 columns"):
        count(NetSpec("n", (3, 8, 8), (Conv("conv", 8, 3, groups=2), Dense("out", 2))))
    with pytest.raises(BadInput, match="needs maps"):
        count(NetSpec("n", (3, 8, 8), (Dense("fc", 8), Local("local", 4, 3), Dense("out", 2))))


def test_all_named_nets_can_be_made_small() -> None:
    """Smaller crops make smaller maps: every profile runs at CIFAR scale, where ablations are rerun."""
    for name, changes in itertools.product(PROFILES, ({}, {"order": "none"})):
        spec = named_net(name, 10, {"units": 32, **changes}, crop=67)
        assert ConvNet(spec, Draws(0))(torch.zeros(1, 3, 67, 67)).shape == (1, 10)


def test_starts_of_torch_are_uniform_within_their_bound() -> None:
    spec = NetSpec(
        "n", (3, 6, 6), (Conv("conv", 64, 3, start=Start(uniform=True)), Norm("norm", Window("maps", 5, 0.1)), Dense("out", 2))
    )
    weight = ConvNet(spec, Draws(0)).layer("conv").weight.detach()
    bound = 27**-0.5
    assert float(weight.abs().max()) <= bound
    assert float(weight.abs().max()) > 0.99 * bound


@pytest.mark.parametrize("name", ["paper", "source"])
def test_columns_on_devices_of_their_own_are_the_grouped_net(name: str) -> None:
    """Outputs to 1e-5, training included: with the same masks, gradients are the grouped net's, in parts."""
    spec = named_net(name, 6, {"units": 32, "deep_std": 0.05}, crop=99)
    net = ConvNet(spec, Draws(0))
    apart = Columns(net, ["cpu", "cpu"])
    x = Draws(1).normal("x", (3, 3, 99, 99)).mul_(60)
    masks = {key: (Draws(2).uniform(key, shape) > 0.5).float() for key, shape in net.mask_shapes(3).items()}
    whole, parts = net(x, masks), apart(x, masks)
    assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-5 * float(whole.detach().abs().max()))
    labels = torch.tensor([0, 3, 5])
    F.cross_entropy(whole, labels).backward()
    F.cross_entropy(parts, labels).backward()
    for layer in spec.learned:
        gradients = [column.layer(layer.name).weight.grad for column in apart.columns]
        expected = net.layer(layer.name).weight.grad
        assert torch.allclose(torch.cat(gradients), expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()) + 1e-12)
    assert all(torch.equal(tensor, net.state_dict()[key]) for key, tensor in apart.whole().items())


def test_nets_that_cannot_be_shared_by_columns_are_refused() -> None:
    with pytest.raises(BadInput, match="normalises across columns"):
        Columns(ConvNet(named_net("caffenet", 4, {"units": 8})), ["cpu", "cpu"])
    with pytest.raises(BadInput, match="cannot be shared by 2 columns"):
        Columns(ConvNet(named_net("paper", 5, {"units": 8})), ["cpu", "cpu"])
    with pytest.raises(BadInput, match="no columns"):
        Columns(ConvNet(named_net("13pct", 4)), ["cpu", "cpu"])
