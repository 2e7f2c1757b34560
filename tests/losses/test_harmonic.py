import math

import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import Harmonic, harmonic, info_nce
from rankdistill.losses.base import reads
from rankdistill.vocabulary import Batch, Embeddings, Outputs

S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])
FIRST, ALL = torch.tensor([[True, False, False]]), torch.ones(1, 3, dtype=torch.bool)

FAR = torch.tensor([[1.0, 2.0, 4.0]])


def batch_of(index, positive):
    rows = torch.arange(int(index.max()) + 1)
    mask = torch.ones_like(positive)
    return Batch(torch.arange(len(index)), rows, index, positive, mask, {"scores": index.float()})


def test_distances_of_one_two_and_four():
    assert harmonic(FAR, T, FIRST, ALL, exponent=2.0).item() == pytest.approx(0.271934, abs=1e-6)
    assert math.exp(-0.271934) == pytest.approx(0.7619, abs=1e-4)


def test_it_is_infonce_of_the_logarithms():
    torch.testing.assert_close(harmonic(FAR, T, FIRST, ALL, 3.0), info_nce(-3 * FAR.log(), T, FIRST, ALL))


def test_a_factor_on_all_distances_changes_nothing():
    torch.testing.assert_close(harmonic(50 * FAR, T, FIRST, ALL), harmonic(FAR, T, FIRST, ALL))


@pytest.mark.parametrize("garbage", [math.nan, math.inf, 0.0])
def test_padding_and_a_distance_of_zero_do_no_harm(garbage):
    distances = torch.tensor([[1.0, 2.0, garbage]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    value = harmonic(distances, distances.detach(), FIRST, mask)
    value.backward()
    assert value.item() == pytest.approx(math.log(1.5)) and distances.grad.isfinite().all()
    near = harmonic(torch.zeros(1, 3, requires_grad=True), T, FIRST, ALL)
    assert near.item() == pytest.approx(math.log(3))


def test_the_distances_are_those_of_the_embeddings():
    """The query at 0; documents 1, 2 and 4 away in two dimensions, the positive the nearest."""
    documents = torch.tensor([[0.0, 4.0], [1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    batch = batch_of(torch.tensor([[1, 2, 0]]), FIRST)
    student = Outputs(S, queries=Embeddings(torch.zeros(1, 2)), documents=Embeddings(documents))
    value = Harmonic(2.0)(student, Outputs(T), batch)
    assert value.item() == pytest.approx(0.271934, abs=1e-6)
    assert Harmonic()(student, Outputs(T), batch).item() == pytest.approx(
        harmonic(FAR, T, FIRST, ALL, 2**0.5).item()
    )
    assert reads(Harmonic()) == {"queries", "documents"}


def test_token_vectors_are_refused():
    tokens = Embeddings(torch.zeros(1, 3, 2), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="Harmonic needs one vector per text"):
        Harmonic()(
            Outputs(S, queries=tokens, documents=tokens),
            Outputs(T),
            batch_of(torch.tensor([[0, 0, 0]]), FIRST),
        )
