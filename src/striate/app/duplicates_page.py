"""The page of a search for near-duplicates: what the threshold stands on, what two stores share, the groups."""

from __future__ import annotations

import numpy as np

from striate.app.duplicates import Found, leakage, summary
from striate.measure.duplicates import Group, Pairs
from striate.show import figures
from striate.show.report import Figure, Report, Section, Table, render
from striate.show.sheets import contact_sheet, png_bytes

_COLUMNS = 24
_PAIRS_SHOWN = 96
_GROUPS_SHOWN = 60
_MEMBERS_SHOWN = 12


def page(found: Found) -> str:
    """The report as HTML."""
    told = summary(found)
    sections = [_calibration(found), _crossing(found), _doubtful(found), _groups(found)]
    names = ", ".join(str(store.path) for store in found.joined.stores)
    headline = [
        (f"{told['pairs']:,}", "pairs of near-duplicates"),
        (f"{told['groups']:,}", "groups"),
        (f"{told['pairs_with_different_labels']:,}", "pairs with different labels"),
        (f"{told['seconds']:,} s", f"to compare all pairs of {told['pictures']:,} pictures"),
    ]
    shown = [section for section in sections if section is not None]
    return render(Report("Near-duplicates", f"in {names}, within a distance of {told['threshold']}", headline, shown))


def _calibration(found: Found) -> Section | None:
    if found.calibration is None:
        return None
    made = found.calibration
    parts = {**made.copies, "nearest other picture": made.others}
    line = figures.histograms(parts, "distance", made.search.threshold, "threshold", 1.0 if made.search.crops else 1.5)
    text = (
        f"Copies of {made.sample:,} of these pictures, re-saved, resized and cropped, beside the distance of the nearest other "
        f"picture. {made.missed:.2%} of the copies lie beyond the threshold; {made.taken:.1%} of the pictures have another one "
        "within it: duplicates already there, or the price of a threshold this wide. Look at the doubtful pairs below."
    )
    return Section(
        "Where the line was drawn", text, [Figure("Each distribution is scaled to its largest bin.", line, wide=True)]
    )


def _sheet(found: Found, positions: np.ndarray) -> bytes:
    return png_bytes(contact_sheet(found.joined.read(positions), _COLUMNS))


def _side_by_side(pairs: Pairs) -> np.ndarray:
    return np.stack([pairs.first, pairs.second], axis=1).reshape(-1)


def _crossing(found: Found) -> Section | None:
    if len(found.joined.stores) < 2:
        return None
    crossing, labels = found.crossing, found.joined.labels()
    rows = [
        [name, f"{one['pictures']:,} of {one['of']:,}", f"{one['share']:.2%} ({one['low']:.2%} to {one['high']:.2%})"]
        for name, one in leakage(found).items()
    ]
    table = Table(["store", "pictures with a twin in the first store", "share, 95% interval"], rows)
    pictures = []
    if len(crossing):
        shown = crossing[np.linspace(0, len(crossing) - 1, min(_PAIRS_SHOWN, len(crossing))).astype(int)]
        pictures.append(Figure("Pairs side by side, nearest first.", _sheet(found, _side_by_side(shown)), True, True))
        differ = crossing[labels[crossing.first] != labels[crossing.second]]
        if len(differ):
            caption = f"{len(differ):,} of these pairs have different labels."
            pictures.append(Figure(caption, _sheet(found, _side_by_side(differ[np.arange(min(96, len(differ)))])), True, True))
    return Section(
        "From one store to another", "A test set that shares pictures with the training set measures memory.", pictures, [table]
    )


def _doubtful(found: Found) -> Section | None:
    """The pairs nearest to the threshold: if these are twins, it is not too wide."""
    if len(found.pairs) == 0:
        return None
    last = found.pairs[np.arange(max(0, len(found.pairs) - _PAIRS_SHOWN), len(found.pairs))]
    low = float(last.distance.min())
    caption = f"The {len(last)} pairs furthest apart, {low:.3f} to {found.search.threshold:.3f}, side by side."
    return Section("At the line", "", [Figure(caption, _sheet(found, _side_by_side(last)), True, True)])


def _groups(found: Found) -> Section | None:
    if not found.groups:
        return None
    largest = sorted(found.groups, key=lambda one: -len(one.members))[:_GROUPS_SHOWN]
    sheet = png_bytes(contact_sheet(np.concatenate([_row(found, one) for one in largest]), _MEMBERS_SHOWN))
    caption = f"The {len(largest)} largest of {len(found.groups):,} groups, one a row; the picture kept comes first."
    return Section("Groups", "", [Figure(caption, sheet, True, True)])


def _row(found: Found, one: Group) -> np.ndarray:
    pictures = found.joined.read(np.array(one.members[:_MEMBERS_SHOWN]))
    blank = np.zeros((_MEMBERS_SHOWN - len(pictures), *pictures.shape[1:]), np.uint8)
    return np.concatenate([pictures, blank])
