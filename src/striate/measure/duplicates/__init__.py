"""Near-duplicates: pictures re-saved, resized, cropped or mirrored, found exactly, grouped, at a calibrated distance."""

from striate.measure.duplicates.calibration import Calibration as Calibration
from striate.measure.duplicates.calibration import calibrate as calibrate
from striate.measure.duplicates.finding import Compared as Compared
from striate.measure.duplicates.finding import Pairs as Pairs
from striate.measure.duplicates.finding import Search as Search
from striate.measure.duplicates.finding import find_pairs as find_pairs
from striate.measure.duplicates.groups import Group as Group
from striate.measure.duplicates.groups import group as group
from striate.measure.duplicates.groups import sharpness as sharpness
from striate.measure.duplicates.rows import FeatureRows as FeatureRows
from striate.measure.duplicates.rows import PictureRows as PictureRows
