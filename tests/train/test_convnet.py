"""Training convolutional nets: the update rule, schedules, crops, blocked dense layers, resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from striate.draws import Draws
from striate.errors import BadInput
from striate.images.sums import PictureSums
from striate.models.convnet import ConvNet, named_net
from striate.models.convnet.layers import Activation, Conv, Dense, Dropout, NetSpec, Pool, Start
from striate.preprocess.crops import Cropper, CropSettings, centre, colour_amplitudes
from striate.train.convnet import ConvnetLearner, ConvnetSettings
from striate.train.drops import Plateau, Stage, exponential, stage_at
from striate.train.pictures import CroppedPictures, Crops
from striate.train.sgd import Descent, Treated
from striate.train.updates import Rates

NET = NetSpec(
    "tiny",
    (3, 12, 12),
    (
        Conv("conv1", 8, 5, pad=2, start=Start(0.05)),
        Activation("relu1"),
        Pool("pool1", "max"),
        Dense("fc2", 32, Start(0.1)),
        Activation("relu2"),
        Dropout("drop2"),
        Dense("fc3", 4, Start(0.1)),
    ),
)


def batch(number: int = 0, size: int = 16) -> Crops:
    """Levels that tell the label: its quarter of the picture is bright."""
    random = np.random.default_rng(number)
    labels = random.integers(0, 4, size)
    pixels = random.integers(0, 100, (size, 3, 12, 12), dtype=np.uint8)
    for row, label in enumerate(labels):
        top, left = 6 * (label // 2), 6 * (label % 2)
        pixels[row, :, top : top + 6, left : left + 6] += 100
    return Crops(torch.from_numpy(pixels), torch.zeros(size, 3), torch.from_numpy(labels))


def learner(seed: int = 0, spec: NetSpec = NET, dtype: torch.dtype = torch.float32, **settings: object) -> ConvnetLearner:
    made = ConvnetSettings(**{"steps_per_epoch": 10, "divide": 64.0, **settings})  # type: ignore[arg-type]
    mean = torch.full(spec.input, 90.0)
    return ConvnetLearner(ConvNet(spec, Draws(seed)), mean, made, lambda step: Rates(0.02, 0.9), dtype=dtype)


def test_the_rule_is_the_paper_s_over_a_change_of_rate() -> None:
    """Two parameters by hand: a weight that decays and a bias at twice the rate that does not."""
    weight, bias = torch.tensor([2.0]), torch.tensor([1.0])
    descent = Descent([Treated("w", "l", weight, 1.0, 0.5), Treated("b", "l", bias, 2.0, 0.0)])
    w = v = b = u = None
    w, v, b, u = 2.0, 0.0, 1.0, 0.0
    for rate, gradient in ((0.1, 1.0), (0.1, -2.0), (0.01, 0.5), (0.01, 3.0)):
        descent.apply([torch.tensor([gradient]), torch.tensor([gradient])], rate, 0.9)
        v = 0.9 * v - 0.5 * rate * w - rate * gradient
        w += v
        u = 0.9 * u - 2 * rate * gradient
        b += u
    assert float(weight) == pytest.approx(w, rel=1e-6)
    assert float(bias) == pytest.approx(b, rel=1e-6)


def test_torch_s_rule_is_torch_s_over_a_change_of_rate() -> None:
    weight = torch.tensor([2.0])
    peer = torch.nn.Parameter(torch.tensor([2.0]))
    optimiser = torch.optim.SGD([peer], lr=0.1, momentum=0.9, weight_decay=0.5)
    descent = Descent([Treated("w", "l", weight, 1.0, 0.5)], rate_inside=False)
    for rate, gradient in ((0.1, 1.0), (0.1, -2.0), (0.01, 0.5), (0.01, 3.0)):
        optimiser.param_groups[0]["lr"] = rate
        peer.grad = torch.tensor([gradient])
        optimiser.step()
        descent.apply([torch.tensor([gradient])], rate, 0.9)
    assert float(weight) == pytest.approx(float(peer.detach()), rel=1e-6)


def test_stages_hold_from_their_epoch_and_frozen_layers_stay() -> None:
    stages = (Stage(2, 0.1), Stage(3, 0.01, {"conv1": 0.0}))
    assert [stage_at(stages, epoch).factor for epoch in (0, 1.9, 2, 2.5, 3, 9)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    made = learner(stages=(Stage(0, 1.0, {"conv1": 0.0}),))
    before = made.net.layer("conv1").weight.detach().clone()
    for number in range(3):
        made.step(batch(number))
    assert torch.equal(made.net.layer("conv1").weight, before)
    with pytest.raises(BadInput, match="no layer 'conv9'"):
        learner(rates={"conv9": 1.0})


def test_exponential_drops_divide_by_the_whole_at_even_distances() -> None:
    stages = exponential(100, 250, 4)
    assert [stage.epoch for stage in stages] == [0, 20, 40, 60, 80]
    assert stages[-1].factor == pytest.approx(1 / 250)
    assert stages[1].factor / stages[0].factor == pytest.approx(stages[4].factor / stages[3].factor)


def test_plateaus_drop_the_rate_when_the_error_stalls_and_end_after_the_last() -> None:
    plateau = Plateau(patience=2, divide=10, drops=2)
    for error in (0.9, 0.8, 0.8, 0.7995):
        plateau.see(error)
    # 0.7995 is better by less than noise: two epochs without progress.
    assert plateau.factor == pytest.approx(0.1)
    for error in (0.5, 0.5, 0.5):
        plateau.see(error)
    assert plateau.factor == pytest.approx(0.01)
    assert not plateau.finished
    plateau.see(0.5)
    plateau.see(0.5)
    assert plateau.finished


def test_a_net_learns_what_can_be_learned() -> None:
    made = learner()
    losses = [float(made.step(batch(number))["loss"]) for number in range(150)]
    assert np.mean(losses[:5]) > 1.2
    assert np.mean(losses[-20:]) < 0.3


def test_the_same_seed_gives_the_same_net_to_the_last_bit() -> None:
    one, other = learner(), learner()
    for number in range(4):
        one.step(batch(number))
        other.step(batch(number))
    assert all(torch.equal(a, b) for a, b in zip(one.net.parameters(), other.net.parameters()))


def test_a_resumed_learner_goes_on_to_the_last_bit() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        spec = named_net("one-gpu", 4, {"units": 1024, "order": "none", "torch_start": False, "ones": True}, crop=67)
        made = [learner(seed, spec, dtype, average=0.9, until_error=0.1, divide=1.0) for seed in (0, 1)]
        batches = [synthetic(number) for number in range(4)]
        for number in range(2):
            made[0].step(batches[number])
        made[1].load_state({name: tensor.clone() for name, tensor in made[0].state().items()})
        for number in (2, 3):
            one, other = (float(each.step(batches[number])["loss"]) for each in made)
            assert one == other
        for name, tensor in made[0].state().items():
            assert torch.equal(tensor, made[1].state()[name]), name


def synthetic(number: int) -> Crops:
    random = np.random.default_rng(number)
    pixels = torch.from_numpy(random.integers(0, 256, (6, 3, 67, 67), dtype=np.uint8))
    return Crops(pixels, torch.zeros(6, 3), torch.from_numpy(random.integers(0, 4, 6)))


def test_a_checkpoint_of_another_net_is_refused() -> None:
    other = learner(spec=NetSpec("other", (3, 12, 12), (Dense("fc2", 8), Dense("fc3", 4))))
    with pytest.raises(BadInput, match="the checkpoint holds"):
        learner().load_state(other.state())


def test_dense_layers_updated_in_blocks_learn_as_by_autograd() -> None:
    """One net in bf16 whose dense gradient is never made, and one with autograd's: updates agree within bf16's rounding."""
    spec = NetSpec("wide", (3, 12, 12), (NET.layers[0], NET.layers[1], Dense("fc2", 1024, Start(0.02)), Dense("fc3", 4)))
    blocked, plain = learner(spec=spec, dtype=torch.bfloat16), learner(spec=spec, dtype=torch.bfloat16)
    assert blocked.net.layer("fc2").flow is not None
    plain._descent = Descent([without_blocks(one) for one in plain._descent.treated])
    plain._wanted = [one.tensor for one in plain._descent.treated]
    plain.net.layer("fc2").flow = None
    for number in range(3):
        blocked.step(batch(number))
        plain.step(batch(number))
    for name in ("fc2", "conv1", "fc3"):
        ours, theirs = (each._descent.velocities for each in (blocked, plain))
        at = [one.name for one in plain._descent.treated].index(f"{name}.weight")
        assert float((ours[at] - theirs[at]).norm() / theirs[at].norm()) < 0.03


def without_blocks(one: Treated) -> Treated:
    return Treated(one.name, one.layer, one.tensor, one.rate, one.decay)


def pictures(count: int = 12) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 3, 20, 18), dtype=np.uint8)


def test_crops_are_the_same_whatever_the_number_of_workers() -> None:
    data, labels = pictures(), torch.arange(12)
    sums = PictureSums((3, 20, 18))
    sums.update(data)
    settings = CropSettings(crop=16, reflect=True, colour_noise=0.1)
    found = []
    for workers in (0, 1, 4):
        cropper = Cropper(settings, 12, (3, 20, 18), 7, sums.colour)
        rows = CroppedPictures(data.__getitem__, labels, np.arange(12), cropper, workers)
        found.append([rows.take(np.array([3, 1, 8, 5, 0]), epoch) for epoch in (0, 1, 0)])
    for other in found[1:]:
        assert all(torch.equal(a, b) for one, two in zip(found[0], other) for a, b in zip(one, two))
    first, second, again = found[0]
    assert torch.equal(first.pixels, again.pixels)
    assert not torch.equal(first.pixels, second.pixels)


def test_a_crop_is_a_window_of_its_picture_mirrored_or_not() -> None:
    data = pictures()
    cropper = Cropper(CropSettings(crop=16, reflect=True), 12, (3, 20, 18), 0)
    pixels, _ = cropper.cut(data, np.arange(12), 4)
    drawn = cropper.drawn(4)
    for row in range(12):
        window = data[row, :, drawn.top[row] : drawn.top[row] + 16, drawn.left[row] : drawn.left[row] + 16]
        assert np.array_equal(pixels[row], window[:, :, ::-1] if drawn.mirrored[row] else window)
    interleaved = np.ascontiguousarray(data.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.array_equal(cropper.cut(interleaved, np.arange(12), 4)[0], pixels)


def test_every_offset_of_the_source_is_drawn_and_the_paper_s_leave_the_last_out() -> None:
    """33 offsets each way of 224 in 256, or 32; over 4,000 draws none is missed (each is, with probability 1e-51)."""
    for offsets, count in (("all", 33), ("paper", 32)):
        drawn = Cropper(CropSettings(crop=224, offsets=offsets, reflect=True), 4000, (3, 256, 256), 0).drawn(0)  # type: ignore[arg-type]
        assert set(drawn.top) == set(drawn.left) == set(range(count))
        assert 0.45 < drawn.mirrored.mean() < 0.55
    shared = Cropper(CropSettings(crop=224, chunk=32), 64, (3, 256, 256), 0).drawn(0)
    assert len(set(zip(shared.top[:32], shared.left[:32]))) == 1


def test_colour_noise_has_the_reference_s_amplitudes_in_every_reading() -> None:
    """ImageNet's components, from the released metadata: 12.2 levels along the first, or 1,483, or 5.8."""
    from striate.images.sums import ColourComponents

    deviations = np.array([121.78006, 37.09389, 19.72083])
    colour = ColourComponents(deviations, np.eye(3))
    assert colour_amplitudes(colour, "deviation")[0] * 0.1 == pytest.approx(12.178006)
    assert colour_amplitudes(colour, "eigenvalue")[0] * 0.1 == pytest.approx(1483.04, abs=0.01)
    assert colour_amplitudes(colour, "eigenvalue-unit")[0] * 0.1 == pytest.approx(5.8158, abs=1e-4)
    noisy = Cropper(CropSettings(colour_noise=0.1), 20_000, (3, 8, 8), 0, colour)
    # A standard deviation from 20,000 draws is within 2.5% (five standard errors).
    assert noisy.drawn(0).shift.std(axis=0) == pytest.approx(deviations * 0.1, rel=0.025)
    ended = Cropper(CropSettings(colour_noise=0.1, colour_until=3), 10, (3, 8, 8), 0, colour)
    assert np.any(ended.drawn(2).shift)
    assert not np.any(ended.drawn(3).shift)


