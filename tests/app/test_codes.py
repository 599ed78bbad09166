"""Binary codes of features: near rows get near codes."""

from __future__ import annotations

import numpy as np
import torch

from striate.app.codes import learn_codes, retrieval


def test_codes_find_the_group_that_exact_search_finds() -> None:
    """Eight groups of rows about centres of their own: a query's ten neighbours are of its group, 50 of 400 rows."""
    random = np.random.default_rng(0)
    centres = random.random((8, 40)) < 0.4
    groups = np.arange(440) % 8
    rows = centres[groups] * random.uniform(0.6, 1.0, (440, 40)) + random.uniform(0, 0.15, (440, 40))
    features = torch.from_numpy(rows.astype(np.float32))
    coder = learn_codes(features[:400], 16, hidden=32, epochs=150, tuning=50)
    found = retrieval(coder, features[400:], features[:400], k=10, candidates=50)
    # Codes that said nothing would find an eighth of them among fifty of four hundred.
    assert found.recall.value > 0.8
    assert found.recall.bytes_a_picture == 8
    assert found.bytes_exact == 160
    again = learn_codes(features[:400], 16, hidden=32, epochs=150, tuning=50)
    assert np.array_equal(coder.bits(features), again.bits(features))
