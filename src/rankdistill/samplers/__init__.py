"""Which of a query's candidates a training group shows: one file per strategy.

A sampler has one method, ``select(scores, positive, rng) -> indices``:

* ``scores`` float (n,): teacher scores of the query's pool, any scale, finite;
* ``positive`` bool (n,): which of them are known relevant;
* ``rng`` a ``numpy.random.Generator``, made from (seed, epoch, query);
* returns int64 indices into the pool, distinct, positives first: at most ``positives`` positives
  and ``negatives`` negatives, fewer where the pool holds fewer.

With ``positives=0`` no label is used: ``negatives`` documents are taken from the whole pool.
A sampler that also names ``ranks`` in its signature is given the retriever's ranks, int (n,), one that names
``ranks_by_source`` those of each retriever. Those of the library share ``PoolSampler``.
"""

from rankdistill.samplers.ambiguous import AmbiguousSampler
from rankdistill.samplers.balanced_margin import BalancedMarginSampler
from rankdistill.samplers.ensemble import EnsembleSampler
from rankdistill.samplers.hard import HardNegativeSampler
from rankdistill.samplers.pool import PoolSampler
from rankdistill.samplers.random import RandomSampler
from rankdistill.samplers.stratified import StratifiedSampler

__all__ = [
    "AmbiguousSampler",
    "BalancedMarginSampler",
    "EnsembleSampler",
    "HardNegativeSampler",
    "PoolSampler",
    "RandomSampler",
    "StratifiedSampler",
]
