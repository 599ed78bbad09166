"""Wrote version-1, with the source of commit d2ed815 (`git archive d2ed815 | tar x -C OLD`), the first that had models' files.

PYTHONPATH=OLD/src python tests/stored/make_version_1.py
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from striate.app.load import load, save_model
from striate.draws import Draws
from striate.models.rbm import RBM, Gaussian
from striate.preprocess import Preprocessor
from striate.preprocess.preprocessor import PreprocessSettings

folder = Path(__file__).parent / "version-1"
folder.mkdir()
pictures = np.random.default_rng(0).integers(0, 256, (200, 3, 7, 8), dtype=np.uint8)
windows = np.lib.stride_tricks.sliding_window_view(pictures, (4, 4), axis=(2, 3))
cut = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 3, 4, 4)
preprocessor = Preprocessor.fit([cut], PreprocessSettings(kind="whiten", epsilon=1.0, patch=4))
draws = Draws(0)
weights, biases = draws.normal("weights", (12, 48)) / 7, draws.normal("hidden", (12,))
rbm = RBM(weights, draws.normal("visible", (48,)), biases, Gaussian(torch.full((48,), 0.5)))
save_model(folder, rbm, preprocessor, (3, 7, 8), "version-1")
encoder = load(folder)
features = encoder.encode(pictures[:6], encoder.layers)
save_file({"pictures": torch.from_numpy(pictures[:6]), **features}, folder / "features.safetensors")
