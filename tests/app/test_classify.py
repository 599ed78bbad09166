"""`striate classify` by command: learned, judged, kept, used again, refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from striate.app.classifier_file import read_classifier
from striate.app.classifying import out_of_fold
from striate.app.features import kept_features
from striate.app.screen import Screen
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images
from training import small_store, striate

_RBM = """
name: whole
preprocess: {kind: delete, delete: 100}
model: {kind: rbm, hidden: 40, sigma: 40.0, hidden_bias: -1.0}
train: {epochs: 30, batch_size: 20, learning_rate: 1e-2, log_every: 5, snapshots: 2, dtype: fp32}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run; a store to learn from; `other`, of other pictures its classes the other way round; `strange`, of others."""
    root = tmp_path_factory.mktemp("classify")
    small_store(root / "all", 420)
    everything = ImageStore(root / "all")
    pictures, labels = everything[:], everything.labels
    names = ["standing", "lying"]
    import_images(ArraySource(pictures[:240], labels[:240], names), root / "store", workers=1)
    import_images(ArraySource(pictures[240:], 1 - labels[240:], names[::-1]), root / "other", workers=1)
    import_images(ArraySource(pictures[240:], labels[240:], ["standing", "asleep"]), root / "strange", workers=1)
    import_images(ArraySource(pictures[:60], np.zeros(60, np.int64), ["standing"]), root / "single", workers=1)
    import_images(ArraySource(pictures[:60, :, :12, :12], labels[:60], names), root / "small", workers=1)
    (root / "whole.yaml").write_text(_RBM)
    done = striate("train", root / "whole.yaml", f"data.store={root / 'store'}", "--run", root / "run")
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def learned(place: Path) -> dict[str, object]:
    """What learning from 40 labels a class and naming other pictures says."""
    options = ("--per-class", 40, "--test", place / "other", "--method", "logistic,means,finetune", "--abstain", 0.9)
    done = striate("classify", place / "run", place / "store", *options, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_every_method_is_judged_on_other_pictures_classes_matched_by_name(learned: dict) -> None:
    """The other store numbers its classes the other way round: matched by number, all would be wrong."""
    methods = learned["methods"]
    assert list(methods) == [
        "logistic on features (hidden1)",
        "means on features (hidden1)",
        "finetune",
        "logistic on raw pixels",
    ]
    for name, one in methods.items():
        assert one["accuracy"] > 0.6, name
        assert one["test_size"] == 180 and one["train_size"] == 80
        assert set(one["per_class"]) == {"standing", "lying"}
    assert "abstain" in methods["finetune"] and "abstain" not in methods["logistic on raw pixels"]


def test_everything_is_kept_and_the_page_needs_nothing_else(learned: dict, place: Path) -> None:
    assert {Path(file).name for file in learned["figures"]} == {
        "classify-reliability.png",
        "classify-risk.png",
        "classify-confusion.png",
        "classify-classes.png",
    }
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in learned["figures"])
    page = Path(learned["report"]).read_text()
    assert "Calibration error" in page and "http" not in page.replace("http://www.w3.org", "")
    assert json.loads((place / "run" / "classify.json").read_text())["labels"] == 80


@pytest.mark.parametrize("method", ["logistic", "means", "finetune"])
def test_a_kept_classifier_says_again_what_it_said(learned: dict, place: Path, tmp_path: Path, method: str) -> None:
    """The accuracy of predictions written by --use is the accuracy that was reported; rows sum to one; keys are the store's."""
    kept = Path(learned["classifiers"][method])
    model = kept.parent if method == "finetune" else place / "run"
    out = tmp_path / "named.parquet"
    arguments = ("classify", model, "--use", kept, "--predict", place / "other", "-o", out, "--abstain", 0.9)
    done = striate(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    table, store = pq.read_table(out), ImageStore(place / "other")
    assert table["key"].to_pylist() == store.keys
    truth = [store.class_names[label] for label in store.labels]
    named = table["class"].to_pylist()
    reported = next(one for name, one in learned["methods"].items() if name.startswith(method))
    assert np.mean([a == b for a, b in zip(named, truth)]) == pytest.approx(reported["accuracy"], abs=1e-4)
    probabilities = np.array(table["probabilities"].to_pylist())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(probabilities.max(axis=1), table["probability"].to_numpy(), atol=1e-7)
    given = table["probability"].to_numpy() >= 0.9
    assert table["abstained"].to_pylist() == (~given).tolist()
    assert json.loads(done.stdout)["coverage"] == pytest.approx(given.mean(), abs=1e-4)
    about = json.loads(table.schema.metadata[b"striate"])
    assert about["method"] == method and about["class_names"] == ["standing", "lying"]
    again = striate(*arguments)
    assert again.returncode == 2 and "--overwrite" in again.stderr


def test_without_a_test_set_left_over_labels_judge(place: Path, tmp_path: Path) -> None:
    done = striate("classify", place / "run", place / "store", "--per-class", 30, "--to", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["methods"]["logistic on raw pixels"]["test_size"] == 180
    done = striate("classify", place / "run", place / "store", "--to", tmp_path, "--json")
    assert json.loads(done.stdout)["judged_on"] == "out of fold", done.stderr


def test_a_curve_by_command(place: Path, tmp_path: Path) -> None:
    options = ("--curve", "--counts", "1,8", "--seeds", 2, "--to", tmp_path, "--method", "means", "--json")
    done = striate("classify", place / "run", place / "store", *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["curve"]) == ["means on features (hidden1)", "logistic on raw pixels"]
    for points in result["curve"].values():
        assert [point["labels"] for point in points] == [1, 8]
        assert all(point["low"] <= point["accuracy"] <= point["high"] and point["draws"] == 2 for point in points)
    assert (tmp_path / "figures" / "learning-curve.png").exists() and (tmp_path / "learning-curve.html").exists()


def refused(*arguments: object) -> str:
    done = striate("classify", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def test_what_cannot_be_learned_is_refused_in_a_line(place: Path, tmp_path: Path) -> None:
    run, store = place / "run", place / "store"
    assert "'asleep'" in refused(run, store, "--test", place / "strange")
    assert "of one class, 'standing'" in refused(run, place / "single")
    assert "12x12" in refused(run, place / "small")
    assert "leave --test out" in refused(run, store, "--test", store)
    assert "one of them" in refused(run)
    assert "go together" in refused(run, store, "--predict", store)
    assert "guess" in refused(run, store, "--method", "guess")
    assert "needs 5 of every class" in refused(run, store, "--per-class", 3, "--method", "finetune", "--to", tmp_path)
    assert "--counts" in refused(run, store, "--curve", "--counts", "0,5")
    assert "share between 0 and 1" in refused(run, store, "--abstain-error", 5)
    training = tmp_path / "training"
    training.mkdir()
    (training / "run.json").write_text("{}")
    assert "not saved a model yet" in refused(training, store)


def test_more_labels_than_a_class_has_are_all_taken_and_said(place: Path, tmp_path: Path) -> None:
    done = striate("classify", place / "run", place / "store", "--per-class", 1000, "--to", tmp_path, "--json")
    assert done.returncode == 0 and "all of them are taken" in done.stderr
    assert json.loads(done.stdout)["labels"] == 240


def test_one_label_a_class_is_not_promised_anything(place: Path, tmp_path: Path) -> None:
    told = refused(place / "run", place / "store", "--per-class", 1, "--abstain-error", 0.1, "--to", tmp_path)
    assert "needs labelled pictures held out" in told


def test_a_classifier_is_used_with_its_own_model_only(learned: dict, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    kept = learned["classifiers"]["logistic"]
    strange = refused(place / "run" / "finetuned", "--use", kept, "--predict", place / "other", "-o", out)
    assert "the run it came from" in strange
    assert not out.exists()


@pytest.mark.parametrize("harm", ["cut", "model", "shape", "nothing"])
def test_damaged_classifiers_are_refused(learned: dict, place: Path, tmp_path: Path, harm: str) -> None:
    file = tmp_path / "classifier.safetensors"
    good = Path(learned["classifiers"]["logistic"])
    if harm == "cut":
        file.write_bytes(good.read_bytes()[:-100])
    elif harm == "model":
        file.write_bytes((place / "run" / "encoder.safetensors").read_bytes())
    elif harm == "shape":
        save_file({**load_file(good), "bias": torch.zeros(7)}, file, {"striate": json.dumps(read_classifier(good).about)})
    with pytest.raises(BadInput, match="no file" if harm == "nothing" else "no classifier"):
        read_classifier(file)


def test_out_of_fold_takes_features_from_disk_and_refuses_what_has_no_labels(place: Path) -> None:
    store = ImageStore(place / "store")
    features = kept_features(place / "run", store, None, Screen(quiet=True))
    probabilities = out_of_fold(features.array, store.labels, 2)
    assert probabilities.shape == (240, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == store.labels).mean() > 0.7
    with pytest.raises(BadInput, match="two classes"):
        out_of_fold(features.array, np.zeros(240, np.int64), 2)
