"""From candidates to the score table: once, resumable, with progress."""

import logging
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from rankdistill.data.candidates import Candidates
from rankdistill.errors import InputError
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint, once
from rankdistill.runtime.checked import checked
from rankdistill.runtime.environment import cache_folder, precision
from rankdistill.scores.table import ScoreTable
from rankdistill.students.lengths import Counts, cut_inputs, cut_pairs
from rankdistill.students.models import CrossEncoderModel, Model

log = logging.getLogger(__name__)
BLOCK = 512  # pairs between two saves


class Unfinished(InputError):
    """A teacher failed midway; what it has, ``scores`` float32 (n,) with NaN where there is none, is kept."""

    def __init__(self, message: str, scores: np.ndarray):
        super().__init__(message)
        self.scores = scores


class Teacher(Protocol):
    """Scores aligned pairs of texts; ``fingerprint`` changes when the scores would.

    One whose scores depend on more than the pair has ``score_pools(candidates) -> float32 (N,)``
    instead, or ``score_columns(candidates)``, which gives ``scores`` and further columns by name, and names
    them in ``columns``. All processes of a job call it; what it returns in the main one is kept.
    One that embeds texts may have ``score_stored``, the same from stored embeddings of the whole collection:
    it is called where the candidates are at least half of its documents.
    """

    @property
    def fingerprint(self) -> str: ...

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray: ...


def identity(teacher: Teacher) -> str:
    """The fingerprint of ``teacher``; raises ``InputError`` if it has none, or is no teacher."""
    name = type(teacher).__name__
    if not hasattr(teacher, "score") and not hasattr(teacher, "score_pools"):
        raise InputError(f"teacher: {name} has neither score(queries, documents) nor score_pools(candidates)")
    fingerprint_ = getattr(teacher, "fingerprint", None)
    if not isinstance(fingerprint_, str) or not fingerprint_:
        raise InputError(
            f"teacher: {name} needs a fingerprint, a text that changes whenever its scores would, such as "
            'fingerprint = "my teacher 1"; its scores are kept in the cache under it'
        )
    return fingerprint_


def forget(teacher: Teacher) -> None:
    """Scores of ``teacher`` depend on nothing that it keeps of earlier ones, if it keeps anything."""
    if hasattr(teacher, "forget"):
        teacher.forget()


@checked
def score_candidates(teacher: Teacher, candidates: Candidates) -> ScoreTable:
    """The table of ``teacher``'s scores of all candidates, from the cache where it is there.

    Scores are saved after every 512 pairs; a run that was killed resumes after the last of
    them. The processes of a job share the work. Raises ``InputError`` if the teacher has no
    fingerprint, or gives a score that isn't finite.
    """
    who = identity(teacher)
    model = getattr(teacher, "model", None)
    if processes.is_main() and isinstance(model, Model):
        cut_inputs(model, candidates, who="the teacher")  # says how many
    path = scores_path(teacher, candidates)
    with once(path) as missing:
        part = path.with_suffix(".part")
        if not missing:
            log.info("reusing teacher scores %s", path)
            if processes.is_main():
                with suppress(OSError):  # left by a process that was killed then; the cache may be read-only
                    part.unlink(missing_ok=True)
        else:
            columns: dict[str, np.ndarray] = {}
            if hasattr(teacher, "score_columns"):
                given = teacher.score_columns(candidates)
                columns = {name: _float32(values) for name, values in given.items()}
                scores = columns.pop("scores")
            elif hasattr(teacher, "score_pools"):
                scores = _float32(teacher.score_pools(candidates))
            elif embeds_all(teacher, candidates):
                scores = _float32(cast(Any, teacher).score_stored(candidates))
            else:
                scores = score_pairs(teacher, candidates, part)
            if processes.is_main():
                ScoreTable(candidates, scores, who, columns=columns).save(path)
                part.unlink(missing_ok=True)
    return ScoreTable.load(path, candidates.collection, candidates, who)


def scores_path(teacher: Teacher, candidates: Candidates) -> Path:
    """Where ``score_candidates`` keeps the table of the same."""
    key = fingerprint(
        candidates.fingerprint, identity(teacher), *getattr(teacher, "columns", ()), *precision()
    )
    return cache_folder() / "scores" / f"{key}.arrow"


def embeds_all(teacher: object, candidates: Candidates) -> bool:
    """Does ``teacher`` score ``candidates``, at least half of the collection, by embeddings of all of it?"""
    read, of = len(np.unique(candidates.document_rows)), len(candidates.collection.documents)
    return hasattr(teacher, "score_stored") and 2 * read >= of


