"""`striate reproduce` from end to end on small pictures: every figure is drawn, kept work is not done again."""

import json
from pathlib import Path

import numpy as np
import pytest

from striate.draws import generator
from striate.images import ArraySource, ImageStore, import_images
from training import small_store, striate

_SMALL = ["train.epochs=0.5", "train.batch_size=20", "train.snapshots=3", "train.warmup_steps=2", "train.log_every=2"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth 16x16 pictures of ten classes told apart by their mean colour, fewer than they have dimensions."""
    root = tmp_path_factory.mktemp("reproduce")
    random = generator(0, "reproduce")
    for name, count in (("train", 400), ("test", 100)):
        noise = random.normal(size=(count, 3, 22, 22))
        smooth = sum(noise[:, :, i : i + 16, j : j + 16] for i in range(7) for j in range(7))
        labels = np.arange(count) % 10
        colour = np.stack([labels % 3, labels % 5, labels % 7], axis=1)[:, :, None, None] * 10.0
        levels = np.clip(80 + 8 * smooth + colour, 0, 255).astype(np.uint8)
        import_images(ArraySource(levels, labels, [f"class {i}" for i in range(10)]), root / name, workers=1)
    return root


def _reproduce(place: Path, *arguments: object) -> dict[str, object]:
    sets = [word for override in _SMALL for word in ("--set", override)]
    done = striate(
        "reproduce", "krizhevsky2009", "--store", place / "train", "--test", place / "test", "--out", place / "out", *sets,
        *arguments, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.science
def test_figures_of_models_and_of_classifiers_are_drawn_and_kept(place: Path) -> None:
    """Too little training for any finding; but all ten bars are measured, and a second call trains and measures nothing."""
    sets = ["--set", "preprocess.delete=600", "--set", "data.limit=null"]
    figures = ["--figure", "2.15", "--figure", "3.1", "--figure", "3.2"]
    result = _reproduce(place, *sets, *figures)
    assert [figure["figure"] for figure in result["figures"]] == ["2.15", "3.1", "3.2"]
    bars = result["figures"][1]["ours"]
    assert all(f"({letter})" in bars for letter in "abcdefghij")
    runs = place / "out" / "runs"
    assert {"unwhitened", "whitened", "second", "tuned", "random-1000", "random-10000", "second-tuned", "deep"} == {
        path.name for path in runs.iterdir()
    }
    changed = {path: path.stat().st_mtime_ns for path in runs.rglob("encoder.safetensors")}
    again = _reproduce(place, *sets, "--figure", "3.1")
    assert again["figures"][0]["ours"] == bars
    assert changed == {path: path.stat().st_mtime_ns for path in runs.rglob("encoder.safetensors")}
    assert (place / "out" / "figures" / "figure-3.1.png").stat().st_size > 5000


def test_what_cannot_be_reproduced_is_one_line(place: Path) -> None:
    done = striate("reproduce", "krizhevsky2009", "--store", place / "train", "--figure", "3.1")
    assert done.returncode == 2 and "give --test STORE" in done.stderr
    done = striate("reproduce", "krizhevsky2009", "--store", place / "train", "--figure", "1.1")
    assert done.returncode == 2 and "two thirds" in done.stderr
    done = striate("reproduce", "krizhevsky1999", "--store", place / "train")
    assert done.returncode == 2 and "there is krizhevsky2009, krizhevsky2012" in done.stderr


@pytest.mark.science
def test_the_convolutional_net_s_figures_are_drawn(place: Path) -> None:
    """On 16x16 pictures and two epochs: no finding is asked for, but every figure and every ablation is measured."""
    sets = [word for override in (*_SMALL[1:], "train.epochs=2", "data.limit=null") for word in ("--set", override)]
    net = [word for override in ("augment.crop=16", "model.crop=16") for word in ("--set", override)]
    stores = ["--store", place / "train", "--test", place / "test", "--out", place / "nets"]
    done = striate("reproduce", "krizhevsky2012", *stores, *sets, *net, "--json")
    assert done.returncode == 0, done.stderr
    found = {figure["figure"]: figure for figure in json.loads(done.stdout)["figures"]}
    assert list(found) == ["1", "2", "3", "4", "5", "6"]
    assert found["2"]["agrees"]
    assert "60,965,224 parameters" in found["2"]["ours"]
    assert "without dropout" in found["5"]["ours"]
    assert (place / "nets" / "figures" / "figure-4.png").stat().st_size > 5000


@pytest.mark.science
def test_le2012_judges_units_of_a_network_and_its_controls(tmp_path: Path) -> None:
    """Tiny networks on 16x16 pictures: too little for the findings; every number is there, and kept."""
    random = generator(0, "le2012")
    bright = random.integers(0, 120, (120, 1, 16, 16), dtype=np.uint8)
    bright[:60, :, 4:12, 6:10] = 255
    for name, pictures in (("train", bright), ("yes", bright[:60]), ("no", bright[60:])):
        import_images(ArraySource(pictures, None), tmp_path / name, workers=1)
    stages = (
        "[{size: 6, stride: 2, maps: 3, pool: 2, norm: 3, norm_edges: keep, sharing: tied}, "
        "{size: 3, maps: 4, pool: 1, norm: 0, sharing: tied}, {size: 2, maps: 4, pool: 1, pool_group: 2, norm: 0}]"
    )
    rules = "[{fields: 3}, {fields: 3}, {rule: winners}]"
    sets = ["train.epochs=2", "train.batch_size=20", f"model.stages={stages}", f"train.fields={rules}"]
    command = ["reproduce", "le2012", "--store", tmp_path / "train", "--out", tmp_path / "out", "--json"]
    command += [word for change in sets for word in ("--set", change)]
    sides = ["--positives", tmp_path / "yes", "--negatives", tmp_path / "no"]
    alone = striate(*command, "--positives", tmp_path / "yes")
    assert alone.returncode == 2 and "go together" in alone.stderr
    # The race of optimisers takes minutes, whatever the pictures: tests/app/test_race.py.
    command += [word for number in ("1", "6", "7", "8") for word in ("--figure", number)]
    found = json.loads(striate(*command).stdout)["figures"]
    assert [one["figure"] for one in found] == ["1", "6", "7", "8"]
    assert all(one["agrees"] for one in found) and "times on 81 machines" in found[1]["ours"] and "H200" in found[3]["ours"]
    done = striate(*command, *sides, *[word for number in "2345" for word in ("--figure", number)])
    assert done.returncode == 0, done.stderr
    figures = {one["figure"]: one for one in json.loads(done.stdout)["figures"]}
    assert sorted(figures) == ["1", "2", "3", "4", "5", "6", "7", "8"]
    assert figures["1"]["agrees"] and "1,144,863,072" in figures["1"]["ours"]
    assert "without pooling" in figures["5"]["ours"] and "no faces" not in figures["5"]["ours"]
    rows = {one["network"]: one for one in figures["5"]["rows"]}
    assert len(rows["network"]["held_out"]) == 3 and rows["no-norm"]["paper"] == 78.5
    runs = tmp_path / "out" / "runs"
    seeded = {f"{name}{seed}" for name in ("network", "one-stage", "no-norm") for seed in ("", "-1", "-2")}
    assert {path.name for path in runs.iterdir()} == {*seeded, "two-stages", "no-pool", "whole"}
    kept = json.loads((runs / "one-stage" / "neurons.json").read_text())
    assert set(kept["layers"]) == {"pool1", "norm1"}
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("neurons.json")}
    assert striate(*command, *sides, "--figure", "2").returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in runs.rglob("neurons.json")}
    plain = ["--plain", tmp_path / "no", "--figure", "5"]
    assert "no faces in training" in striate(*command, *sides, *plain).stdout
    digests = [json.loads((runs / name / "run.json").read_text())["store_digest"] for name in ("plain", "network")]
    assert digests == [ImageStore(tmp_path / name).digest for name in ("no", "train")]
    swapped = ["--positives", tmp_path / "no", "--negatives", tmp_path / "yes"]
    assert striate(*command, *swapped, "--figure", "2").returncode == 0
    assert json.loads((runs / "network" / "neurons.json").read_text())["pictures"] != kept["pictures"], "judged on these"


@pytest.mark.science
def test_chapter_4_is_redrawn_by_processes_of_this_machine(tmp_path: Path) -> None:
    """Bytes are exact wherever they are counted; how fast a busy machine's processes are is for benchmarks to say."""
    small_store(tmp_path / "store", 40)
    done = striate(
        "reproduce", "krizhevsky2009", "--store", tmp_path / "store", "--figure", "4.1", "--figure", "4.6", "--json",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table, speed = json.loads(done.stdout)["figures"]
    assert table["agrees"] and "12.00 MB" in table["ours"] and "8 over 4" in speed["ours"]
    assert len(list((tmp_path / "out" / "figures").glob("figure-4.*.png"))) == 4
