"""`striate encode`: what files hold, resuming after kills, memory, messages."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import encoding
from small_models import KINDS, patches, pictures
from striate import load
from striate.app import draft_rows, overlap
from striate.app.feature_draft import draft_folder
from striate.app.feature_files import key_line, key_of
from striate.app.features import default_layer, encode_store, encoder_of, kept_features, read_features
from striate.app.screen import Screen
from striate.draws import generator
from striate.errors import BadInput
from striate.images import ArraySource, ImageStore, import_images
from training import clean_server, striate

SUFFIXES = (".parquet", ".npy", ".safetensors")
QUIET = Screen(quiet=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patch model: 48 features of pictures 3x10x9."""
    folder = tmp_path_factory.mktemp("models") / "patches"
    patches().save(folder, "patches")
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    path = tmp_path_factory.mktemp("stores") / "some"
    import_images(ArraySource(pictures((3, 10, 9), 300)), path, workers=1)
    return ImageStore(path)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of several blocks."""
    path = tmp_path_factory.mktemp("stores") / "many"
    noise = generator(0, "many").integers(0, 256, (9000, 3, 10, 9), dtype=np.uint8)
    import_images(ArraySource(noise), path, workers=1)
    return path


@pytest.fixture
def in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block is in its file before the next is begun: on a slow disk all others might be encoded before a save is seen."""
    monkeypatch.setattr(overlap, "_BEHIND", 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_holds_what_the_model_says_of_each_picture_under_its_key(
    run: Path, store: ImageStore, tmp_path: Path, suffix: str
) -> None:
    """Reference: the model itself, asked for one picture at a time."""
    features = encode_store(run, store, tmp_path / f"f{suffix}", QUIET)
    assert (len(features), features.dim, features.keys) == (len(store), 48, store.keys)
    encoder = load(run)
    for position in (0, 7, len(store) - 1):
        alone = encoder.encode(store[position : position + 1])["hidden1"].numpy()
        np.testing.assert_allclose(features.rows(position, position + 1), alone, rtol=1e-5, atol=1e-6)
    everything = features.rows(0, len(store))
    order = np.array([5, 299, 0, 5])
    np.testing.assert_array_equal(features.take(order), everything[order])
    assert everything.dtype == np.float32
    assert features.about["model"] == read_features(tmp_path / f"f{suffix}").about["model"]
    assert (features.about["layer"], features.about["store"]) == ("hidden1", store.digest)
    for wrong in (-1, len(store)):
        with pytest.raises(IndexError):
            features.take(np.array([wrong]))


def test_other_programs_read_the_same_numbers_from_every_format(run: Path, store: ImageStore, tmp_path: Path) -> None:
    """Reference: pyarrow, numpy and safetensors by themselves."""
    files = {suffix: encode_store(run, store, tmp_path / f"f{suffix}", QUIET).path for suffix in SUFFIXES}
    table = pq.read_table(files[".parquet"])
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float not null>[48]"
    assert json.loads(table.schema.metadata[b"striate"])["layer"] == "hidden1"
    rows = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(np.load(files[".npy"]), rows)
    tensors = load_file(files[".safetensors"])
    np.testing.assert_array_equal(tensors["embedding"], rows)
    ends = tensors["key_ends"].tolist()
    text = tensors["keys"].tobytes()
    keys = [text[start:end].decode() for start, end in zip([0, *ends], ends)]
    assert keys == table["key"].to_pylist() == (tmp_path / "f.keys.txt").read_text().splitlines() == store.keys


def test_files_that_do_not_say_that_nothing_is_missing_are_read(run: Path, store: ImageStore, tmp_path: Path) -> None:
    """As earlier versions wrote them; columns of other types are refused."""
    features = encode_store(run, store, tmp_path / "f.parquet", QUIET)
    table = pq.read_table(features.path)
    loose = pa.list_(pa.field("element", pa.float32()), 48)
    fields = [pa.field("key", pa.string()), pa.field("embedding", loose)]
    pq.write_table(table.cast(pa.schema(fields, metadata=table.schema.metadata)), tmp_path / "old.parquet")
    old = read_features(tmp_path / "old.parquet")
    np.testing.assert_array_equal(old.rows(0, 300), features.rows(0, 300))
    fields[1] = pa.field("embedding", pa.list_(pa.float64(), 48))
    pq.write_table(table.cast(pa.schema(fields, metadata=table.schema.metadata)), tmp_path / "other.parquet")
    with pytest.raises(BadInput, match="damaged"):
        read_features(tmp_path / "other.parquet")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_half_precision_is_each_number_rounded_and_can_be_mapped(
    run: Path, store: ImageStore, tmp_path: Path, suffix: str
) -> None:
    whole = encode_store(run, store, tmp_path / f"whole{suffix}", QUIET)
    half = encode_store(run, store, tmp_path / f"half{suffix}", QUIET, half=True)
    assert half.array is not None and half.array.dtype == np.float16
    np.testing.assert_array_equal(half.array, whole.rows(0, len(store)).astype(np.float16))
    np.testing.assert_array_equal(half.rows(3, 5), half.array[3:5].astype(np.float32))


def test_kinds_of_models_and_every_layer_of_theirs_are_encoded_as_they_encode(tmp_path: Path) -> None:
    """Reference: the encoder's own answer to all pictures at once."""
    for kind, make in KINDS.items():
        model = make()
        model.save(tmp_path / kind, kind)
        import_images(ArraySource(pictures(model.image_shape)), tmp_path / f"{kind}-store", workers=1)
        store, encoder = ImageStore(tmp_path / f"{kind}-store"), encoder_of(tmp_path / kind)
        expected = encoder.encode(store[:], encoder.layers)
        for layer in encoder.layers:
            found = encode_store(tmp_path / kind, store, tmp_path / f"{kind}-{layer}.npy", QUIET, layer=layer)
            np.testing.assert_array_equal(found.rows(0, len(store)), expected[layer].numpy(), err_msg=f"{kind} {layer}")
        assert default_layer(encoder) == [layer for layer in encoder.layers if layer != "logits"][-1]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_encoding_killed_anywhere_goes_on_to_the_same_bytes(run: Path, many: Path, tmp_path: Path, suffix: str) -> None:
    """Killed at random moments, of a real process; the same command then ends in what an uninterrupted one wrote."""
    whole, out = tmp_path / f"whole{suffix}", tmp_path / "killed" / f"whole{suffix}"
    encode_store(run, ImageStore(many), whole, QUIET)
    # The early ones first, which are too early for a fast machine to be done.
    moments = np.sort(generator(0, f"kills {suffix}").uniform(0.0, 0.25, 12))
    kills = sum(encoding.killed_after(run, many, out, float(moment)) for moment in moments if not out.exists())
    assert kills > 0
    # Once more, if the last one was killed too: be it when only tidying up was left.
    if not out.exists() or draft_folder(out).exists():
        encode_store(run, ImageStore(many), out, QUIET)
    assert out.read_bytes() == whole.read_bytes()
    assert not [file.name for file in out.parent.iterdir() if file.name.startswith(".")]
    if suffix == ".npy":
        for twin in ("whole.keys.txt", "whole.about.json"):
            assert (out.parent / twin).read_bytes() == (tmp_path / twin).read_bytes()


def test_killed_with_all_but_the_tidying_done_it_ends_well_and_replaces_nothing_else(
    run: Path, store: ImageStore, tmp_path: Path
) -> None:
    """The file is there and so is a draft: of these very features, or of others, or one that is being written."""
    out, left = tmp_path / "f.npy", tmp_path / ".f.npy.draft"
    before = encode_store(run, store, out, QUIET).rows(0, 300)
    left.mkdir()
    (left / "rows").write_bytes(b"some")
    with pytest.raises(BadInput, match="is there already"):
        encode_store(run, store, out, QUIET, layer="pixels")
    with (left / "rows").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BadInput, match="another process is writing"):
            encode_store(run, store, out, QUIET)
    assert left.exists()
    for emptied in (False, True):
        left.mkdir(exist_ok=True)
        assert emptied != (left / "rows").exists()
        np.testing.assert_array_equal(encode_store(run, store, out, QUIET).rows(0, 300), before)
        assert not left.exists()


