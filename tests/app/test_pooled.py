"""Import, statistics, de-duplication, encoding by Ray's workers: the very bytes of one machine, even if workers are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import crews
import errands
import hostile
from hostile import encoded, picture
from small_models import patches, pictures
from striate.app.duplicates import find_duplicates, set_aside
from striate.app.features import encode_store
from striate.app.pooled import pooled
from striate.app.screen import Screen
from striate.cluster.pool import Pool
from striate.draws import generator
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images
from striate.images.work import Each, one_by_one
from striate.measure.duplicates.calibration import saved_again
from striate.preprocess import PreprocessSettings, fitted

QUIET = Screen(quiet=True)
# One, two and three workers; and two of which several are killed on the way.
HANDS: dict[str, Callable[[ModuleType, Path], Each]] = {
    "1": lambda ray, folder: Pool(ray, 1, torch.get_num_threads()),
    "2": lambda ray, folder: Pool(ray, 2, torch.get_num_threads()),
    "3": lambda ray, folder: Pool(ray, 3, torch.get_num_threads()),
    "killed": lambda ray, folder: errands.mortal(Pool(ray, 2, torch.get_num_threads()), folder / "deaths", {1: 1}),
}


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """One engine for all."""
    with crews.engine() as connected:
        yield connected


@pytest.fixture(params=HANDS)
def each(ray: ModuleType, request: pytest.FixtureRequest, tmp_path: Path) -> Each:
    """Workers."""
    return HANDS[request.param](ray, tmp_path)


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, copies among them, in several chunks."""
    folder = tmp_path_factory.mktemp("source")
    hostile.hostile_folder(folder)
    for i in range(400):
        (folder / f"{i:04d}.png").write_bytes(encoded(picture(i - 9 if i % 10 == 9 else i, (24, 20)), "PNG"))
    return folder


