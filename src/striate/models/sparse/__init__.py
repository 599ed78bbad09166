"""Locally connected sparse autoencoders: untied filters, L2 pooling, local contrast normalisation, stage on stage; Le 2012."""

from striate.models.sparse.net import SparseNet as SparseNet
from striate.models.sparse.spec import NetSpec as NetSpec
from striate.models.sparse.spec import StageSpec as StageSpec
