import numpy as np
import pytest

from rankdistill.data import Candidates, ScoreTable


@pytest.fixture
def table_of(collection):
    """A score table of these pools: a list of scores a query, ``positive`` the places of its positives."""

    def make(pools, positive=None):
        sizes = [len(pool) for pool in pools]
        sources = np.ones(sum(sizes), np.uint8)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        for i, places in enumerate(positive or []):
            sources[offsets[i] + np.array(places, int)] = 8
        candidates = Candidates(
            collection,
            np.arange(len(pools)),
            offsets,
            np.concatenate([np.arange(n) for n in sizes]).astype(np.int32),
            sources,
            np.zeros(sum(sizes), np.uint16),
        )
        return ScoreTable(candidates, np.concatenate(pools).astype(np.float32))

    return make
