"""From pixel levels to what a model sees: moments, whitening, patches, contrast."""

from striate.preprocess.crops import Cropper as Cropper
from striate.preprocess.crops import CropSettings as CropSettings
from striate.preprocess.gathering import fitted as fitted
from striate.preprocess.layout import PatchLayout as PatchLayout
from striate.preprocess.moments import Moments as Moments
from striate.preprocess.patches import batches_of as batches_of
from striate.preprocess.patches import draw_patches as draw_patches
from striate.preprocess.preprocessor import Preprocessor as Preprocessor
from striate.preprocess.preprocessor import PreprocessSettings as PreprocessSettings
from striate.preprocess.whitening import LinearMap as LinearMap
from striate.preprocess.whitening import Spectrum as Spectrum
from striate.preprocess.whitening import deletion as deletion
from striate.preprocess.whitening import spectrum as spectrum
from striate.preprocess.whitening import zca as zca
