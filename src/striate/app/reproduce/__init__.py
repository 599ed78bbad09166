"""Each paper's figures beside its findings. A figure is a function and a line in its paper's registry."""

from striate.app.reproduce.finding import Finding as Finding
from striate.app.reproduce.finding import Paper as Paper
from striate.app.reproduce.krizhevsky2009 import FIGURES as _DATA
from striate.app.reproduce.krizhevsky2009_classifiers import FIGURES as _CLASSIFIERS
from striate.app.reproduce.krizhevsky2009_classifiers import STAGES as _STAGES
from striate.app.reproduce.krizhevsky2009_models import FIGURES as _MODELS
from striate.app.reproduce.krizhevsky2009_parallel import FIGURES as _PARALLEL
from striate.app.reproduce.krizhevsky2012 import JUDGED as _NETS_JUDGED
from striate.app.reproduce.krizhevsky2012 import OF_MODELS as _NETS
from striate.app.reproduce.krizhevsky2012 import STAGES as _NET_STAGES
from striate.app.reproduce.le2012 import OF_CONCEPTS as _CONCEPTS
from striate.app.reproduce.le2012 import OF_MODELS as _NETWORK
from striate.app.reproduce.le2012 import STAGES as _NETWORK_STAGES
from striate.app.reproduce.le2012_cluster import FIGURES as _MACHINES
from striate.app.reproduce.le2012_race import FIGURES as _RACE
from striate.app.reproduce.le2012_recognition import FIGURES as _RECOGNITION
from striate.app.reproduce.le2012_recognition import STAGES as _RECOGNITION_STAGES

PAPERS = {
    "krizhevsky2009": Paper(
        "Learning Multiple Layers of Features from Tiny Images (Krizhevsky 2009), redrawn",
        of_pictures=_DATA,
        of_models={**_MODELS, **_PARALLEL},
        judged=_CLASSIFIERS,
        stages=_STAGES,
    ),
    "krizhevsky2012": Paper(
        "ImageNet Classification with Deep CNNs (Krizhevsky, Sutskever, Hinton 2012), redrawn",
        of_pictures={},
        of_models=_NETS,
        judged=_NETS_JUDGED,
        stages=_NET_STAGES,
    ),
    "le2012": Paper(
        "Building High-level Features Using Large Scale Unsupervised Learning (Le et al. 2012), redrawn",
        of_pictures={},
        of_models={**_NETWORK, **_MACHINES, **_RACE},
        judged=_RECOGNITION,
        stages={**_NETWORK_STAGES, **_RECOGNITION_STAGES},
        of_concepts=_CONCEPTS,
    ),
}
