"""Each paper's figures beside its findings. A figure is a function and a line in its paper's registry."""

from striate.app.reproduce.finding import Finding as Finding
from striate.app.reproduce.krizhevsky2009 import FIGURES as KRIZHEVSKY_2009

PAPERS = {"krizhevsky2009": KRIZHEVSKY_2009}
