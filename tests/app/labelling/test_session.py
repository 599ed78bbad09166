"""Who sees which pictures, in which order, and what becomes of their answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from labelling import given, session_at, store_at
from striate.app.labelling.queue import LEASE_S, Queue
from striate.app.labelling.ranking import Ranker
from striate.app.labelling.review import review, review_class, review_labellers
from striate.app.labelling.session import Changed
from striate.errors import BadInput
from striate.images import ArraySource, import_images
from striate.images.aside import aside_mask, aside_reasons, groups_of, read_aside, write_aside


def test_pages_show_a_classs_terms_until_all_are_answered(tmp_path: Path) -> None:
    session = session_at(tmp_path)
    seen: list[int] = []
    while page := session.page("anna", "cat", count=7):
        session.decide("anna", "cat", "first", [given(position, "keep") for position in page])
        seen += page
    assert seen == list(range(0, 40, 2))
    assert session.progress("cat") == {"kept": 20, "verified": 0, "rejected": 0, "disputed": 0, "found": 20, "left": 0}
    assert session.page("anna", "cat", wide=True, count=100) == list(range(1, 40, 2))


def test_two_labellers_never_get_the_same_picture_at_once(tmp_path: Path) -> None:
    session = session_at(tmp_path)
    mine, yours = session.page("anna", "cat", count=12), session.page("bert", "cat", count=12)
    assert not set(mine) & set(yours) and len(mine) + len(yours) == 20
    # A page that is loaded anew is the same page.
    assert session.page("anna", "cat", count=12) == mine


def test_what_was_not_answered_is_lent_to_the_next_after_a_while() -> None:
    now = [0.0]
    queue = Queue(10, lambda: now[0])
    order = np.arange(10)
    assert queue.take("anna", 4, order).tolist() == [0, 1, 2, 3]
    assert queue.take("bert", 4, order).tolist() == [4, 5, 6, 7]
    queue.decide([0, 4], True)
    now[0] = LEASE_S + 1
    assert queue.take("bert", 10, order).tolist() == [1, 2, 3, 5, 6, 7, 8, 9]
    queue.release("bert")
    assert queue.take("anna", 2, order, np.array([1])).tolist() == [2, 3]
    assert queue.remaining(order) == 8


def test_undone_answers_come_back_and_the_last_one_is_known(tmp_path: Path) -> None:
    session = session_at(tmp_path)
    first, second = session.page("anna", "cat", count=2)
    session.decide("anna", "cat", "first", [given(first, "keep"), given(second, "reject")])
    assert session.last("anna", "cat", "first") == second and session.last("bert", "cat", "first") is None
    session.decide("anna", "cat", "first", [given(second, "undo")])
    assert session.last("anna", "cat", "first") == first
    assert session.page("bert", "cat", count=1) == [second]


def test_a_second_person_verifies_blind_and_nobody_verifies_their_own(tmp_path: Path) -> None:
    session = session_at(tmp_path, review=(1.0, 1.0))
    page = session.page("anna", "cat", count=20)
    session.decide("anna", "cat", "first", [given(p, "keep" if p < 30 else "reject") for p in page])
    assert session.page("anna", "cat", "verify") == []
    seen = session.page("bert", "cat", "verify", count=50)
    # In a drawn order: what was kept and what was rejected come mixed.
    assert sorted(seen) == sorted(page) and seen != sorted(seen)
    session.decide(
        "bert", "cat", "verify", [given(p, "reject" if p in (0, 2) else ("keep" if p < 30 else "reject")) for p in seen]
    )
    assert session.page("carl", "cat", "settle") == [0, 2]
    session.decide("carl", "cat", "settle", [given(0, "reject"), given(2, "keep")])
    progress = session.progress("cat")
    assert (progress["verified"], progress["rejected"], progress["disputed"]) == (14, 6, 0)
    found = review_class(session.ledger, "cat", (1.0, 1.0), session.verdicts())
    assert (found.looked_at, found.errors.wrong, found.errors.n, found.missed.wrong) == (20, 1, 15, 0)
    # Of 15 kept and 5 rejected, 2 differ: agreement 0.9, chance 0.75 * 0.65 + 0.25 * 0.35.
    assert found.kappa.value == pytest.approx((0.9 - 0.575) / (1 - 0.575))
    people = {one.name: one for one in review_labellers(session.ledger)}
    assert people["anna"].errors.wrong == 1 and people["bert"].decisions == 20 and people["carl"].errors.n == 0


def test_only_a_sample_is_looked_at_again_and_weighs_for_the_rest(tmp_path: Path) -> None:
    session = session_at(tmp_path, 400, review=(0.5, 0.1))
    page = session.page("anna", "cat", count=200)
    session.decide("anna", "cat", "first", [given(p, "keep" if i < 100 else "reject") for i, p in enumerate(page)])
    chosen = session.to_verify("cat", "bert")
    kept = sum(int(p) in page[:100] for p in chosen)
    # Binomial: 50 and 10, each within 4.9 standard deviations.
    assert abs(kept - 50) < 4.9 * 5 and abs(len(chosen) - kept - 10) < 4.9 * 3
    # Bert rejects every third that Anna kept, and keeps one that she rejected.
    rejected = [int(p) for p in chosen if int(p) not in page[:100]]
    both = [(int(p) in page[:100], i % 3 > 0 if int(p) in page[:100] else int(p) == rejected[0]) for i, p in enumerate(chosen)]
    session.decide("bert", "cat", "verify", [given(int(p), "keep" if own else "reject") for p, (_, own) in zip(chosen, both)])
    weights = [2.0 if first else 10.0 for first, _ in both]
    expected = cohen_kappa_score([first for first, _ in both], [second for _, second in both], sample_weight=weights)
    assert review_class(session.ledger, "cat", session.review, session.verdicts()).kappa.value == pytest.approx(expected)


def test_scores_put_what_looks_like_the_class_first(tmp_path: Path) -> None:
    """Features that tell the class, terms that are wrong half of the time."""
    session = session_at(tmp_path, 400)
    draws = np.random.default_rng(0)
    truth = draws.random(400) < 0.3
    session.ranker = Ranker((truth[:, None] + 0.3 * draws.standard_normal((400, 12))).astype(np.float32))
    assert session.refit() == []
    page = session.page("anna", "cat", order="promising", count=60)
    session.decide("anna", "cat", "first", [given(p, "keep" if truth[p] else "reject") for p in page])
    assert session.refit() == ["cat"] and session.refit() == []
    promising = session.page("anna", "cat", order="promising", count=30)
    left = [p for p in range(0, 400, 2) if p not in page]
    assert truth[promising].mean() > 0.9 and truth[left].mean() < 0.5
    unsure = session.page("anna", "cat", order="uncertain", count=30, fresh=True)
    scores = session._worked["cat"].scores
    assert scores is not None
    middle = session._worked["cat"].middle
    assert (
        np.abs(scores[unsure] - middle).max() <= np.abs(np.delete(scores[left], [left.index(p) for p in unsure]) - middle).min()
    )
    alike = session.page("anna", "cat", order="alike", count=140, fresh=True)
    assert sorted(alike) == left
    groups = session.ranker.alike()[alike]
    assert len(np.flatnonzero(np.diff(groups))) == len(set(groups)) - 1


def test_what_is_set_aside_is_not_shown(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    write_aside(store, "plain", [{"position": 0, "reason": "mostly white", "score": 1.0}], {})
    duplicate = {"position": 4, "reason": "near-duplicate of x", "score": 0.1, "group": 0, "kept": store.keys[2]}
    write_aside(store, "duplicates", [duplicate], {})
    assert aside_reasons(store) == {0: "mostly white", 4: "near-duplicate of x"}
    assert np.flatnonzero(aside_mask(store)).tolist() == [0, 4]
    assert groups_of(store)[4] == 2 and groups_of(store)[3] == 3
    assert not {0, 4} & set(session_at(tmp_path).page("anna", "cat", count=50))
    (tmp_path / "aside" / "plain.parquet").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="damaged"):
        read_aside(store, "plain")


def test_a_store_that_grows_is_labelled_on_and_one_that_is_replaced_is_not(tmp_path: Path) -> None:
    session = session_at(tmp_path / "s")
    page = session.page("anna", "cat", count=4)
    more = np.random.default_rng(1).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    import_images(ArraySource(more, terms=["cat"] * 6), tmp_path / "s", name="more")
    session.decide("anna", "cat", "first", [given(page[0], "keep")])
    changed = np.random.default_rng(2).integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
    import_images(ArraySource(changed, terms=["cat"] * 40), tmp_path / "new")
    (tmp_path / "s" / "meta.parquet").write_bytes((tmp_path / "new" / "meta.parquet").read_bytes())
    with pytest.raises(Changed, match="other pictures"):
        session.decide("anna", "cat", "first", [given(page[1], "keep")])
    assert session.ledger.count == 1


@pytest.mark.parametrize(
    ("labeller", "name", "answer", "position", "token"),
    [
        ("", "cat", "keep", 0, "t" * 10), ("a" * 61, "cat", "keep", 0, "t" * 10), ("a\nb", "cat", "keep", 0, "t" * 10),
        ("anna", "cow", "keep", 0, "t" * 10), ("anna", "cat", "maybe", 0, "t" * 10), ("anna", "cat", "keep", 40, "t" * 10),
        ("anna", "cat", "keep", -1, "t" * 10), ("anna", "cat", "keep", 0, "t"),
    ],
)  # fmt: skip
def test_answers_that_make_no_sense_are_refused_whole(
    labeller: str, name: str, answer: str, position: int, token: str, tmp_path: Path
) -> None:
    session = session_at(tmp_path)
    wrong = given(position, answer)
    wrong = type(wrong)(token, position, answer, 1.0)
    with pytest.raises(BadInput):
        session.decide(labeller, name, "first", [given(2, "keep"), wrong])
    assert session.ledger.count == 0


def test_suspects_are_listed_once_a_model_is_there(tmp_path: Path) -> None:
    session = session_at(tmp_path, 80)
    assert "--features" in review(session).why_no_suspects
    draws = np.random.default_rng(0)
    truth = np.arange(80) % 2
    session.ranker = Ranker((3 * truth[:, None] + draws.standard_normal((80, 6))).astype(np.float32))
    for name, own in (("cat", 0), ("dog", 1)):
        page = session.page("anna", name, count=80)
        # One dog among the cats.
        answers = [given(p, "keep") for p in page] + ([given(1, "keep")] if name == "cat" else [])
        session.decide("anna", name, "first", [one for one in answers if own == 0 or one.position != 1])
    assert review(session).suspects[0] == {
        "position": 1, "label": "cat", "guess": "dog", "belief": pytest.approx(0, abs=0.2),
    }  # fmt: skip
