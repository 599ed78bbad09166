"""Models of timm as encoders: with timm where it is installed, and with a module that stands in for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from striate.app.encoders import source_of
from striate.app.features import default_layer, encode_store, encoder_of
from striate.app.main import main
from striate.app.screen import Screen
from striate.app.timm_encoder import Preparation, import_timm
from striate.draws import generator
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images


class Tiny(nn.Module):
    """What timm's models have: a configuration, features before the head, a head with or without its classifier."""

    pretrained_cfg: ClassVar[dict[str, object]] = {
        "input_size": (3, 8, 8),
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.2, 0.4),
        "crop_pct": 0.8,
    }

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.stem = nn.Conv2d(3, 5, 4, 4)
        self.fc = nn.Linear(5, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        return self.stem(x)

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = maps.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """A module in timm's place, and what models were asked of it."""
    asked: list[dict[str, object]] = []

    def create_model(name: str, pretrained: bool, num_classes: int = 4) -> Tiny:
        asked.append({"name": name, "pretrained": pretrained, "num_classes": num_classes})
        if name not in ("tiny", "bare"):
            raise RuntimeError(f"Unknown model ({name})")
        return Tiny(0 if name == "bare" else num_classes)

    stand_in = SimpleNamespace(create_model=create_model, get_pretrained_cfg=lambda name: SimpleNamespace(classifier="fc"))
    monkeypatch.setitem(sys.modules, "timm", stand_in)
    return asked


def _pictures(count: int, channels: int = 3, edge: int = 10) -> np.ndarray:
    return generator(0, "timm").integers(0, 256, (count, channels, edge, edge), dtype=np.uint8)


def test_layers_are_what_the_model_and_its_classifier_see(made: list[dict[str, object]], tmp_path: Path) -> None:
    """Reference: pictures of 10x10, which a crop of 0.8 leaves as they are but for their border, normalised by hand."""
    model = Tiny(7)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder = encoder_of(f"timm:tiny@{tmp_path / 'w.safetensors'}", (3, 10, 10))
    assert (encoder.layers, encoder.image_shape, default_layer(encoder)) == (
        ("pixels", "features", "logits"),
        (3, 10, 10),
        "features",
    )
    assert dict(encoder.dims) == {"pixels": 192, "features": 5, "logits": 7}
    some = _pictures(40)
    found = encoder.encode(some, encoder.layers)
    levels = torch.from_numpy(some[:, :, 1:9, 1:9]).float() / 255
    x = (levels - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.2, 0.4])[:, None, None]
    torch.testing.assert_close(found["pixels"], x.flatten(1))
    features = model.stem(x).mean(dim=(2, 3))
    torch.testing.assert_close(found["features"], features.detach())
    torch.testing.assert_close(found["logits"], model.fc(features).detach())
    # As many classes as the weights have.
    assert made[-1] == {"name": "tiny", "pretrained": False, "num_classes": 7}