def cut_by(teacher: object, candidates: Candidates, name: str) -> Counts:
    """How many of ``candidates`` the cross-encoder of ``teacher`` cuts, logged and under ``name``.

    Each of an ensemble's under its own name besides; other teachers read no pairs.
    """
    counts: Counts = {}
    for member, member_teacher in getattr(teacher, "teachers", {}).items():
        counts |= cut_by(member_teacher, candidates, f"{name} of {member}")
    model = getattr(teacher, "model", None)
    if isinstance(model, CrossEncoderModel):
        counts |= cut_pairs(model, candidates, name, who="the teacher")
    return counts


def score_pairs(teacher: Teacher, candidates: Candidates, part: Path) -> np.ndarray:
    """All scores, float32 (N,), each pair's by itself; ``part`` keeps those done, with checksums by block.

    The checksums begin with the name of ``part``: blocks of another file of scores are not whole here.
    """
    begin = zlib.crc32(part.name.encode())
    n = len(candidates.document_rows)
    kind = np.dtype([("scores", np.float32, BLOCK), ("checksum", np.uint32)])
    count = -(-n // BLOCK)
    if processes.is_main() and (not part.exists() or part.stat().st_size != count * kind.itemsize):
        with open(part, "wb") as file:  # all of it, so that a full disk shows now: tofile closes in silence
            file.write(np.zeros(count, kind).tobytes())
    processes.wait()
    blocks = enumerate(np.fromfile(part, kind))
    lacking = {i: int(np.isnan(_known(block, begin)[: n - i * BLOCK]).sum()) for i, block in blocks}
    todo, done = processes.broadcast(([i for i in lacking if lacking[i]], n - sum(lacking.values())))
    if done:
        log.info("going on after %d of %d pairs scored earlier", done, n)
    main, jobs = processes.is_main(), processes.count()
    name = f"scores of {type(teacher).__name__}"  # an ensemble's members each have a bar
    bar = tqdm(total=n, initial=done, unit="pair", unit_scale=True, desc=name, disable=not main)
    with bar, open(part, "r+b") as file:
        for i in todo[processes.rank() :: jobs]:
            file.seek(i * kind.itemsize)
            block = np.frombuffer(file.read(kind.itemsize), kind)[0].copy()
            scores = _known(block, begin)
            new = np.flatnonzero(np.isnan(scores[: n - i * BLOCK]))
            pairs = list(candidates.pairs(i * BLOCK, min((i + 1) * BLOCK, n)))
            scores[new], failed = _asked(teacher, [pairs[row] for row in new])
            block["scores"], block["checksum"] = scores, zlib.crc32(scores.data, begin)
            file.seek(i * kind.itemsize)
            file.write(block.tobytes())
            file.flush()
            if failed is not None:
                raise InputError(f"{failed}; what is scored is kept, and the same command resumes there")
            bar.update(min(len(new) * jobs, n - bar.n))
        processes.wait()
        file.seek(0)  # opened above: the main process removes it while others may still read
        return np.fromfile(file, kind)["scores"].reshape(-1)[:n]


def _asked(teacher: Teacher, pairs: list[tuple[str, str]]) -> tuple[np.ndarray, Unfinished | None]:
    """The scores of ``pairs``, float32 (n,), and what ended the teacher before it had them all, if it did."""
    queries, documents = zip(*pairs, strict=True)
    failed = None
    try:
        scores = _float32(teacher.score(queries, documents))
    except Unfinished as error:
        scores, failed = error.scores, error
    if scores.shape != (len(pairs),) or (failed is None and not np.isfinite(scores).all()):
        raise InputError(f"teacher: {_fault(scores, queries)}; scores must be finite, one a pair")
    return scores, failed


def _float32(scores) -> np.ndarray:
    """What a teacher gave, float32; raises ``InputError`` for what is no array of numbers."""
    if isinstance(scores, Tensor):  # NumPy takes none with a gradient, on a GPU or in bf16
        scores = scores.detach().float().cpu()
    try:
        return np.asarray(scores, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"teacher: a {type(scores).__name__} that is not numeric ({error}); scores must be "
            "finite, one a pair"
        ) from None


def _known(block: np.void, begin: int) -> np.ndarray:
    """The scores of ``block``, NaN where there is none yet, as everywhere unless it is as it was written.

    A power cut may have left a hole.
    """
    whole = zlib.crc32(block["scores"], begin) == block["checksum"]
    return block["scores"].copy() if whole else np.full(BLOCK, np.nan, np.float32)


def _fault(block: np.ndarray, queries) -> str:
    if block.shape != (len(queries),):
        return f"scores of shape {block.shape} for {len(queries)} pairs"
    at = int(np.flatnonzero(~np.isfinite(block))[0])
    return f"score {block[at]} for query {queries[at][:60]!r}"
