"""Nets by command: from RBMs, from other nets' layers, at random; fine-tuned, probed, resumed, refused."""

import json
from pathlib import Path

import pytest
import torch

import striate as package
from striate.app.load import load_model
from striate.app.recipe import check_recipe
from striate.images import ArraySource, ImageStore, import_images
from training import small_store, striate

_RBM = """
name: below
preprocess: {kind: delete, delete: 100}
model: {kind: rbm, hidden: 40, sigma: 40.0, hidden_bias: -1.0}
train: {epochs: 30, batch_size: 20, learning_rate: 1e-2, log_every: 5, snapshots: 2, dtype: fp32}
"""
_NET = """
name: net
preprocess: {{kind: delete, delete: 100}}
model: {{kind: net, {model}}}
train: {{epochs: {epochs}, batch_size: 20, learning_rate: {rate}, log_every: 3, snapshots: 2, dtype: fp32{more}}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("net")
    small_store(root / "store", 300)
    (root / "below.yaml").write_text(_RBM)
    _train(root, root / "below.yaml", "below")
    _train(root, _net(root, f"below: {root / 'below'}", epochs=15), "tuned")
    return root


def _net(folder: Path, model: str, epochs: float = 5, rate: float = 0.1, more: str = "") -> Path:
    file = folder / "net.yaml"
    file.write_text(_NET.format(model=model, epochs=epochs, rate=rate, more=more))
    return file


def _train(root: Path, recipe: Path, name: str, code: int = 0) -> str:
    done = striate("train", recipe, f"data.store={root / 'store'}", "--run", root / name)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_a_net_from_a_run_is_fine_tuned_and_judged_on_other_pictures(place: Path) -> None:
    small = ImageStore(place / "store")[:200]
    import_images(ArraySource(small, ImageStore(place / "store").labels[:200], ["standing", "lying"]), place / "test")
    done = striate("probe", place / "tuned", "--train", place / "store", "--test", place / "test", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["net"]["accuracy"] > 0.9 and result["layer"] == "hidden1"
    encoder = package.load(place / "tuned")
    found = encoder.encode(small)["logits"].argmax(dim=1).numpy()
    assert float((found == ImageStore(place / "store").labels[:200]).mean()) == pytest.approx(
        result["net"]["accuracy"], abs=1e-4
    )
    below, tuned = load_model(place / "below").rbm, load_model(place / "tuned").parts.net
    assert tuned is not None and not torch.equal(tuned.weights[0], below.weights)
    report = striate("show", place / "tuned", "report", "--json")
    assert report.returncode == 0, report.stderr


def test_frozen_layers_stay_as_they_are(place: Path) -> None:
    _train(place, _net(place, f"below: {place / 'below'}", more=", rates: [0, 1]"), "frozen")
    below, net = load_model(place / "below").rbm, load_model(place / "frozen").parts.net
    assert net is not None and torch.equal(net.weights[0], below.weights) and torch.equal(net.biases[0], below.hidden_bias)


def test_a_net_is_put_together_from_layers_of_others(place: Path) -> None:
    """Layers by number, before any training to speak of: bit-equal to those of the nets they come from."""
    layers = f"layers: ['{place / 'tuned'}:1', '{place / 'frozen'}:2']"
    if not (place / "frozen").exists():
        _train(place, _net(place, f"below: {place / 'below'}", more=", rates: [0, 1]"), "frozen")
    _train(place, _net(place, layers, epochs=0.1, rate=1e-30), "joined")
    net, tuned, frozen = (load_model(place / name).parts.net for name in ("joined", "tuned", "frozen"))
    assert net is not None and tuned is not None and frozen is not None
    assert torch.equal(net.weights[0], tuned.weights[0]) and torch.equal(net.weights[1], frozen.weights[1])
    assert torch.equal(net.input_scale, tuned.input_scale)


def test_a_random_net_with_held_out_pictures_resumes_to_the_last_bit(place: Path) -> None:
    """Killed after its first checkpoint, as it were: what follows it is thrown away and made again."""
    recipe = _net(
        place, "hidden: [30, 20]", epochs=12, more=", dropout: 0.2, validation: 0.2, checkpoint_every_s: 0.01, keep: 50"
    )
    _train(place, recipe, "random")
    run = place / "random"
    known = load_model(run).parts.net
    checkpoints = sorted((run / "checkpoints").glob("step-*.safetensors"))
    assert len(checkpoints) > 4
    for file in sorted((run / "checkpoints").glob("step-*")):
        if file.name.split(".")[0] > checkpoints[2].stem:
            file.unlink()
    assert striate("resume", run).returncode == 0
    net = load_model(run).parts.net
    assert known is not None and net is not None
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(net.weights, known.weights, strict=True))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["best_validation_error"] < 0.3


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        ("hidden: [30], below: {below}", "", "give one of below"),
        ("gain: 1.0", "", "found none"),
        ("below: {tuned}", "", "is a net: use model.layers"),
        ("layers: ['{below}:1']", "", "is no net"),
        ("layers: ['{tuned}:7']", "", "has layers 1 to 2"),
        ("layers: ['{tuned}']", "", "is no RUN:NUMBER"),
        ("hidden: [30]", ", patience: 3", "needs pictures to judge by"),
        ("hiden: [30]", "", "did you mean model.hidden"),
    ],
)
def test_nets_that_cannot_be_made_are_one_line(place: Path, model: str, more: str, words: str) -> None:
    text = model.format(below=place / "below", tuned=place / "tuned")
    error = _train(place, _net(place, text, more=more), "bad", code=2)
    assert words in error and error.strip().splitlines()[-1].startswith("striate: ")


def test_a_stack_is_unrolled_into_an_autoencoder_that_rebuilds_better(place: Path) -> None:
    """By command: trained, loaded, encoding codes; a fifth less error than the RBM at least; reported; resumed."""
    text = (
        _net(place, f"below: {place / 'below'}", epochs=100, rate=0.005).read_text().replace("kind: net", "kind: autoencoder")
    )
    (place / "auto.yaml").write_text(text)
    _train(place, place / "auto.yaml", "auto")
    model = load_model(place / "auto")
    auto, below = model.parts.autoencoder, load_model(place / "below")
    assert auto is not None
    rows = below.preprocessor.apply(ImageStore(place / "store")[:100])
    errors = [
        float((rows - rebuilt).square().mean())
        for rebuilt in (auto.decode(auto.encode(rows)), below.rbm.visible_mean(below.rbm.hidden_mean(rows)))
    ]
    assert errors[0] < 0.8 * errors[1], errors
    encoder = package.load(place / "auto")
    assert torch.equal(encoder.encode(ImageStore(place / "store")[:100])["code"], auto.encode(rows))
    report = striate("show", place / "auto", "report", "--json")
    assert report.returncode == 0, report.stderr
    assert striate("resume", place / "auto").returncode == 0


def test_classes_need_no_names(place: Path, tmp_path: Path) -> None:
    """A label column of numbers is enough."""
    pictures = ImageStore(place / "store")
    import_images(ArraySource(pictures[:100], pictures.labels[:100]), tmp_path / "numbers")
    assert not ImageStore(tmp_path / "numbers").class_names
    recipe = _net(tmp_path, "hidden: [10]", epochs=1)
    done = striate("train", recipe, f"data.store={tmp_path / 'numbers'}", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    net = load_model(tmp_path / "run").parts.net
    assert net is not None and net.sizes == (768, 10, 2)


def test_unlabelled_pictures_are_refused(place: Path, tmp_path: Path) -> None:
    small_store(tmp_path / "plain", 60, labelled=False)
    done = striate("train", _net(tmp_path, "hidden: [30]"), f"data.store={tmp_path / 'plain'}", "--run", tmp_path / "run")
    assert done.returncode == 2 and "a net learns from labels" in done.stderr


def test_a_recipe_without_a_kind_is_an_rbm() -> None:
    assert check_recipe({"name": "x", "model": {"hidden": 5}}, "x").model.kind == "rbm"
