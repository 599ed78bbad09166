"""Restricted Boltzmann machines. Source: Krizhevsky 2009, section 1.4."""

from striate.models.rbm.contrastive import Statistics as Statistics
from striate.models.rbm.contrastive import contrastive_gradient as contrastive_gradient
from striate.models.rbm.contrastive import correlate as correlate
from striate.models.rbm.contrastive import persistent_gradient as persistent_gradient
from striate.models.rbm.dbn import DeepBeliefNet as DeepBeliefNet
from striate.models.rbm.dbn import first_layer_likes as first_layer_likes
from striate.models.rbm.dbn import transposed as transposed
from striate.models.rbm.gibbs import gibbs as gibbs
from striate.models.rbm.many import ManyRBMs as ManyRBMs
from striate.models.rbm.merge import merge_patch_rbms as merge_patch_rbms
from striate.models.rbm.merge import tile_rbm as tile_rbm
from striate.models.rbm.rbm import RBM as RBM
from striate.models.rbm.start import new_rbm as new_rbm
from striate.models.rbm.units import Bernoulli as Bernoulli
from striate.models.rbm.units import Gaussian as Gaussian
from striate.models.rbm.units import VisibleUnits as VisibleUnits
