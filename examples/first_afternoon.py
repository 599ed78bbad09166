"""A learned model put to use in Python: features, pictures like one, a classifier from few labels.

    striate learn ~/Pictures --out photos
    striate import ~/sorted/train known --size 32      # folders whose names are classes
    python examples/first_afternoon.py photos/run photos/pictures known

It needs nothing but Striate. docs/tutorial.md does the same with commands.
"""

# ruff: noqa: T201 (it is for reading, and prints what it finds)
import sys

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import striate

PER_CLASS = 20


def main(run: str, pictures: str, labelled: str) -> None:
    """Encode both stores, look for neighbours of the first picture, learn from a few labels of each class."""
    encoder = striate.load(run)
    layer = encoder.layers[-1]
    print(f"{run}: {', '.join(f'{name} ({encoder.dims[name]})' for name in encoder.layers)}")

    store = striate.ImageStore(pictures)
    features = encoder.encode(store[:1000])[layer].numpy()  # float32 (n, dim); `striate encode` does whole stores
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    nearest = np.argsort(-directions @ directions[0])[:5]
    keys = list(store.keys)
    print(f"most like {keys[0]}: {', '.join(keys[i] for i in nearest[1:])}")

    known = striate.ImageStore(labelled)
    rows, labels = encoder.encode(known[:])[layer].numpy(), known.labels
    chosen = np.concatenate([np.flatnonzero(labels == one)[:PER_CLASS] for one in np.unique(labels)])
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)).fit(rows[chosen], labels[chosen])
    share = model.score(rows[rest], labels[rest])
    print(f"{len(chosen)} labels, {len(rest)} other pictures: {100 * share:.0f}% named rightly")


if __name__ == "__main__":
    main(*sys.argv[1:4])
