"""scikit-learn's way in: estimators that go wherever scikit-learn's own go. The public door is `striate.sklearn`."""

from striate.app.estimators.rbms import BernoulliRBM as BernoulliRBM
from striate.app.estimators.rbms import GaussianRBM as GaussianRBM
from striate.app.estimators.stacks import DeepBeliefNetwork as DeepBeliefNetwork
from striate.app.estimators.whitening import ZCAWhitening as ZCAWhitening
