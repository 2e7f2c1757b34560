"""The token vectors that are kept; what the index finds: test_every_index.py."""

import numpy as np
import pytest

from rankdistill.errors import InputError
from rankdistill.retrieval import passing_index, stored_index
from rankdistill.students import late_interaction_student


@pytest.fixture(scope="module")
def model(student_folder):
    return late_interaction_student(student_folder, 8)


def test_kept_and_passing_are_the_same_and_what_is_damaged_is_named(model, collection, tmp_path, monkeypatch):
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path))
    first, second = (stored_index(model, collection).tokens for _ in range(2))
    passing = passing_index(model, collection).tokens
    for other in (second, passing):
        np.testing.assert_array_equal(first.vectors, other.vectors)
        np.testing.assert_array_equal(first.offsets, other.offsets)
    (folder,) = (tmp_path / "embeddings").glob("*.tokens")
    (folder / "vectors.npy").write_bytes(b"")
    with pytest.raises(InputError, match="tokens.*damaged"):
        stored_index(model, collection)
