"""From candidates to the score table: once, resumable, with progress."""

import logging
from typing import Protocol

import numpy as np
from tqdm.auto import tqdm

from rankdistill import processes
from rankdistill.data.cache import cache_folder, fingerprint, once
from rankdistill.data.candidates import Candidates
from rankdistill.data.scores import ScoreTable
from rankdistill.errors import InputError

log = logging.getLogger(__name__)
BLOCK = 512  # pairs between two saves


class Teacher(Protocol):
    """Scores aligned pairs of texts; ``fingerprint`` changes when the scores would.

    One whose scores depend on more than the pair has ``score_pools(candidates) -> float32 (N,)``
    instead. All processes of a job call it; what it returns in the main one is kept.
    """

    fingerprint: str

    def score(self, queries, documents) -> np.ndarray: ...


def score_candidates(teacher: Teacher, candidates: Candidates) -> ScoreTable:
    """The table of ``teacher``'s scores of all candidates, from the cache where it is there.

    Scores are saved after every 512 pairs; a run that was killed goes on after the last of
    them. The processes of a job share the work. Raises ``InputError`` if the teacher gives a score
    that isn't finite.
    """
    who = teacher.fingerprint
    path = cache_folder() / "scores" / f"{fingerprint(candidates.fingerprint, who)}.arrow"
    with once(path) as missing:
        if not missing:
            log.info("reusing teacher scores %s", path)
        else:
            part = path.with_suffix(".part")
            if hasattr(teacher, "score_pools"):
                scores = np.asarray(teacher.score_pools(candidates), dtype=np.float32)
            else:
                scores = _score(teacher, candidates, part)
            if processes.is_main():
                ScoreTable(candidates, scores, who).save(path)
                part.unlink(missing_ok=True)
    return ScoreTable.load(path, candidates.collection, candidates, who)


def _score(teacher: Teacher, candidates: Candidates, part) -> np.ndarray:
    """All scores, float32 (N,); those done are kept in ``part``, where NaN means not yet."""
    n = len(candidates.document_rows)
    if processes.is_main() and (not part.exists() or part.stat().st_size != 4 * n):
        np.full(n, np.nan, np.float32).tofile(part)
    processes.wait()
    scores = np.memmap(part, np.float32, mode="r+", shape=(n,))
    starts = [start for start in range(0, n, BLOCK) if np.isnan(scores[start : start + BLOCK]).any()]
    starts = processes.broadcast(starts)
    done = n - sum(min(BLOCK, n - start) for start in starts)
    if done:
        log.info("going on after %d of %d pairs scored earlier", done, n)
    main, count = processes.is_main(), processes.count()
    name = f"scores of {type(teacher).__name__}"  # an ensemble's members each have a bar
    bar = tqdm(total=n, initial=done, unit="pair", unit_scale=True, desc=name, disable=not main)
    with bar:
        for start in starts[processes.rank() :: count]:
            stop = min(start + BLOCK, n)
            queries, documents = zip(*candidates.pairs(start, stop), strict=True)
            block = np.asarray(teacher.score(queries, documents), dtype=np.float32)
            if block.shape != (stop - start,) or not np.isfinite(block).all():
                raise InputError(f"teacher: {_fault(block, queries)}; scores must be finite, one a pair")
            scores[start:stop] = block
            scores.flush()
            bar.update(min((stop - start) * count, n - bar.n))
    processes.wait()
    return np.array(scores)


def _fault(block: np.ndarray, queries) -> str:
    if block.shape != (len(queries),):
        return f"scores of shape {block.shape} for {len(queries)} pairs"
    at = int(np.flatnonzero(~np.isfinite(block))[0])
    return f"score {block[at]} for query {queries[at][:60]!r}"