@pytest.mark.usefixtures("in_step")
def test_what_was_encoded_before_a_kill_is_not_encoded_again(run: Path, many: Path, tmp_path: Path) -> None:
    """A draft with rows that no model gave: those known to be safe are in the file, the others are not."""
    out, store = tmp_path / "f.npy", ImageStore(many)

    def stop() -> None:
        if (tmp_path / ".f.npy.draft/state.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_store(run, store, out, Screen(quiet=True, check=stop), save_every_s=0)
    rows, state = tmp_path / ".f.npy.draft/rows", json.loads((tmp_path / ".f.npy.draft/state.json").read_text())
    assert 0 < state["rows"] < len(store)
    with rows.open("r+b") as file:
        file.seek(128)
        file.write(np.full(48, 7, np.float32).tobytes())
        file.seek(0, 2)
        file.write(b"cut off")
    features = encode_store(run, store, out, QUIET)
    assert (features.rows(0, 1) == 7).all()
    whole = encode_store(run, store, tmp_path / "whole.npy", QUIET)
    np.testing.assert_array_equal(features.rows(1, 9000), whole.rows(1, 9000))
    np.testing.assert_allclose(whole.rows(0, 9000), load(run).encode(store[:])["hidden1"].numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("in_step")
def test_rows_of_an_unfinished_row_group_are_not_encoded_again(run: Path, many: Path, tmp_path: Path) -> None:
    """Parquet: they wait in a file of their own. Those there that no model gave are kept; without it all is begun anew."""
    out, store = tmp_path / "f.parquet", ImageStore(many)
    draft = tmp_path / ".f.parquet.draft"

    def stop() -> None:
        if (draft / "state.json").exists():
            raise KeyboardInterrupt

    whole = encode_store(run, store, tmp_path / "whole.npy", QUIET).rows(0, 9000)
    for kept in (True, False):
        with pytest.raises(KeyboardInterrupt):
            encode_store(run, store, out, Screen(quiet=True, check=stop), save_every_s=0)
        (rest,) = draft.glob("rest-*")
        waiting = int(rest.name.partition("-")[2])
        assert 0 < waiting < len(store)
        rest.unlink()
        if kept:
            rest.write_bytes(np.full((waiting, 48), 7, np.float32).tobytes())
        features = encode_store(run, store, out, QUIET, overwrite=True)
        assert (features.rows(0, waiting) == 7).all() == kept
        np.testing.assert_array_equal(features.rows(waiting, 9000), whole[waiting:])
        out.unlink()


@pytest.mark.usefixtures("in_step")
@pytest.mark.parametrize("group", [256, 4096])
def test_parquet_stopped_after_every_save_comes_to_the_same_bytes(
    run: Path, many: Path, tmp_path: Path, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups smaller than a block of pictures and larger: a new writer goes on after those that others have written."""
    monkeypatch.setattr(draft_rows, "_GROUP_ROWS", group)
    whole, out, store = tmp_path / "whole.parquet", tmp_path / "f.parquet", ImageStore(many)
    encode_store(run, store, whole, QUIET)
    assert pq.ParquetFile(whole).num_row_groups == -(-9000 // group)
    state, stops = tmp_path / ".f.parquet.draft/state.json", []

    def saved() -> int:
        return int(json.loads(state.read_text())["rows"]) if state.exists() else 0

    def stop() -> None:
        if saved() > before:
            raise KeyboardInterrupt

    while not out.exists():
        before = saved()
        try:
            encode_store(run, store, out, Screen(quiet=True, check=stop), save_every_s=0)
        except KeyboardInterrupt:
            stops.append(before)
    assert len(stops) > 3
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("in_step")
@pytest.mark.parametrize(("suffix", "cut"), [(".npy", "rows"), (".parquet", "rows"), (".parquet", "rest-*")])
def test_a_draft_that_is_shorter_than_it_says_is_begun_anew(
    run: Path, many: Path, tmp_path: Path, suffix: str, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut on a disk that does not keep its word: half of a file of the draft is gone."""
    monkeypatch.setattr(draft_rows, "_GROUP_ROWS", 4096)
    out, store = tmp_path / f"f{suffix}", ImageStore(many)
    draft = tmp_path / f".f{suffix}.draft"

    def stop() -> None:
        rows = json.loads((draft / "state.json").read_text())["rows"] if (draft / "state.json").exists() else 0
        # Parquet: past its first row group.
        if rows > 4096:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_store(run, store, out, Screen(quiet=True, check=stop), save_every_s=0)
    (file,) = draft.glob(cut)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    features = encode_store(run, store, out, QUIET)
    whole = encode_store(run, store, tmp_path / "whole.npy", QUIET)
    np.testing.assert_array_equal(features.rows(0, 9000), whole.rows(0, 9000))


@pytest.mark.usefixtures("in_step")
@pytest.mark.parametrize("change", ["layer", "store", "state"])
def test_a_draft_of_anything_else_is_begun_anew(run: Path, many: Path, store: ImageStore, tmp_path: Path, change: str) -> None:
    out = tmp_path / "f.npy"

    def stop() -> None:
        if (tmp_path / ".f.npy.draft/state.json").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_store(run, ImageStore(many), out, Screen(quiet=True, check=stop), save_every_s=0)
    if change == "state":
        (tmp_path / ".f.npy.draft/state.json").write_text("{")
    given = store if change == "store" else ImageStore(many)
    layer = "pixels" if change == "layer" else "hidden1"
    features = encode_store(run, given, out, QUIET, layer=layer)
    whole = encode_store(run, given, tmp_path / "whole.npy", QUIET, layer=layer)
    np.testing.assert_array_equal(features.rows(0, 9000), whole.rows(0, 9000))


@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
def test_memory_does_not_grow_with_the_store(run: Path, large: ImageStore, tmp_path: Path, suffix: str) -> None:
    """69 MB of features are written by a process that may have 48 MB more than it had before: held all at once, they fail."""
    out, said = tmp_path / f"large{suffix}", tmp_path / "said"
    process = clean_server().Process(target=encoding.with_little_memory, args=(run, large.path, out, 48 << 20, said))
    process.start()
    process.join()
    assert process.exitcode == 0, said.read_text()
    features = read_features(out)
    assert (len(features), features.dim) == (len(large), 270)
    np.testing.assert_allclose(features.rows(63_999, 64_000), large[63_999:].reshape(1, -1) - np.float32(127.5))


@pytest.fixture(scope="module")
def large(many: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    path, some = tmp_path_factory.mktemp("stores") / "large", ImageStore(many)[:8000]
    import_images(ArraySource(np.concatenate([_numbered(some, number) for number in range(8)])), path, workers=1)
    return ImageStore(path)


def _numbered(images: np.ndarray, number: int) -> np.ndarray:
    """Copies that differ in a pixel: equal pictures are kept but once."""
    copies = images.copy()
    copies[:, 0, 0, 0] = number
    return copies


def test_kept_features_are_encoded_once_for_a_model_a_layer_and_a_store(run: Path, tmp_path: Path) -> None:
    """A second call takes the file, as a mark in it shows; another layer or model gets a file of its own."""
    import_images(ArraySource(pictures((3, 10, 9), 30)), tmp_path / "store", workers=1)
    store = ImageStore(tmp_path / "store")
    first = kept_features(run, store, None, QUIET)
    assert first.array is not None and first.array.dtype == np.float16
    marked = np.load(first.path, mmap_mode="r+")
    marked[3] = 5
    marked.flush()
    again = kept_features(run, ImageStore(tmp_path / "store"), "hidden1", QUIET)
    assert again.path == first.path and (again.rows(3, 4) == 5).all()
    assert kept_features(run, store, "pixels", QUIET).path != first.path
    other = patches()
    other.parts.rbms[0].weights.mul_(2)
    other.save(tmp_path / "other", "other")
    assert kept_features(tmp_path / "other", store, None, QUIET).path != first.path
    whole, rows = first.path.read_bytes(), again.rows(4, 30)
    first.path.unlink()
    first.path.write_bytes(whole[:500])
    np.testing.assert_array_equal(kept_features(run, store, None, QUIET).rows(4, 30), rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_is_named_and_nothing_is_lost(run: Path, many: Path, tmp_path: Path, suffix: str) -> None:
    """No file may grow beyond 600 kB, as on a full disk; with room, the same call then ends well."""
    out, message = tmp_path / f"f{suffix}", tmp_path / "said"
    process = clean_server().Process(target=encoding.limited, args=(run, many, out, 600_000, message))
    process.start()
    process.join()
    assert f"the disk is full while writing {out}" in message.read_text()
    assert not out.exists()
    features = encode_store(run, ImageStore(many), out, QUIET)
    whole = encode_store(run, ImageStore(many), tmp_path / "whole.npy", QUIET)
    np.testing.assert_array_equal(features.rows(0, 9000), whole.rows(0, 9000))


def test_the_command_says_what_is_in_the_file_and_replaces_none_unasked(run: Path, store: ImageStore, tmp_path: Path) -> None:
    out = tmp_path / "new" / "f.parquet"
    done = striate("encode", run, store.path, "-o", out, "--layer", "pixels", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    told = {name: result[name] for name in ("count", "dim", "layer", "dtype", "out")}
    assert told == {"count": 300, "dim": 270, "layer": "pixels", "dtype": "float32", "out": str(out)}
    before = out.read_bytes()
    refused = striate("encode", run, store.path, "-o", out)
    assert refused.returncode == 2 and "is there already" in refused.stderr and out.read_bytes() == before
    replaced = striate("encode", run, store.path, "-o", out, "--overwrite")
    assert replaced.returncode == 0 and read_features(out).about["layer"] == "hidden1"
    assert "300 pictures x 48 features of hidden1 (patches)" in replaced.stdout
    assert f"next: striate search {run} {store.path}" in replaced.stdout


def test_what_cannot_be_encoded_is_told_with_what_to_do(run: Path, store: ImageStore, tmp_path: Path) -> None:
    sized = tmp_path / "sized"
    import_images(ArraySource(generator(0, "sized").integers(0, 256, (4, 1, 12, 12), dtype=np.uint8)), sized, workers=1)
    KINDS["gaussian"]().save(tmp_path / "whole", "whole")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "run.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.png").write_bytes(b"no picture")
    import_images(tmp_path / "broken", tmp_path / "empty", size=(10, 9), workers=1)
    out = tmp_path / "f.parquet"
    cases = [
        ((tmp_path / "whole", sized, out), "takes pictures of 4x4 RGB", "holds 12x12 grey", "--size 4"),
        ((tmp_path / "training", store.path, out), "it has not saved a model yet"),
        ((run, tmp_path / "folder", out), "no image store", f"striate import {tmp_path / 'folder'} pictures --size 10x9"),
        ((run, tmp_path / "nowhere", out), "no image store"),
        ((run, tmp_path / "empty", out), "holds no pictures"),
        ((run, store.path, tmp_path / "f.csv"), "names no format", ".parquet, .npy, .safetensors"),
        ((run, store.path, out, "--layer", "hiden1"), "no layer 'hiden1': did you mean hidden1?"),
        ((run, store.path, out, "--half"), "Parquet holds float32"),
        ((run, store.path, out, "--device", "abacus"), "device 'abacus' is unknown"),
        ((run, store.path, tmp_path / "training" / "run.json" / "f.npy"), "cannot be written"),
    ]
    for (source, pictures_at, to, *options), *said in cases:
        done = striate("encode", source, pictures_at, "-o", to, *options)
        assert done.returncode == 2, (said, done)
        assert all(one in done.stderr for one in said), (said, done.stderr)
        assert done.stderr.count("\n") == 1
    assert not out.exists() and not list(tmp_path.glob(".f.*"))


def test_two_processes_do_not_write_one_file(run: Path, many: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.npy"

    def another() -> None:
        if (tmp_path / ".f.npy.draft/rows").exists():
            with pytest.raises(BadInput, match="another process is writing"):
                encode_store(run, ImageStore(many), out, QUIET)
            seen.append(True)

    seen: list[bool] = []
    encode_store(run, ImageStore(many), out, Screen(quiet=True, check=another))
    assert seen and len(read_features(out)) == 9000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_files_and_those_of_another_version_are_refused(
    run: Path, store: ImageStore, tmp_path: Path, suffix: str
) -> None:
    """Cut at many lengths; of another version; another program's file of that name."""
    file = encode_store(run, store, tmp_path / f"f{suffix}", QUIET).path
    whole = file.read_bytes()
    for length in [*range(0, 200, 17), len(whole) // 2, len(whole) - 9]:
        file.write_bytes(whole[:length])
        with pytest.raises(BadInput, match="damaged"):
            read_features(file)
    told = tmp_path / "f.about.json" if suffix == ".npy" else file
    file.write_bytes(whole)
    text = told.read_bytes()
    quoted = text.replace(b'"version": 1', b'"version": 9').replace(b'\\"version\\": 1', b'\\"version\\": 9')
    assert quoted != text
    told.write_bytes(quoted)
    with pytest.raises(BadInput, match="of version 9, this Striate reads version 1"):
        read_features(file)
    with pytest.raises(BadInput, match="there is no features file"):
        read_features(tmp_path / f"none{suffix}")
    with pytest.raises(BadInput, match="no features file: expected a name"):
        read_features(tmp_path / "f.csv")


@pytest.mark.parametrize("key", ["a/b.jpg", "two\nlines", "back\\slash", "back\\nslash", "end\\", "\r\n\\\\n", ""])
def test_keys_come_back_from_lines(key: str) -> None:
    assert key_of(key_line(key)) == key
    assert not {"\n", "\r"} & set(key_line(key))