def test_mean_and_colours_in_one_pass_are_numpy_s() -> None:
    data = pictures(40)
    sums, other = PictureSums((3, 20, 18)), PictureSums((3, 20, 18))
    sums.update(data[:13])
    other.update(data[13:])
    sums.merge(other)
    assert sums.count == 40
    assert np.allclose(sums.mean, data.mean(axis=0), rtol=1e-12)
    pixels = data.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64)
    values = np.linalg.eigvalsh(np.cov(pixels, bias=True))[::-1]
    assert sums.colour.deviations == pytest.approx(np.sqrt(values), rel=1e-9)
    rebuilt = sums.colour.vectors.T @ np.diag(sums.colour.deviations**2) @ sums.colour.vectors
    assert np.allclose(rebuilt, np.cov(pixels, bias=True), rtol=1e-9)


def test_the_mean_s_centre_is_taken_off_wherever_the_crop_was_cut() -> None:
    made = learner(divide=2.0)
    made.mean = torch.arange(432.0).view(3, 12, 12)
    one = Crops(
        torch.full((1, 3, 12, 12), 200, dtype=torch.uint8), torch.tensor([[1.0, 2.0, 3.0]]), torch.zeros(1, dtype=torch.int64)
    )
    expected: Tensor = (200 - made.mean + torch.tensor([1.0, 2.0, 3.0])[:, None, None]) / 2
    assert torch.equal(made.prepare(one)[0], expected)
    assert centre(np.arange(36).reshape(1, 6, 6), 2).ravel().tolist() == [14, 15, 20, 21]


def test_crops_larger_than_pictures_are_refused() -> None:
    with pytest.raises(BadInput, match="is 24 pixels"):
        Cropper(CropSettings(crop=24), 4, (3, 20, 30), 0)
