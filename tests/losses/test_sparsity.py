"""Regularisers of sparse embeddings, against numbers worked out by hand."""

import pytest
import torch

from rankdistill.errors import InputError
from rankdistill.losses import FLOPS, L1, KLDivergence, WeightedSum, flops, l1
from rankdistill.losses.base import value_of
from rankdistill.vocabulary import Batch, Embeddings, Outputs

ROWS = torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 0.0]])
S, T = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 1.0, -1.0]])


def value(loss, step=0, queries=ROWS, documents=ROWS):
    everything = torch.ones(1, 3, dtype=torch.bool)
    rows = torch.arange(1), torch.arange(3)
    batch = Batch(*rows, rows[1][None], everything.clone(), everything, {"scores": T}, step=step)
    outputs = Outputs(S, None, Embeddings(queries), Embeddings(documents))
    return value_of(loss, outputs, Outputs(T), batch).item()


def test_values_are_those_worked_out_by_hand():
    assert flops(ROWS).item() == 2.0 and l1(ROWS).item() == 2.0
    assert flops(ROWS, torch.tensor([1.0, 2.0, 4.0])).item() == 1.25
    assert flops(-ROWS).item() == 2.0 and l1(-ROWS).item() == 2.0


def test_flops_spreads_texts_over_dimensions_and_l1_does_not():
    apart, together = torch.tensor([[2.0, 0], [0, 2]]), torch.tensor([[2.0, 0], [2, 0]])
    assert (flops(apart).item(), flops(together).item()) == (2.0, 4.0)
    assert l1(apart) == l1(together)


@pytest.mark.parametrize("kind", [FLOPS, L1])
def test_each_side_has_its_weight_and_the_ramp_is_quadratic(kind):
    loss = kind(query_weight=0.5, document_weight=0.25, ramp_steps=100)
    whole = 0.5 * 2 + 0.25 * 2
    found = [value(loss, step) for step in (0, 50, 100, 500)]
    assert found == [0, whole / 4, whole, whole]
    assert value(kind(0.5, 0.25, ramp_steps=0)) == whole
    assert value(kind(0.5, 0.0, 0), documents=9 * ROWS) == 1.0


def test_it_reads_what_has_a_weight_and_is_part_of_a_sum():
    assert L1(0.5, 0.0, 0).reads == {"queries", "term_weights"}
    assert FLOPS(0.0, 1.0, 0).reads == {"documents", "term_weights"}
    both = WeightedSum({"kl": KLDivergence(), "flops": FLOPS(1.0, 0.0, 0)}, {"kl": 2.0, "flops": 0.5})
    assert both.reads == {"queries", "term_weights"}
    assert value(both) == pytest.approx(2 * 0.115611 + 0.5 * 2, abs=1e-5)


def test_documents_that_are_short_enough_are_not_pulled():
    """Of two entries and of one; they count in the mean all the same."""
    spared = FLOPS(0, 1, ramp_steps=0, threshold=1)
    assert value(spared) == 0.5**2 + 1.0**2
    assert value(spared, documents=torch.tensor([[1.0, 0.0, 2.0], [5.0, 0.0, 0.0]])) == 0.5**2 + 1.0**2
    assert value(FLOPS(0, 1, ramp_steps=0, threshold=2)) == 0
    queries = FLOPS(1, 0, ramp_steps=0, threshold=2)
    assert value(queries) == value(FLOPS(1, 0, ramp_steps=0))  # of queries nothing is left out


def test_idf_is_a_number_for_each_dimension():
    assert value(FLOPS(1.0, 0.0, 0, idf=[1.0, 2.0, 4.0])) == 1.25
    with pytest.raises(InputError, match="idf: it has 2 numbers, and embeddings 3"):
        value(FLOPS(1.0, 0.0, 0, idf=[1.0, 2.0]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query_weight": -1.0}, "query_weight=-1.0: it must be a finite number"),
        ({"document_weight": True}, "document_weight=True"),
        ({"query_weight": 0.0, "document_weight": 0.0}, "one must be above 0"),
        ({"ramp_steps": -3}, "ramp_steps=-3"),
        ({"idf": [1.0, 0.0]}, "idf: it must be one finite number above 0"),
    ],
)
def test_what_cannot_be_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        FLOPS(**fields)
