"""What pages import beside plain folders, made of the same pictures: `~/data` holds a collection of each format; and `~/found`.

Layouts are the originals', sizes are small. `~/found` is what searches for three things might have brought: among what was
looked for are copies that were saved again and pages that are mostly white.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

TERMS = ("boat", "cargo ship", "cat")
FOUND, COPIES, WHITE = 40, 3, 1
FRAMES = 60


def make_material(home: Path) -> None:
    """Write both folders; the home must hold `sorted` already."""
    train, test = (_read(home / "sorted" / part) for part in ("train", "test"))
    data = home / "data"
    data.mkdir()
    _cifar(data / "cifar-10-binary.tar.gz", train, test)
    _idx(data / "mnist", *test)
    _webdataset(data / "shards", home / "sorted" / "test")
    _parquet(data / "parquet", home / "sorted" / "test")
    np.savez(data / "arrays.npz", x_train=test[0], y_train=test[1])
    # Each plane column by column, as MATLAB wrote them.
    (data / "tiny_images.bin").write_bytes(test[0].transpose(0, 3, 2, 1).tobytes())
    _table(data / "table", home / "sorted" / "test")
    _validation(data, home / "sorted" / "test")
    _video(data / "clips", test[0])
    _found(home / "found", home / "sorted" / "train")


def _files(folder: Path) -> list[tuple[int, str, Path]]:
    classes = sorted(folder.iterdir())
    return [(label, one.name, file) for label, one in enumerate(classes) for file in sorted(one.iterdir())]


def _read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Levels (n, 32, 32, 3) and labels, in an order without runs of a class."""
    files = _files(folder)
    levels = np.stack([np.asarray(Image.open(file).resize((32, 32))) for _, _, file in files])
    labels = np.array([label for label, _, _ in files])
    order = np.random.default_rng(0).permutation(len(files))
    return levels[order], labels[order]


def _cifar(archive: Path, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> None:
    names = "".join(f"{name}\n" for name in ("first", "second", "third", "fourth", "fifth", "sixth", "seventh"))
    batches = {f"data_batch_{at + 1}.bin": (train[0][at::5], train[1][at::5]) for at in range(5)}
    with tarfile.open(archive, "w:gz") as file:
        for name, (levels, labels) in {**batches, "test_batch.bin": test}.items():
            planes = levels.transpose(0, 3, 1, 2).reshape(len(levels), -1)
            rows = np.concatenate([labels.astype(np.uint8)[:, None], planes], axis=1)
            _add(file, f"cifar-10-batches-bin/{name}", rows.tobytes())
        _add(file, "cifar-10-batches-bin/batches.meta.txt", names.encode())


def _add(file: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    file.addfile(member, io.BytesIO(content))


def _idx(folder: Path, levels: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir()
    grey = levels.mean(-1).astype(np.uint8)[:, 2:30, 2:30]
    for name, array in (("train-images-idx3-ubyte", grey), ("train-labels-idx1-ubyte", labels.astype(np.uint8))):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(head + array.tobytes()))


def _webdataset(folder: Path, pictures: Path) -> None:
    folder.mkdir()
    files = _files(pictures)
    for shard in range(2):
        with tarfile.open(folder / f"{shard:06d}.tar", "w") as tar:
            for number, (label, name, file) in list(enumerate(files))[shard::2]:
                _add(tar, f"{number:05d}.jpg", file.read_bytes())
                _add(tar, f"{number:05d}.json", json.dumps({"label": label, "term": name}).encode())


def _parquet(folder: Path, pictures: Path) -> None:
    folder.mkdir()
    files = _files(pictures)
    image = [{"bytes": file.read_bytes(), "path": file.name} for _, _, file in files]
    table = pa.table({"image": image, "label": [label for label, _, _ in files]})
    names = sorted({name for _, name, _ in files})
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    about = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": about}), folder / "test-00000-of-00001.parquet")


def _table(folder: Path, pictures: Path) -> None:
    folder.mkdir()
    lines = ["file_name,label"]
    for number, (_, name, file) in enumerate(_files(pictures)):
        shutil.copyfile(file, folder / f"{number:03d}.jpg")
        lines.append(f"{number:03d}.jpg,{name}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def _validation(data: Path, pictures: Path) -> None:
    """Pictures by number in one folder, and a development kit that knows their classes."""
    from scipy.io import savemat

    (data / "ILSVRC2012_val").mkdir()
    kit = data / "devkit" / "data"
    kit.mkdir(parents=True)
    files = _files(pictures)[::2]
    for number, (_, _, file) in enumerate(files, 1):
        shutil.copyfile(file, data / "ILSVRC2012_val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    classes = {label: name for label, name, _ in files}
    # A kit's numbers are in no order of its classes' names.
    rows = [(len(classes) - label, name, name, 0) for label, name in classes.items()]
    savemat(kit / "meta.mat", {"synsets": np.array(rows, dtype=fields)})
    truth = "".join(f"{len(classes) - label}\n" for label, _, _ in files)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


def _video(folder: Path, levels: np.ndarray) -> None:
    """Two clips of a second each; each frame is another picture."""
    import av

    folder.mkdir()
    for number in range(2):
        with av.open(str(folder / f"clip{number}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            stream.bit_rate = 4_000_000
            for picture in levels[number * FRAMES :][:FRAMES]:
                frame = np.ascontiguousarray(picture.repeat(2, 0).repeat(2, 1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())


def _found(folder: Path, pictures: Path) -> None:
    for place, (term, classes) in enumerate(zip(TERMS, sorted(pictures.iterdir()))):
        (folder / term).mkdir(parents=True)
        files = sorted(classes.iterdir())[:FOUND]
        for file in files:
            shutil.copyfile(file, folder / term / file.name)
        for file in files[:COPIES]:
            Image.open(file).save(folder / term / f"again-{file.name}", quality=70)
        for number in range(WHITE):
            page = Image.new("RGB", (64, 64), "white")
            page.paste((30, 30, 30), (4 + 16 * place, 4 + 8 * number, 12 + 16 * place, 8 + 8 * number))
            page.save(folder / term / f"page-{number}.png")
