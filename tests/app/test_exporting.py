"""Trained models for others: ONNX, programs, cards, folders for the Hub; each held against the run, by the real command too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

import striate as package
from small_models import KINDS, VARIANTS, Small, pictures, preprocessor, save_all
from striate.app.exporting.checking import Check, difference, insist
from striate.app.exporting.formats import FORMATS, export_model
from striate.app.exporting.program import open_program, write_program
from striate.app.exporting.trained import Trained, trained
from striate.app.load import Parts
from striate.errors import BadInput, StriateError
from striate.images import ArraySource, import_images
from striate.models.rbm import RBM, Bernoulli
from training import striate


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_all(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_of_every_kind_gives_the_run_s_features(kind: str, models: Path, tmp_path: Path) -> None:
    # Any layer, any number of pictures, by another implementation of every operation.
    encoder = package.load(models / kind)
    layers = [encoder.layers[-1], *encoder.layers[:-1]]
    result = export_model(trained(models / kind, layers), tmp_path / "m.onnx", "onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    levels = pictures(encoder.image_shape, 11)
    wanted = encoder.encode(levels, layers)
    for count in (11, 1):
        for layer, found in zip(layers, session.run(layers, {"pictures": levels[:count]})):
            assert found.dtype == np.float32 and found.shape == (count, encoder.dims[layer])
            off = np.abs(found - wanted[layer][:count].numpy()).max()
            assert off < 2e-5 * float(wanted[layer].abs().max()), layer
    assert result["checked"]["largest_relative_difference"] < 1e-4


@pytest.mark.parametrize("kind", [*KINDS, "11pct", "tied", "tiled"])
def test_programs_of_every_kind_give_the_run_s_features(kind: str, models: Path, tmp_path: Path) -> None:
    if kind in VARIANTS:
        VARIANTS[kind]().save(models / kind, kind)
    encoder = package.load(models / kind)
    export_model(trained(models / kind, encoder.layers), tmp_path / "m.pt2", "program")
    levels = pictures(encoder.image_shape, 11)
    wanted = encoder.encode(levels, encoder.layers)
    run = open_program(tmp_path / "m.pt2")
    for count in (11, 1):
        for layer, found in zip(encoder.layers, run(levels[:count])):
            off = float((found - wanted[layer][:count]).abs().max())
            assert found.shape == (count, encoder.dims[layer]) and off < 2e-5 * float(wanted[layer].abs().max()), layer


def test_rare_units_keep_their_digits(tmp_path: Path) -> None:
    # e^-19 to e^-21: below what onnxruntime's own sigmoid reaches, and closed: far down a sigmoid is an exponential.
    model = RBM(torch.zeros(3, 16), torch.zeros(16), torch.tensor([-19.0, -20.0, -21.0]), Bernoulli())
    Small(Parts((model,)), preprocessor((1, 4, 4), kind="scale"), (1, 4, 4)).save(tmp_path, "rare")
    export_model(trained(tmp_path), tmp_path / "m.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    [found] = session.run(None, {"pictures": pictures((1, 4, 4), 2)})
    np.testing.assert_allclose(found, np.exp([[-19.0, -20.0, -21.0]] * 2), rtol=1e-6)


@pytest.mark.parametrize("form", ["safetensors", "huggingface"])
@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_every_kind_load_to_the_last_bit(kind: str, form: str, models: Path, tmp_path: Path) -> None:
    result = export_model(trained(models / kind), tmp_path / "out", form)
    before, after = package.load(models / kind), package.load(tmp_path / "out")
    levels = pictures(before.image_shape, 5)
    wanted, found = (one.encode(levels, before.layers) for one in (before, after))
    assert before.layers == after.layers and all(torch.equal(wanted[layer], found[layer]) for layer in before.layers)
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert {name: one["dim"] for name, one in card["layers"].items()} == dict(before.dims)
    assert all(np.prod(one["shape"]) == one["dim"] for one in card["layers"].values())
    assert result["bytes"] == sum(file.stat().st_size for file in (tmp_path / "out").iterdir())


def test_an_onnx_file_says_what_it_is(models: Path, tmp_path: Path) -> None:
    result = export_model(trained(models / "net", licence="cc0-1.0"), tmp_path / "m.onnx", "onnx")
    proto = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    onnx.checker.check_model(proto)
    notes = {one.key: one.value for one in proto.metadata_props}
    assert json.loads(notes["layers"]) == {"hidden2": 7, "logits": 3} == result["layers"]
    assert json.loads(notes["class_names"]) == ["lying", "standing", "flat"]
    assert notes["model"] == result["model"] and notes["licence"] == "cc0-1.0"
    assert "3 least significant directions deleted" in notes["preprocessing"]
    assert proto.opset_import[0].version == result["opset"] == 20
    [entry] = proto.graph.input
    assert [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim] == ["n", 3, 4, 4]
    assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_a_program_carries_the_same_notes(models: Path, tmp_path: Path) -> None:
    export_model(trained(models / "stack", ["hidden2"]), tmp_path / "m.pt2", "program")
    notes = {"striate.json": ""}
    torch.export.load(tmp_path / "m.pt2", extra_files=notes)
    assert json.loads(notes["striate.json"])["layers"] == {"hidden2": 9}


@pytest.mark.parametrize(("change", "refused"), [(1.0, False), (1.001, True), (float("nan"), True)])
def test_what_says_something_else_than_the_run_is_not_written(
    change: float, refused: bool, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a faulty exporter would: one weight of the top layer is a thousandth too large.
    def faulty(subject: Trained, file: Path) -> None:
        other = trained(models / "net", subject.layers)
        other.model.parts.net.weights[1][0, 0] *= change  # type: ignore[union-attr]
        write_program(other, file)

    monkeypatch.setitem(FORMATS, "program", replace(FORMATS["program"], write=faulty))
    if not refused:
        export_model(trained(models / "net", ["hidden2"]), tmp_path / "m.pt2", "program")
        return
    with pytest.raises(StriateError, match=r"hidden2 differs by up to .* of its size, 1e-04 are allowed: nothing was written"):
        export_model(trained(models / "net", ["hidden2"]), tmp_path / "m.pt2", "program")
    assert list(tmp_path.iterdir()) == []


def test_the_run_s_own_rounding_is_no_fault_of_what_was_written() -> None:
    found = Check({"hidden1": 3e-4}, {"hidden1": 1e-4}, 64, "pictures")
    insist(found, 1e-4, "onnx", Path("run"))
    with pytest.raises(StriateError, match="2e-04 are allowed"):
        insist(replace(found, rounding={"hidden1": 5e-5}), 1e-4, "onnx", Path("run"))


def test_the_difference_is_relative_to_a_feature_or_to_its_layer() -> None:
    wanted = torch.tensor([[0.0, 3.0], [4.0, 0.0]])
    # Root mean square: sqrt((9 + 16) / 4) = 2.5.
    assert difference(wanted + torch.tensor([[0.5, 0.0], [0.0, 0.0]]), wanted) == pytest.approx(0.5 / 2.5)
    assert difference(wanted + torch.tensor([[0.0, 0.0], [0.8, 0.0]]), wanted) == pytest.approx(0.8 / 4.0)
    assert difference(wanted * float("nan"), wanted) == float("inf")
    assert difference(wanted[:1], wanted) == float("inf")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store, and a run on it that was probed."""
    root = tmp_path_factory.mktemp("export")
    levels = pictures((3, 8, 8), 90)
    source = ArraySource(levels, np.arange(90) % 3, ["a", "b*", "c|d"])
    import_images(source, root / "store", workers=1)
    recipe = root / "tiny.yaml"
    recipe.write_text(
        "name: tiny\npreprocess: {kind: standardise}\nmodel: {kind: net, hidden: [12]}\n"
        "train: {epochs: 4, batch_size: 20, learning_rate: 1e-2, dtype: fp32, snapshots: 2}\n"
    )
    for arguments in (
        ("train", recipe, f"data.store={root / 'store'}", "--run", root / "run"),
        ("probe", root / "run", "--train", root / "store", "--test", root / "store"),
    ):
        done = striate(*arguments)
        assert done.returncode == 0, done.stderr
    yield root


