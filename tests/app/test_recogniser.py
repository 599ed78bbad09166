"""Recognisers as ordinary runs, with the real commands: trained, stopped and resumed, looked at, probed, encoded, exported."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from striate.app.load import load, load_model
from striate.draws import generator
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images
from training import small_store, striate

FEATURES = """
name: features
preprocess: {kind: standardise}
model: {kind: sparse, stages: [{size: 6, stride: 2, maps: 4, pool: 2, norm: 3, norm_edges: keep}]}
train: {epochs: 2, batch_size: 20, snapshots: 2, dtype: fp32}
"""
RECOGNISER = """
name: recogniser
model: {kind: recogniser, top: one-against-all}
train:
  epochs: 6
  batch_size: 20
  learning_rate: 2e-2
  top_first: 0.25
  snapshots: 3
  log_every: 4
  dtype: fp32
  checkpoint_every_s: 0.0001
  keep: 50
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of bars that lie or stand, stages that saw them without labels, and `whole`, which learned labels from there."""
    root = tmp_path_factory.mktemp("recogniser")
    small_store(root / "store", 120)
    (root / "features.yaml").write_text(FEATURES)
    (root / "recogniser.yaml").write_text(RECOGNISER)
    run(root, "train", "features.yaml", "data.store=store", "--run", "features")
    run(root, "train", "recogniser.yaml", "data.store=store", "model.below=features", "--run", "whole")
    return root


_OF_FEATURES = ("top.weights", "top.centre", "top.scale")


def run(folder: Path, *arguments: object) -> dict[str, object]:
    done = striate(*arguments, "--json", folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_starts_from_the_run_s_filters_and_ends_with_others(place: Path) -> None:
    model, below = (load_model(place / name).parts for name in ("whole", "features"))
    assert model.sparse is not None and below.sparse is not None and model.top is not None
    assert set(model.sparse.state) == {"stage1.encoder"}, "decoders have no part in it"
    assert model.sparse.spec == below.sparse.spec and model.top.kind == "one-against-all"
    assert not torch.equal(model.sparse.state["stage1.encoder"], below.sparse.state["stage1.encoder"])
    assert load_model(place / "whole").description["class_names"] == ["standing", "lying"]


def test_it_names_pictures_that_it_has_seen(place: Path) -> None:
    """Chance is a half."""
    store = ImageStore(place / "store")
    encoder = load(place / "whole")
    assert encoder.layers == ("pixels", "filter1", "pool1", "norm1", "logits")
    logits = encoder.encode(store[:], ["logits"])["logits"]
    assert float((logits.argmax(dim=1).numpy() == store.labels).mean()) > 0.9


def test_a_run_goes_on_to_the_same_bits_from_any_checkpoint(place: Path, tmp_path: Path) -> None:
    """From one while the top learns alone (6 of 36 steps: 9 are its), and from one of everything."""
    for number, last in enumerate((6, 20)):
        shutil.copytree(place / "whole", tmp_path / str(number))
        for file in (tmp_path / str(number) / "checkpoints").iterdir():
            if int(re.sub(r"\D", "", file.stem)) > last:
                file.unlink()
        run(place, "resume", tmp_path / str(number))
        for name in ("encoder.safetensors", "checkpoints/step-00000036.safetensors"):
            whole, other = (load_file(path / name) for path in (place / "whole", tmp_path / str(number)))
            assert whole.keys() == other.keys() and all(torch.equal(whole[key], other[key]) for key in whole)


def test_the_top_alone_leaves_filters_as_they_were(place: Path) -> None:
    run(place, "train", "recogniser.yaml", "data.store=store", "model.below=features", "train.top_first=1", "--run", "top")
    model, below = (load_file(place / name / "encoder.safetensors") for name in ("top", "features"))
    assert torch.equal(model["sparse.stage1.encoder"], below["sparse.stage1.encoder"])
    assert model["top.weights"].any()


def test_from_scratch_it_is_the_same_network_on_the_same_pictures(place: Path) -> None:
    """`start=noise` takes a run's network and preprocessing, not its filters; stages of one's own need no run."""
    scratch = ("train", "recogniser.yaml", "data.store=store", "train.epochs=1", "--run")
    run(place, *scratch, "scratch", "model.below=features", "model.start=noise", "train.top_first=1")
    stages = "[{size: 6, stride: 2, maps: 4, pool: 2, norm: 3, norm_edges: keep}]"
    run(place, *scratch, "alone", f"model.stages={stages}", "preprocess.kind=standardise", "train.top_first=1")
    scratch_file, alone, below = (load_file(place / name / "encoder.safetensors") for name in ("scratch", "alone", "features"))
    assert all(torch.equal(scratch_file[name], alone[name]) for name in scratch_file)
    assert not torch.equal(scratch_file["sparse.stage1.encoder"], below["sparse.stage1.encoder"])


def test_it_is_probed_shown_and_encoded_as_any_run_is(place: Path) -> None:
    probed = run(place, "probe", "whole", "--train", "store", "--test", "store")
    assert probed["layer"] == "norm1" and probed["net"]["accuracy"] > 0.9
    report = (place / str(run(place, "show", "whole", "report")["report"])).read_text()
    assert "under 2 classes" in report and "Share of training pictures named wrongly" in report
    assert "what the model rebuilds" not in report
    refused = striate("show", "whole", "reconstructions", folder=place)
    assert refused.returncode == 2 and "it has no reconstructions" in refused.stderr
    run(place, "encode", "whole", "store", "--layer", "logits", "--out", "logits.npy")
    kept = np.load(place / "logits.npy")
    assert kept.shape == (120, 2)
    np.testing.assert_allclose(
        kept, load(place / "whole").encode(ImageStore(place / "store")[:], ["logits"])["logits"], atol=1e-5
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ((), "give below (a run of a sparse autoencoder) or stages (of a network that starts at random), found none"),
        (("model.below=features", "model.stages=[{size: 6}]"), "found both"),
        (("model.stages=[{size: 6, norm: 0}]", "model.start=run"), "model.start=run needs the run"),
        (("model.below=features", "train.validation=0.1"), "train.validation is for nets and convnets"),
        (("model.below=features", "train.top_first=2"), "train.top_first: input should be less than or equal to 1, found 2"),
        (("model.below=features", "model.topp=softmax"), "unknown key model.topp; did you mean model.top?"),
        (("model.below=rbm",), "model.below=rbm is no sparse autoencoder"),
    ],
)
def test_what_it_cannot_be_told_is_one_line(place: Path, changes: tuple[str, ...], words: str) -> None:
    if "model.below=rbm" in changes and not (place / "rbm").exists():
        (place / "rbm.yaml").write_text(
            "name: rbm\npreprocess: {kind: standardise}\nmodel: {hidden: 4}\ntrain: {epochs: 1, batch_size: 60}\n"
        )
        run(place, "train", "rbm.yaml", "data.store=store", "--run", "rbm")
    done = striate(
        "train", "recogniser.yaml", "data.store=store", "preprocess.kind=standardise", "--run", "no", *changes, folder=place
    )
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert not (place / "no").exists() and len(done.stderr.strip().splitlines()) <= 2


def test_a_classifier_that_does_not_fit_its_stages_is_refused(place: Path, tmp_path: Path) -> None:
    """A file whose classifier has features that its stages do not give, or none below it, is damaged."""
    file = place / "whole/encoder.safetensors"
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    tensors = load_file(file)
    narrow = {name: tensor[..., :-1].contiguous() if name in _OF_FEATURES else tensor for name, tensor in tensors.items()}
    without = {name: tensor for name, tensor in tensors.items() if not name.startswith("sparse.")}
    for changed, words in ((narrow, "its top takes"), (without, "there are no stages under it")):
        save_file(changed, tmp_path / "encoder.safetensors", header)
        with pytest.raises(BadInput, match=words):
            load_model(tmp_path)


def test_the_table_of_the_paper_is_measured_and_kept(tmp_path: Path) -> None:
    """Too small for any finding: every way is there with its interval, from as many pictures as it should be."""
    random = generator(0, "table")
    for name, count in (("store", 120), ("test", 60)):
        pictures = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        import_images(ArraySource(pictures, np.arange(count) % 3, ["a", "b", "c"]), tmp_path / name, workers=1)
    sets = ["train.epochs=1", "train.batch_size=40", "train.snapshots=1", "preprocess.kind=standardise"]
    command = ["reproduce", "le2012", "--store", "store", "--test", "test", "--figure", "10", "--out", "table"]
    command += [word for change in sets for word in ("--set", change)]
    [figure] = run(tmp_path, *command)["figures"]
    rows = {row["way"]: row for row in figure["rows"]}
    assert list(rows) == ["pixels", "random-top", "learned-top", "scratch", "recognition", "scratch-few", "recognition-few"]
    for row in rows.values():
        assert row["low"] <= row["accuracy"] <= row["high"] and (row["train_size"], row["test_size"]) == (120, 60)
    runs = tmp_path / "table/runs"
    learned, random_top, features = (
        load_file(runs / name / "encoder.safetensors")["sparse.stage1.encoder"]
        for name in ("learned-top", "random-top", "features")
    )
    assert torch.equal(learned, features) and not torch.equal(random_top, features)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "table").rglob("*.json")}
    assert run(tmp_path, *command)["figures"] == [figure]
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "table").rglob("*.json")}
    assert (tmp_path / "table/figures/figure-10.png").stat().st_size > 5000
