"""Fine-tuning from few labels: where it begins, what of it is kept, what it learns from, and that it helps where it can."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.app.finetuning import Tuned, between, finetune, is_likelier, logits, tunable
from striate.app.lessons import Lesson
from striate.app.load import Parts, load_model, save_model
from striate.app.screen import Screen
from striate.app.tunable import Taught
from striate.draws import Draws, generator
from striate.images import ArraySource, ImageStore, import_images
from striate.measure.fewshot import learn_logistic, scale_of
from striate.models.classifier import random_net
from striate.models.convnet import ConvNet
from striate.models.convnet.trained import TrainedConvNet
from striate.preprocess import Preprocessor, PreprocessSettings

_EDGE, _LABELS, _NOISE = 12, 120, 175


def bars(count: int, draws: np.random.Generator) -> np.ndarray:
    """Pictures of a dim noise with one bar: standing, lying, standing, ... at places of their own."""
    pictures = draws.integers(0, _NOISE, (count, 3, _EDGE, _EDGE), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        at = draws.integers(0, _EDGE - 2)
        part = picture[:, at : at + 2] if number % 2 else picture[:, :, at : at + 2]
        part += 255 - _NOISE
    return pictures


def spots(count: int, draws: np.random.Generator) -> np.ndarray:
    """Pictures of a bright square: on the left, on the right, on the left, ..."""
    pictures = draws.integers(0, _NOISE, (count, 3, _EDGE, _EDGE), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        top, left = draws.integers(0, _EDGE - 3), draws.integers(0, 2) + (number % 2) * (_EDGE - 5)
        picture[:, top : top + 3, left : left + 3] += 255 - _NOISE
    return pictures


def lesson(folder: Path, pictures: np.ndarray, labels: np.ndarray) -> Lesson:
    import_images(ArraySource(pictures, labels, ["first", "second"]), folder, workers=1)
    store = ImageStore(folder)
    return Lesson(store, np.arange(len(store)), store.labels.astype(np.int64), "import")


@dataclass(frozen=True)
class Place:
    """Runs of nets that were never trained, by kind; labelled bars, and others to judge on."""

    runs: dict[str, Path]
    bars: Lesson
    others: np.ndarray
    truth: torch.Tensor


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("finetuning")
    draws = generator(0, "bars")
    known, others = bars(_LABELS, draws), bars(400, draws)
    shape = (3, _EDGE, _EDGE)
    net = random_net([3 * _EDGE**2, 12, 2], Draws(0), gain=1.0)
    trained = TrainedConvNet("race-relu", 5, {}, crop=_EDGE)
    state = {name: tensor * 4 for name, tensor in ConvNet(trained.spec, Draws(0)).state_dict().items()}
    made = {
        "net": (Parts(net=net), PreprocessSettings(kind="standardise")),
        "convnet": (Parts(convnet=replace(trained, state=state)), PreprocessSettings(kind="mean")),
    }
    for name, (parts, settings) in made.items():
        (root / name).mkdir()
        save_model(root / name, parts, Preprocessor.fit([others], settings), shape, name)
    taught = lesson(root / "bars", known, np.arange(_LABELS) % 2)
    return Place({name: root / name for name in made}, taught, others, torch.arange(400) % 2)


@pytest.fixture(scope="module", params=["net", "convnet"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tuned(place: Place, kind: str) -> Tuned:
    return finetune(place.runs[kind], place.bars, 2, 0, Screen(quiet=True))


def test_before_training_a_net_says_what_the_regression_on_the_layer_below_says(place: Place, kind: str) -> None:
    """Its logits are the product of that layer with weights that were put in, to rounding."""
    net = tunable(place.runs[kind], 2)
    below = net.below(place.others)
    weights, bias = torch.randn(2, below.shape[1], generator=torch.Generator().manual_seed(0)), torch.tensor([3.0, -1.0])
    said = logits(net.model(net.started(weights, bias)), place.others)
    expected = below.double() @ weights.double().t() + bias
    bound = below.shape[1] * 2**-22 * float((below.abs() @ weights.abs().t()).max())
    assert float((said - expected).abs().max()) < bound


def test_parameters_between_start_and_end_are_theirs_at_both_ends(place: Place, kind: str) -> None:
    """Bit for bit, so that a share of 0 is the start; halfway is their mean."""
    net = tunable(place.runs[kind], 2)
    start = net.started(torch.zeros(2, net.below(place.others[:1]).shape[1]), torch.zeros(2))
    end = {name: tensor + torch.randn_like(tensor) for name, tensor in start.items()}
    for share, other in ((0.0, start), (1.0, end)):
        assert all(torch.equal(tensor, other[name]) for name, tensor in between(start, end, share).items())
    for name, tensor in between(start, end, 0.5).items():
        torch.testing.assert_close(tensor, (start[name] + end[name]) / 2)


def test_fine_tuning_helps_where_the_last_layer_alone_cannot(place: Place) -> None:
    """Twelve random units say little; trained, more: on other pictures, paired, four standard errors at least."""
    found = finetune(place.runs["net"], place.bars, 2, 0, Screen(quiet=True))
    net = tunable(place.runs["net"], 2)
    below = net.below(place.bars.store[place.bars.positions])
    scale = scale_of([below.numpy()])
    learned = learn_logistic(scale.ready(below), place.bars.labels, 2)
    before = (learned.scores(scale.ready(net.below(place.others))).argmax(dim=1) == place.truth).float()
    gain = (logits(found.model, place.others).argmax(dim=1) == place.truth).float() - before
    assert float(gain.mean()) > 4 * float(gain.std()) / len(gain) ** 0.5
    assert found.ended < found.started and found.share > 0


def test_training_makes_its_labels_likelier_and_moves_every_layer(place: Place, kind: str) -> None:
    """Loss on the labels themselves falls; no weight or bias stays as it was."""
    net = tunable(place.runs[kind], 2)
    pictures, labels = place.bars.store[place.bars.positions], torch.from_numpy(place.bars.labels)
    start = net.started(torch.zeros(2, net.below(pictures[:1]).shape[1]), torch.zeros(2))
    end = net.learned(net.learned(start, Taught(pictures, labels, True, 0)), Taught(pictures, labels, True, 1))
    assert is_likelier(net.model(end), net.model(start), pictures, labels)
    moved = {name for name, tensor in end.items() if not torch.equal(tensor, start[name])}
    assert moved == set(start) - {"input_scale"}


def test_training_that_diverged_is_told(place: Place, kind: str) -> None:
    """Parameters that are no numbers, and the start itself, are no likelier."""
    net = tunable(place.runs[kind], 2)
    pictures, labels = place.bars.store[place.bars.positions], torch.from_numpy(place.bars.labels)
    start = net.started(torch.zeros(2, net.below(pictures[:1]).shape[1]), torch.zeros(2))
    ruined = {name: tensor if name == "input_scale" else tensor * torch.nan for name, tensor in start.items()}
    assert not is_likelier(net.model(ruined), net.model(start), pictures, labels)
    assert not is_likelier(net.model(start), net.model(start), pictures, labels)


def test_every_label_is_learned_from_and_each_was_held_out_once(tuned: Tuned, place: Place) -> None:
    """Of few labels all folds are tried: scores, a temperature and thresholds come from all of them."""
    assert tuned.learned.held.tolist() == list(range(_LABELS))
    wrong = tuned.learned.held_scores.argmax(dim=1).numpy() != place.bars.labels
    assert wrong.mean() == pytest.approx(tuned.ended)


def test_training_that_does_not_help_is_not_kept(place: Place, kind: str) -> None:
    """Labels drawn at random cannot be learned: the layers below the last stay bit for bit what they were."""
    labels = generator(1, "noise").permutation(place.bars.labels)
    taught = Lesson(place.bars.store, place.bars.positions, labels, "import")
    found = finetune(place.runs[kind], taught, 2, 0, Screen(quiet=True))
    assert found.share == 0 and found.ended == found.started
    kept, was = found.model.encoder(), load_model(place.runs[kind]).encoder()
    layer = was.layers[-2]
    assert torch.equal(kept.encode(place.others, [layer])[layer], was.encode(place.others, [layer])[layer])


def test_pictures_are_mirrored_only_where_that_leaves_their_class(tuned: Tuned, place: Place, tmp_path: Path) -> None:
    """A bar lies or stands in a mirror as before; what is on the left is then on the right."""
    assert tuned.mirrored
    sides = lesson(tmp_path / "sides", spots(_LABELS, generator(2, "spots")), np.arange(_LABELS) % 2)
    assert not finetune(place.runs["net"], sides, 2, 0, Screen(quiet=True)).mirrored


def test_training_pictures_are_shifted_copies_and_mirrors_of_their_own(place: Place) -> None:
    """Every crop is found among the shifts of its own picture with its borders repeated, mirrored or not; epochs differ."""
    pictures = place.others[:6]
    taught = Taught(pictures, torch.arange(6), mirror=True, seed=0)
    wide = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    taken = [taught.cropped(None).take(np.arange(6), epoch).pixels.numpy() for epoch in range(20)]
    assert len({crops.tobytes() for crops in taken}) == 20
    seen = set()
    for crops in taken:
        for own, crop in zip(wide, crops):
            shifts = [(y, x, turn) for y in range(3) for x in range(3) for turn in (1, -1)]
            fits = [one for one in shifts if (own[:, one[0] :, one[1] :][:, :_EDGE, :_EDGE][:, :, :: one[2]] == crop).all()]
            assert len(fits) == 1
            seen |= set(fits)
    assert len(seen) == 18


def test_pictures_that_are_not_square_are_not_shifted(place: Place) -> None:
    """Crops are square; such pictures come whole, mirrored or not."""
    pictures = place.others[:6, :, :8]
    crops = Taught(pictures, torch.arange(6), mirror=True, seed=0).cropped(None).take(np.arange(6)).pixels.numpy()
    assert crops.shape == pictures.shape
    for own, crop in zip(pictures, crops):
        assert (own == crop).all() or (own[:, :, ::-1] == crop).all()