def test_the_command_checks_on_the_run_s_own_pictures_and_is_quiet(place: Path, tmp_path: Path) -> None:
    done = striate("export", place / "run", tmp_path / "m.onnx", "--json", "--layer", "hidden1", "--layer", "logits")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["format"] == "onnx" and result["checked"]["of"] == "pictures it was trained on"
    assert list(result["checked"]["layers"]) == ["hidden1", "logits"]
    assert done.stderr.strip().splitlines() == ["tiny: writing and checking onnx"]
    done = striate("export", place / "run", tmp_path / "m.pt2", "--check", place / "store")
    assert done.returncode == 0 and "checked on 64 pictures of store" in done.stdout
    assert done.stdout.strip().splitlines()[-1].startswith("next: python -c") and done.stderr == ""


def test_the_card_tells_how_a_model_came_about_and_nothing_of_the_machine(place: Path, tmp_path: Path) -> None:
    done = striate("export", place / "run", tmp_path / "hub", "--format", "huggingface", "--licence", "cc-by-4.0")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "hub" / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "license": "cc-by-4.0",
        "library_name": "striate",
        "pipeline_tag": "image-classification",
        "tags": ["striate", "image-features"],
    }
    card = json.loads((tmp_path / "hub" / "card.json").read_text())
    described = json.loads((place / "run" / "run.json").read_text())
    assert card["pictures"] == {"digest": described["store_digest"], "count": 90, "shape": [3, 8, 8]}
    assert card["training"]["recipe"]["data"]["store"] == "store" and card["training"]["steps"] == described["steps"]
    assert card["parameters"] == 192 * 12 + 12 + 12 * 3 + 3 + 1
    measured = json.loads((place / "run" / "probe.json").read_text())
    assert card["measures"]["net"]["accuracy"] == measured["net"]["accuracy"]
    assert f"| net | {100 * measured['net']['accuracy']:.1f}% |" in body and "a, b\\*, c\\|d." in body
    everything = "".join(file.read_text() for file in (tmp_path / "hub").iterdir() if file.suffix in (".json", ".md"))
    assert str(place) not in everything and str(place.parent) not in everything
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["id2label"] == {"0": "a", "1": "b*", "2": "c|d"} and config["image_size"] == 8
    assert (tmp_path / "hub" / "filters.png").read_bytes().startswith(b"\x89PNG")


