"""From decisions (or labels that came with the pictures) to sets, and to the card that goes with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from striate import __version__
from striate.app.labelling.classes import LabelClass, read_classes, terms_of
from striate.app.labelling.ledger import FILE, Ledger
from striate.app.labelling.review import review_class
from striate.app.labelling.verdicts import verdicts
from striate.app.markdown import cell, quoted
from striate.app.superclasses import superclasses_of
from striate.errors import BadInput
from striate.images import ImageStore
from striate.images.aside import aside_mask, aside_reasons
from striate.images.exports import Published
from striate.images.splits import Split
from striate.images.store import read_rows


@dataclass(frozen=True)
class Labelled:
    """Pictures with labels.

    Attributes:
        labels: int64 (n,), -1 for none.
        class_names: that labels index.
        superclasses: class name -> superclass, or nothing.
        origin: `decisions` of labellers, or `import`.
    """

    labels: np.ndarray
    class_names: list[str]
    superclasses: dict[str, str]
    origin: str


def labels_of(
    store: ImageStore, classes: Path | None = None, wordnet: Path | None = None, verified: bool = False, aside: bool = False
) -> Labelled:
    """The labels of a store: what labellers decided, or, where nobody labelled, what pictures came with.

    Args:
        store: the pictures.
        classes: the file of classes: their order and superclasses.
        wordnet: for `hyponyms: true` in it.
        verified: only what a second person confirmed.
        aside: also pictures that are set aside.

    Raises:
        BadInput: there are no labels.
    """
    known: Sequence[LabelClass] = read_classes(classes, wordnet) if classes else []
    if (store.path / FILE).exists():
        with Ledger(store.path, writing=False) as ledger:
            by_position = verdicts(ledger, verified).labels
        names = [one.name for one in known] or sorted(set(by_position.values()))
        labels = np.full(len(store), -1, np.int64)
        for position, name in by_position.items():
            if name in names:
                labels[position] = names.index(name)
        origin = "decisions"
    else:
        count = max(len(store.class_names), int(store.labels.max(initial=-1)) + 1)
        names = [*store.class_names, *(str(number) for number in range(len(store.class_names), count))]
        labels, origin = store.labels.copy(), "import"
        if known and [one.name for one in known] != names:
            wanted = [one.name for one in known]
            lookup = np.array([wanted.index(name) if name in wanted else -1 for name in names] + [-1])
            labels, names = lookup[labels], wanted
    if not aside:
        labels[aside_mask(store)] = -1
    if not (labels >= 0).any():
        why = "no picture was verified yet" if verified else "no picture has a label yet"
        raise BadInput(f"{store.path}: {why}: `striate label {store.path}` is where people give them")
    given = {one.name: one.entry.superclass for one in known if one.entry.superclass}
    if given and len(given) < len(names):
        missing = next(name for name in names if name not in given)
        raise BadInput(f"{classes}: class {missing!r} has no superclass, others have: give all of them one, or none")
    superclasses = {name: str(coarse) for name, coarse in given.items()} or superclasses_of(names)
    return Labelled(labels, names, superclasses, origin)


def published(
    store: ImageStore, split: Split, classes: Path | None, licence: str, title: str, wordnet: Path | None = None
) -> Published:
    """A split with its card."""
    known = {one.name: one for one in (read_classes(classes, wordnet) if classes else [])}
    text = card(store, split, known, licence, title)
    return Published(store, split.sets, split.labels, split.class_names, split.superclasses, terms_of(store), text)


def card(store: ImageStore, split: Split, known: dict[str, LabelClass], licence: str, title: str) -> str:
    """The dataset card: a YAML header as Hugging Face reads it, counts, criteria, labellers, agreement, sources."""
    channels, height, width = store.shape
    total = sum(map(len, split.sets.values()))
    lines = [
        "---",
        f"license: {quoted(licence)}",
        f"pretty_name: {quoted(title)}",
        "task_categories: [image-classification]",
        "annotations_creators: [expert-generated]" if (store.path / FILE).exists() else "annotations_creators: [found]",
        f"size_categories: [{_size(total)}]",
        "---",
        f"# {' '.join(title.split())}",
        "",
        f"{total:,} pictures of {height} x {width} pixels, {'RGB' if channels == 3 else 'grey'}, in "
        f"{len(split.class_names)} classes, made with Striate {__version__}. Licence: {licence}.",
        "",
        "## Counts",
        "",
        f"| class |{' superclass |' if split.superclasses else ''} {' | '.join(split.sets)} |",
        f"|---|{'---|' if split.superclasses else ''}{'---|' * len(split.sets)}",
    ]
    for number, name in enumerate(split.class_names):
        counts = [f"{int((split.labels[positions] == number).sum()):,}" for positions in split.sets.values()]
        coarse = f" {cell(split.superclasses[name])} |" if split.superclasses else ""
        lines.append(f"| {cell(name)} |{coarse} {' | '.join(counts)} |")
    lines += ["", *_criteria(known), *_labelling(store, split), *_origins(store, split)]
    return "\n".join(lines) + "\n"


def _criteria(known: dict[str, LabelClass]) -> list[str]:
    lines = ["## Criteria", ""]
    for name, one in known.items():
        lines.append(
            f"- **{cell(name)}**: found under {', '.join(map(cell, one.terms[:20]))}{' ...' if len(one.terms) > 20 else ''}."
        )
        lines += [f"  Keep: {cell(one.entry.include)}"] if one.entry.include else []
        lines += [f"  Reject: {cell(one.entry.exclude)}"] if one.entry.exclude else []
    return [*lines, ""] if known else []


def _labelling(store: ImageStore, split: Split) -> list[str]:
    if not (store.path / FILE).exists():
        return ["## Labels", "", "The labels came with the pictures; nobody looked at them here.", ""]
    with Ledger(store.path, writing=False) as ledger:
        found = verdicts(ledger)
        reviews = [review_class(ledger, name, (1.0, 1.0), found) for name in split.class_names]
        people = len({one.labeller for one in ledger.all()})
        total = ledger.count
    lines = [
        "## Labels",
        "",
        f"{people} {'person' if people == 1 else 'people'} made {total:,} decisions. A second look, where there was one:",
        "",
        "| class | looked at twice | Cohen's kappa | wrong among kept, 95% interval |",
        "|---|---|---|---|",
    ]
    for one in reviews:
        kappa = f"{one.kappa.value:.2f}" if one.kappa.value == one.kappa.value else "-"
        wrong = f"{one.errors.value:.1%} ({one.errors.low:.1%} to {one.errors.high:.1%})" if one.errors.n else "-"
        lines.append(f"| {cell(one.name)} | {one.looked_at:,} | {kappa} | {wrong} |")
    return [*lines, ""]


def _origins(store: ImageStore, split: Split) -> list[str]:
    # The last part of a path only: folders of somebody's machine are nobody's business.
    sources = Counter(PurePath(source).name for source in read_rows(store.path, "meta", ["source"])["source"].to_pylist())
    reasons = Counter(
        reason.split(" of ")[0] if reason.startswith("near") else reason for reason in aside_reasons(store).values()
    )
    lines = ["## Sources", "", *(f"- {cell(name)}: {count:,} pictures" for name, count in sources.most_common(50)), ""]
    if reasons:
        lines += ["Set aside: " + ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common()) + ".", ""]
    drawn = ", ".join(f"{key} {value}" for key, value in split.details.items())
    return [*lines, f"Split: {drawn}." if drawn else ""]


def _size(count: int) -> str:
    for most, name in ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if count < most:
            return name
    return "1M<n<10M"
