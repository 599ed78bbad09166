"""Kinds of models that recipes can name: how each is started, trained and kept. A new kind is a file here and a line below."""

from striate.app.kinds.autoencoder import build_autoencoder
from striate.app.kinds.convnet import build_convnet
from striate.app.kinds.kind import Kind as Kind
from striate.app.kinds.kind import Prepared as Prepared
from striate.app.kinds.kind import Subject as Subject
from striate.app.kinds.net import build_net
from striate.app.kinds.patches import build_patches
from striate.app.kinds.rbm import build_rbm
from striate.app.kinds.recogniser import build_recogniser
from striate.app.kinds.sparse import build_sparse

KINDS = {
    "rbm": Kind(build_rbm, on_activities=True, shared=True),
    "patch-rbms": Kind(build_patches, on_activities=False),
    "net": Kind(build_net, on_activities=False),
    "autoencoder": Kind(build_autoencoder, on_activities=False),
    "convnet": Kind(build_convnet, on_activities=False, on_pictures=True, shared=True),
    "sparse": Kind(build_sparse, on_activities=False, shared=True),
    "recogniser": Kind(build_recogniser, on_activities=False),
}