def test_the_card_s_python_runs_as_it_stands(place: Path, tmp_path: Path) -> None:
    assert striate("export", place / "run", tmp_path / "card", "--format", "safetensors").returncode == 0
    text = (tmp_path / "card" / "README.md").read_text()
    lines = text.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", str(tmp_path / "card"))
    known = {"pictures": pictures((3, 8, 8), 4)}
    exec(lines, known)
    assert known["features"].shape == (4, 3)  # type: ignore[attr-defined]


def test_an_export_of_an_export_keeps_its_card(place: Path, tmp_path: Path) -> None:
    for source, out in ((place / "run", "first"), (tmp_path / "first", "second")):
        done = striate("export", source, tmp_path / out, "--format", "huggingface")
        assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / out / "card.json").read_text()) for out in ("first", "second"))
    assert first == second


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("store", "m.onnx", "--format", "onnx"), "store is a store: its formats are cifar-binary"),
        (("store", "out", "--layer", "hidden1"), "store is a store: --layer does not go with one"),
        (("run", "out", "--format", "webdataset"), "run is a run: its formats are huggingface, onnx"),
        (("run", "m.onnx", "--classes", "c.yaml"), "run is a run: --classes does not go with one"),
        (("run", "m.onnx", "--layer", "hidden7"), "no layer 'hidden7': this model has pixels, hidden1, logits"),
        (("run", "out", "--format", "safetensors", "--layer", "hidden1"), "--layer does not go with --format safetensors"),
        (("run", "m.zip", "--format", "onnx"), "m.zip: files of this format have names that end in .onnx"),
        (("run", "m.onnx", "--size", "8x"), "--size 8x: expected pixels"),
        (("run", "m.onnx", "--check", "other"), "other holds pictures (3, 4, 4), the model takes (3, 8, 8)"),
        (("nothing", "m.onnx"), "nothing has no encoder.safetensors: expected a run directory"),
    ],
)
def test_what_cannot_be_exported_is_one_line(arguments: tuple[str, ...], said: str, place: Path) -> None:
    if not (place / "other").exists():
        import_images(ArraySource(pictures((3, 4, 4), 5), None, []), place / "other", workers=1)
    done = striate("export", *arguments, folder=place)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") <= 2, done.stderr
    assert not any((place / name).exists() for name in ("m.onnx", "out", "m.zip"))


def test_what_is_there_is_replaced_only_when_asked(models: Path, tmp_path: Path) -> None:
    subject = trained(models / "binary")
    for form, name in (("program", "m.pt2"), ("safetensors", "out")):
        export_model(subject, tmp_path / name, form)
        with pytest.raises(BadInput, match="is there already"):
            export_model(subject, tmp_path / name, form)
        export_model(subject, tmp_path / name, form, overwrite=True)
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadInput, match="was not written by an export"):
        export_model(subject, tmp_path / "mine", "safetensors", overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.pt2", "mine", "out"]


def test_a_model_too_large_for_one_file_is_refused_before_it_is_written(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("striate.app.exporting.onnx_file._MOST_BYTES", 1000)
    with pytest.raises(StriateError, match="one ONNX file holds 2 GB: use --format program"):
        export_model(trained(models / "gaussian"), tmp_path / "m.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_patches_are_exported_for_pictures_of_any_size(models: Path, tmp_path: Path) -> None:
    result = export_model(trained(models / "patches", size=(12, 20)), tmp_path / "m.pt2", "program")
    assert result["image_shape"] == [3, 12, 20] and result["checked"]["of"].startswith("random pictures")
    levels = pictures((3, 12, 20), 3)
    [found] = open_program(tmp_path / "m.pt2")(levels)
    wanted = package.load(models / "patches", (3, 12, 20)).encode(levels)["hidden1"]
    assert float((found - wanted).abs().max()) < 2e-6


def test_every_format_says_what_it_is() -> None:
    assert set(FORMATS) == {"onnx", "program", "safetensors", "huggingface"} and all(one.says for one in FORMATS.values())
