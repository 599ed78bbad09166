"""Models' files of every version that there was load, and give the features that they gave when they were written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import small_models
import striate as package
from striate.app.exporting.modules import module_of
from striate.app.load import load_model
from striate.app.model_files import FORMAT_VERSION

STORED = Path(__file__).parents[1] / "stored"
FOLDERS = sorted(folder.name for folder in STORED.iterdir() if folder.is_dir() and (folder / "features.safetensors").exists())


def test_every_version_is_among_them() -> None:
    versions = {int(name.split("-")[1]) for name in FOLDERS}
    assert versions == set(range(1, FORMAT_VERSION + 1))


@pytest.mark.parametrize("name", FOLDERS)
def test_features_come_out_as_stored(name: str) -> None:
    # Another machine adds up in another order. How far that may lead is seen from what float32 rounds off here: float64 tells.
    stored = load_file(STORED / name / "features.safetensors")
    pictures = stored.pop("pictures").numpy()
    encoder = package.load(STORED / name)
    assert set(encoder.layers) == set(stored)
    exact = module_of(load_model(STORED / name), encoder, encoder.layers).double()(torch.from_numpy(pictures))
    found = encoder.encode(pictures, encoder.layers)
    for layer, truth in zip(encoder.layers, exact):
        rounding = float((found[layer] - truth).abs().max()) + float(truth.abs().max()) * 2**-23
        assert float((found[layer] - stored[layer]).abs().max()) <= 8 * rounding, layer
        # Sharp enough to see a wrong parameter: a part in ten thousand of the layer.
        assert layer == "pixels" or 8 * rounding < 1e-4 * float(truth.abs().max()), layer


def test_a_file_of_version_1_becomes_one_of_today() -> None:
    description = load_model(STORED / "version-1").description
    assert description["version"] == FORMAT_VERSION and description["layers"] == [{"visible": "gaussian"}]
    assert torch.equal(load_model(STORED / "version-1").rbm.units.sigma, torch.full((48,), 0.5))  # type: ignore[attr-defined]


def test_a_model_written_again_is_the_same_file(tmp_path: Path) -> None:
    """Its digest names it in features and indices. (Two entries in its head would come in an order that chance gives.)"""
    written = set()
    for number in range(10):
        small_models.patches().save(tmp_path / str(number), "patches")
        written.add((tmp_path / str(number) / "encoder.safetensors").read_bytes())
    assert len(written) == 1
