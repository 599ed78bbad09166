"""Tar archives and WebDataset shards: members, companions, classes, and damage that is named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

import hostile
from hostile import encoded, picture
from striate.errors import BadInput
from striate.images import Item, Rejected
from striate.images.sources import open_source


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def png(index: int = 0) -> bytes:
    return encoded(picture(index), "PNG")


def items(path: Path) -> list[Item]:
    return list(open_source(path))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
def test_members_come_back_byte_for_byte_in_their_order(tmp_path: Path, suffix: str) -> None:
    mode = {"tar": "w", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}.get(suffix, "w:gz")
    members = {"b.png": png(1), "a.jpg": encoded(picture(2)), "sub/c.png": png(3)}
    read = items(tar(tmp_path / f"x.{suffix}", members, mode))
    assert [(item.key, item.data) for item in read] == list(members.items())


def test_a_flat_archive_has_no_labels_and_class_folders_label_as_on_disk(tmp_path: Path) -> None:
    flat = items(tar(tmp_path / "flat.tar", {"photos/1.png": png(1), "photos/2.png": png(2)}))
    assert [item.label for item in flat] == [-1, -1]
    assert {item.term for item in flat} == {"photos"}
    classes = open_source(tar(tmp_path / "c.tar", {"train/dog/1.png": png(1), "train/cat/1.png": png(2)}))
    assert classes.class_names == ["cat", "dog"]
    assert [item.label for item in classes] == [1, 0]


def test_webdataset_companions_give_labels_and_terms(tmp_path: Path) -> None:
    shard = tar(
        tmp_path / "shard.tar",
        {
            "000.jpg": encoded(picture(1)),
            "000.cls": b"7\n",
            "001.cls": b"3",
            "001.png": png(2),
            "002.jpg": encoded(picture(3)),
            "002.json": json.dumps({"label": "cat", "search_term": "tabby"}).encode(),
            "003.jpg": encoded(picture(4)),
            "003.txt": b"a sentence",
            "004.jpg": encoded(picture(5)),
            "004.cls": b"-1",
            "005.jpg": encoded(picture(6)),
            "005.json": b"{broken",
        },
    )
    source = open_source(shard)
    read = [(item.key, item.label, item.term) for item in source]
    assert read == [
        ("000.jpg", 7, None),
        ("001.png", 3, None),
        ("002.jpg", 0, "tabby"),
        ("003.jpg", -1, "a sentence"),
        ("004.jpg", -1, None),
        ("005.jpg", -1, None),
    ]
    assert source.class_names == ["cat"]


def test_two_pictures_of_one_sample_are_two_pictures(tmp_path: Path) -> None:
    shard = tar(tmp_path / "s.tar", {"0.left.png": png(1), "0.right.png": png(2), "0.cls": b"4"})
    assert [(item.key, item.label) for item in items(shard)] == [("0.left.png", 4), ("0.right.png", 4)]


def test_a_companion_without_a_picture_is_counted(tmp_path: Path) -> None:
    (lone,) = items(tar(tmp_path / "s.tar", {"0.cls": b"4"}))
    assert lone.key == "0.cls" and str(lone.data) == "no picture beside this member"


@pytest.mark.parametrize("label", [b"99999999999999", json.dumps({"label": [1]}).encode(), json.dumps({"label": 1.5}).encode()])
def test_a_label_that_is_no_class_number_is_a_named_rejection(tmp_path: Path, label: bytes) -> None:
    suffix = "json" if label.startswith(b"{") else "cls"
    (item,) = items(tar(tmp_path / "s.tar", {"0.png": png(), f"0.{suffix}": label}))
    assert isinstance(item.data, Rejected) and "label" in str(item.data)


def test_shards_of_a_folder_are_read_in_order_and_keys_stay_apart(tmp_path: Path) -> None:
    for i in range(3):
        tar(tmp_path / f"shard-{i}.tar", {"0.png": png(i)})
    assert [item.key for item in items(tmp_path)] == [f"shard-{i}.tar/0.png" for i in range(3)]


def test_hidden_members_are_passed_over_and_links_are_counted(tmp_path: Path) -> None:
    assert [item.key for item in items(tar(tmp_path / "h.tar", {"._a.png": b"x", "a.png": png(), ".git/b.png": png()}))] == [
        "a.png"
    ]
    read = items(hostile.escaping_tar(tmp_path))
    assert [item.key for item in read] == ["../../escape.png", "/tmp/striate-escape.png", "link.png"]
    assert "only whole files" in str(read[-1].data)


def test_nothing_is_ever_extracted(tmp_path: Path) -> None:
    items(hostile.escaping_tar(tmp_path))
    assert not (tmp_path.parent.parent / "escape.png").exists() and not Path("/tmp/striate-escape.png").exists()


@pytest.mark.parametrize("damage", [hostile.cut_tar, hostile.broken_header_tar])
def test_members_before_the_damage_are_read_and_the_damage_is_named(tmp_path: Path, damage: object) -> None:
    *good, last = items(damage(tmp_path, good=3))  # type: ignore[operator]
    assert [item.key for item in good] == ["0.png", "1.png", "2.png"]
    assert last.key == "after member 3" and str(last.data).startswith("the archive is damaged here: ")


def test_a_cut_compressed_archive_is_named_too(tmp_path: Path) -> None:
    *good, last = items(hostile.cut_gzip_tar(tmp_path))
    assert len(good) < 20 and all(isinstance(item.data, bytes) for item in good)
    assert "damaged here" in str(last.data)


def test_an_archive_without_its_end_mark_is_named(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"a.png": bytes(512), "b.png": bytes(512)})
    path.write_bytes(path.read_bytes()[:2048])
    assert [item.key for item in items(path)] == ["a.png", "b.png", "after member 2"]


def test_what_is_no_archive_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"words\.tar is no tar archive"):
        items(hostile.no_tar(tmp_path))
