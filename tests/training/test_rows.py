"""RowAdamW against torch's optimisers, clipping against torch's."""

import pytest
import torch
from torch import nn
from torch.nn.functional import embedding

from rankdistill.training.rows import RowAdamW, clip_gradients

SETTINGS = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6}


def steps(optimizer, weight, batches, sparse):
    for rows in batches:
        optimizer.zero_grad()
        taken = embedding(torch.tensor(rows), weight, sparse=sparse)
        (taken * torch.arange(1.0, 1 + taken.numel()).view(taken.shape)).sin().sum().backward()
        optimizer.step()
    return weight.detach()


def weight_of(seed=0):
    torch.manual_seed(seed)
    return nn.Parameter(torch.randn(6, 3, dtype=torch.float64))


@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("sparse", [True, False])
def test_where_every_row_is_touched_it_is_adamw(sparse, decay):
    batches = [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0, 0, 3], [2, 2, 1, 0, 3, 4, 5]]
    mine, theirs = weight_of(), weight_of()
    found = steps(RowAdamW([mine], weight_decay=decay, **SETTINGS), mine, batches, sparse)
    expected = steps(torch.optim.AdamW([theirs], weight_decay=decay, **SETTINGS), theirs, batches, False)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_of_few_rows_it_is_sparse_adam_and_leaves_the_others():
    batches = [[0, 1], [1, 4, 4], [0], [2, 1]]
    mine, theirs = weight_of(), weight_of()
    settings = SETTINGS | {"eps": 1e-14}  # which the two add before and after they correct for the bias
    found = steps(RowAdamW([mine], weight_decay=0.0, **settings), mine, batches, True)
    expected = steps(torch.optim.SparseAdam([theirs], **settings), theirs, batches, True)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    dense = weight_of()  # as of several processes
    found = steps(RowAdamW([dense], weight_decay=0.0, **settings), dense, batches, False)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    decayed = weight_of()
    found = steps(RowAdamW([decayed], weight_decay=0.5, **SETTINGS), decayed, batches, True)
    assert torch.equal(found[[3, 5]], weight_of().detach()[[3, 5]])


@pytest.mark.parametrize("largest", [0.5, 1e6])
def test_gradients_are_clipped_as_dense_ones(largest):
    both = []
    for sparse in (True, False):
        weight, other = weight_of(), nn.Parameter(torch.ones(2, dtype=torch.float64))
        taken = embedding(torch.tensor([1, 4, 4]), weight, sparse=sparse)
        (taken.square().sum() + 3 * other.sum()).backward()
        clip = clip_gradients if sparse else torch.nn.utils.clip_grad_norm_
        norm = clip([weight, other, nn.Parameter(torch.ones(1))], largest)
        gradient = weight.grad.to_dense() if sparse else weight.grad
        both.append((norm, gradient, other.grad))
    for mine, theirs in zip(*both, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
