"""Numbers for what the eye sees: filters fitted, features probed."""

from striate.measure.filters import FilterFits as FilterFits
from striate.measure.filters import fit_filters as fit_filters
from striate.measure.probe import ProbeResult as ProbeResult
from striate.measure.probe import judge as judge
from striate.measure.probe import probe as probe
