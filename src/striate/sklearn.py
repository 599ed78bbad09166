"""Estimators for scikit-learn: ``from striate.sklearn import GaussianRBM, ZCAWhitening``."""

from striate.app.estimators import BernoulliRBM as BernoulliRBM
from striate.app.estimators import DeepBeliefNetwork as DeepBeliefNetwork
from striate.app.estimators import GaussianRBM as GaussianRBM
from striate.app.estimators import ZCAWhitening as ZCAWhitening