@pytest.fixture(scope="module")
def imported(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By this process alone."""
    path = tmp_path_factory.mktemp("imported") / "s"
    import_images(source, path, size=16, workers=1)
    return path


def test_an_import_is_the_same_store_to_the_last_byte(source: Path, imported: Path, each: Each, tmp_path: Path) -> None:
    counts = import_images(source, tmp_path / "s", size=16, each=each)
    assert files(tmp_path / "s") == files(imported)
    assert counts.rejected > 3 and counts.duplicates >= 40 and counts.kept > 300


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several blocks of every kind, no two alike but for those that were saved again."""
    coarse = generator(0, "pooled").integers(0, 256, (4400, 3, 5, 3), dtype=np.uint8)
    made = coarse.repeat(2, axis=2).repeat(3, axis=3)
    again = np.stack([saved_again(one, 90) for one in made[:60]])
    path = tmp_path_factory.mktemp("stores") / "s"
    import_images(ArraySource(np.concatenate([made, again])), path, workers=1)
    return path


KINDS = (
    PreprocessSettings("whiten", epsilon=1.0),
    PreprocessSettings("standardise", contrast=True),
    PreprocessSettings("mean"),
)


def test_statistics_are_the_same_to_the_last_bit(store: Path, each: Each) -> None:
    """Levels, contrast-normalised rows, sums of pixels and colours; in five stretches."""
    for settings in KINDS:
        there, here = (fitted(ImageStore(store), settings, hands, 1000).state() for hands in (each, one_by_one))
        assert there.keys() == here.keys()
        assert all(torch.equal(tensor, here[name]) for name, tensor in there.items()), settings


@pytest.fixture(scope="module")
def aside(store: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What one machine sets aside."""
    return set_aside_by(store, one_by_one, tmp_path_factory.mktemp("alone") / "s")


def set_aside_by(store: Path, each: Each, copy: Path) -> bytes:
    shutil.copytree(store, copy)
    # The store's path is among the settings that are written down.
    here = Path.cwd()
    os.chdir(copy.parent)
    try:
        found = find_duplicates([ImageStore(copy.name)], QUIET, device="cpu", mirrored=True, each=each)
        assert set_aside(found) >= 50
    finally:
        os.chdir(here)
    return (copy / "aside" / "duplicates.parquet").read_bytes()


def test_the_same_near_duplicates_are_set_aside(store: Path, aside: bytes, each: Each, tmp_path: Path) -> None:
    """Groups, which of each is kept, and distances."""
    assert set_aside_by(store, each, tmp_path / "s") == aside


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a patch model."""
    patches().save(folder := tmp_path_factory.mktemp("model"), "patches")
    return folder / "encoder.safetensors"


@pytest.fixture(scope="module")
def features(run: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """By this process alone."""
    return encode_store(run, ImageStore(store), tmp_path_factory.mktemp("features") / "f.npy", QUIET).path.read_bytes()


def test_features_are_the_same_file_to_the_last_byte(
    run: Path, store: Path, features: bytes, each: Each, tmp_path: Path
) -> None:
    encode_store(run, ImageStore(store), tmp_path / "f.npy", QUIET, each=each)
    assert (tmp_path / "f.npy").read_bytes() == features


def test_encoding_goes_on_where_a_driver_was_stopped(
    ray: ModuleType, run: Path, store: Path, features: bytes, tmp_path: Path
) -> None:
    """Begun by workers and stopped, ended by this process: one file in the end."""

    def stopped(work: Callable[[int], np.ndarray], items: range, otherwise: object = None) -> Iterator[tuple[int, np.ndarray]]:
        for number, done in enumerate(Pool(ray, 2, torch.get_num_threads())(work, items)):
            if number == 2:
                raise KeyboardInterrupt
            yield done

    with pytest.raises(KeyboardInterrupt):
        encode_store(run, ImageStore(store), tmp_path / "f.npy", QUIET, save_every_s=0, each=stopped)  # type: ignore[arg-type]
    assert (tmp_path / ".f.npy.draft").exists()
    encode_store(run, ImageStore(store), tmp_path / "f.npy", QUIET)
    assert (tmp_path / "f.npy").read_bytes() == features


def test_a_worker_that_sees_another_store_says_so(ray: ModuleType, store: Path, tmp_path: Path) -> None:
    """The store is moved once the driver has opened it, as it would be elsewhere on another machine."""
    shutil.copytree(store, tmp_path / "s")
    opened = ImageStore(tmp_path / "s")
    assert opened.digest
    (tmp_path / "s").rename(tmp_path / "moved")
    with pytest.raises(BadInput, match=r"does not see the store that it is to work on \(.*no store.json.*same path"):
        fitted(opened, PreprocessSettings("mean"), Pool(ray, 1))
    import_images(ArraySource(pictures((3, 10, 9), 50)), tmp_path / "s", workers=1)
    with pytest.raises(BadInput, match=r"sees another store at .*the same pictures at the same path"):
        fitted(opened, PreprocessSettings("mean"), Pool(ray, 1))


@pytest.mark.science
def test_a_killed_driver_s_import_goes_on_to_the_same_bytes(
    ray: ModuleType, source: Path, imported: Path, tmp_path: Path
) -> None:
    """The command itself, on a cluster that was there before it; killed as soon as something is on the disk."""
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "striate", "import", str(source), "s", "--size", "16", "--address", address]
    process = subprocess.Popen([*command, "--workers", "1"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not (tmp_path / "s" / "store.json").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert files(tmp_path / "s") == files(imported)


@pytest.mark.parametrize(
    ("address", "workers", "said"),
    [(None, 2, "--workers are those of a Ray cluster: give --address"), ("local", 0, "--workers must be at least 1, found 0")],
)
def test_options_that_say_nothing_are_refused(address: str | None, workers: int, said: str) -> None:
    with pytest.raises(BadInput, match=said), pooled(address, workers):
        pass
