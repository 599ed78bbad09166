"""Writes this folder: a model's file of every kind, and what it gives of a few pictures. Run once for a version of the format.

    PYTHONPATH=tests python tests/stored/make.py

A folder is never written again: its file is what a Striate of that version left, and later ones must read it. So whoever raises
`FORMAT_VERSION` adds folders of a new name. (version-1 is by make_version_1.py, run with the source of commit d2ed815.)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from small_models import KINDS, pictures
from striate.app.load import load_model
from striate.app.model_files import FORMAT_VERSION

HERE = Path(__file__).parent


def main() -> None:
    for kind, make in KINDS.items():
        folder = HERE / f"version-{FORMAT_VERSION}-{kind}"
        if folder.exists():
            continue
        small = make()
        small.save(folder, kind)
        levels = pictures(small.image_shape)[-6:]
        encoder = load_model(folder).encoder()
        save_file(
            {"pictures": torch.from_numpy(levels), **encoder.encode(levels, encoder.layers)}, folder / "features.safetensors"
        )
        print(folder.name, sum(file.stat().st_size for file in folder.iterdir()))


if __name__ == "__main__":
    main()
