"""Videos made here by PyAV: which frames are kept, and what becomes of a damaged file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from striate.images import import_images
from striate.images.sources import SourceOptions, open_source

av = pytest.importorskip("av")


def video(path: Path, frames: int = 12) -> Path:
    """Grey frames, each 20 levels above the one before: a frame tells its number."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            levels = np.full((48, 64, 3), 15 + 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(levels, format="rgb24")))
        container.mux(stream.encode())
    return path


def numbers(path: Path, every: int) -> list[int]:
    return [round((float(np.mean(item.data)) - 15) / 20) for item in open_source(path, SourceOptions(every=every))]


def test_every_nth_frame_is_kept_from_the_first(tmp_path: Path) -> None:
    path = video(tmp_path / "v.mp4")
    assert numbers(path, 1) == list(range(12))
    assert numbers(path, 5) == [0, 5, 10]
    assert [item.key for item in open_source(path, SourceOptions(every=5))] == [f"v.mp4/{i:08d}" for i in (0, 5, 10)]


def test_zero_takes_the_middle_frame_of_each_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mkv"):
        video(tmp_path / name)
    assert numbers(tmp_path, 0) == [6, 6]
    assert [item.term for item in open_source(tmp_path, SourceOptions(every=0))] == ["a", "b"]


def test_frames_become_pictures_of_the_store(tmp_path: Path) -> None:
    counts = import_images(video(tmp_path / "v.mp4"), tmp_path / "s", size=16, every=4)
    assert (counts.seen, counts.kept) == (3, 3)


def test_a_damaged_video_is_a_named_rejection(tmp_path: Path) -> None:
    (tmp_path / "words.mp4").write_bytes(b"no video" * 100)
    for every in (0, 3):
        (item,) = open_source(tmp_path / "words.mp4", SourceOptions(every=every))
        assert item.key.startswith("words.mp4") and str(item.data).startswith("damaged video")