def test_without_weights_a_model_is_random_the_same_each_time_and_says_so(
    made: list[dict[str, object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.random.get_rng_state()
    first, again = source_of("timm:tiny"), source_of("timm:tiny")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.digest == again.digest != source_of("timm:bare").digest
    assert "random weights" in first.name
    import_images(ArraySource(_pictures(12)), tmp_path / "store", workers=1)
    features = encode_store("timm:tiny", ImageStore(tmp_path / "store"), tmp_path / "f.npy", Screen())
    assert "has random weights, features of nothing learned" in capsys.readouterr().err
    assert (features.dim, features.about["layer"]) == (5, "features")


def test_weights_are_fetched_only_where_the_environment_says_so(
    made: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not made and source_of("timm:tiny").warning
    assert made[-1]["pretrained"] is False
    monkeypatch.setenv("STRIATE_TIMM_DOWNLOAD", "1")
    assert source_of("timm:tiny").warning is None
    assert made[-1]["pretrained"] is True


def test_a_model_without_a_classifier_has_no_logits(made: list[dict[str, object]]) -> None:
    assert encoder_of("timm:bare").layers == ("pixels", "features")
    assert encoder_of("timm:bare").image_shape == (3, 8, 8)


def test_a_classifier_is_learned_on_them(
    made: list[dict[str, object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Dark pictures and bright ones, which any features tell apart; by the command, kept where it is told."""
    levels = np.repeat(np.array([40, 200], np.uint8), 12)[:, None, None, None]
    noise = np.random.default_rng(0).integers(0, 40, (24, 3, 16, 16), dtype=np.uint8)
    import_images(ArraySource(levels + noise, np.repeat([0, 1], 12), ["dark", "bright"]), tmp_path / "store", workers=1)
    asked = ["classify", "timm:tiny", str(tmp_path / "store"), "--per-class", "6", "--json"]
    assert main(asked) == 2 and "--to FOLDER" in capsys.readouterr().err
    assert main([*asked, "--to", str(tmp_path / "kept"), "--method", "finetune"]) == 2
    assert "goes on training a run" in capsys.readouterr().err
    assert main([*asked, "--to", str(tmp_path / "kept")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert next(iter(told["methods"].values()))["accuracy"] == 1.0
    assert (tmp_path / "kept" / "classifier-logistic.safetensors").is_file()


def test_grey_and_long_pictures_are_taken(made: list[dict[str, object]]) -> None:
    """Grey is the same in every colour; of a long picture its middle is seen."""
    grey = _pictures(3, 1)
    torch.testing.assert_close(
        encoder_of("timm:tiny", (1, 10, 10)).encode(grey)["logits"],
        encoder_of("timm:tiny", (3, 10, 10)).encode(grey.repeat(3, axis=1))["logits"],
    )
    square = _pictures(3)
    long = np.concatenate([np.zeros((3, 3, 10, 4), np.uint8), square, np.zeros((3, 3, 10, 4), np.uint8)], axis=3)
    torch.testing.assert_close(
        encoder_of("timm:tiny", (3, 10, 18)).encode(long)["logits"],
        encoder_of("timm:tiny", (3, 10, 10)).encode(square)["logits"],
    )


def test_what_is_not_there_is_named(made: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"timm has no model 'huge' that can be had here \(Unknown model"):
        encoder_of("timm:huge")
    with pytest.raises(BadInput, match="holds no weights: expected a safetensors file"):
        encoder_of(f"timm:tiny@{tmp_path / 'none'}")
    save_file({"stem.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="does not hold weights of tiny"):
        encoder_of(f"timm:tiny@{tmp_path / 'other.safetensors'}")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(BadInput, match=r"need the extra `timm` .*pip install 'striate\[timm\]'"):
        encoder_of("timm:tiny")


@pytest.fixture
def timm() -> Iterator[object]:
    try:
        yield import_timm()
    except BadInput as missing:
        pytest.skip(f"timm is not at hand: {missing}")


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100"])
@pytest.mark.parametrize("edge", [64, 300])
def test_pictures_are_prepared_as_timm_prepares_them(timm: object, name: str, edge: int) -> None:
    """Reference: timm's own transform of Pillow's pictures, within two levels; logits follow from them."""
    from PIL import Image
    from timm.data import create_transform, resolve_data_config  # type: ignore[import-not-found]

    encoder = encoder_of(f"timm:{name}", (3, edge, edge))
    smooth = np.kron(_pictures(4, edge=edge // 4), np.ones((4, 4), np.uint8))[:, :, :edge, :edge]
    model = encoder._model  # type: ignore[attr-defined]
    transform = create_transform(**resolve_data_config({}, model=model), is_training=False)
    expected = torch.stack([transform(Image.fromarray(one.transpose(1, 2, 0))) for one in smooth])
    found = encoder.encode(smooth, encoder.layers)
    levels = (found["pixels"].view_as(expected) - expected) * expected.new_tensor(model.pretrained_cfg["std"])[:, None, None]
    assert float(levels.abs().max()) <= 2.01 / 255
    with torch.inference_mode():
        torch.testing.assert_close(found["logits"], model(found["pixels"].view_as(expected)), rtol=1e-4, atol=1e-5)


def test_preparation_follows_the_configuration() -> None:
    """Sizes by hand: 224 / 0.875 = 256; squashed, both sides are; else the longer one follows the shorter."""
    config = {"input_size": (3, 224, 224), "mean": (0,), "std": (1,), "crop_pct": 0.875, "interpolation": "bilinear"}
    tall = torch.zeros(1, 3, 128, 64, dtype=torch.uint8)
    assert Preparation.of(config)._resize(tall).shape[2:] == (512, 256)
    assert Preparation.of({**config, "crop_mode": "squash"})._resize(tall).shape[2:] == (256, 256)
    assert Preparation.of({**config, "interpolation": "random"}).interpolation == "bicubic"
