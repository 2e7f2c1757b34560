"""Scores that exist already as the teacher, with the candidates that they are of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rankdistill.candidates import mine
from rankdistill.candidates.mining import Retrievers
from rankdistill.data.candidates import hash_array
from rankdistill.data.collection import Collection
from rankdistill.errors import InputError, check_counts
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.checked import checked
from rankdistill.scores.formats import check_format, check_options, read_scores
from rankdistill.scores.formats.triples import Invalid
from rankdistill.scores.hub import is_hub_name
from rankdistill.scores.table import ScoreTable
from rankdistill.teachers.scoring import score_candidates


@checked
class FileTeacher:
    """The scores in ``path``: a file, or a hub's dataset; see ``rankdistill.scores.read_scores``.

    It has no ``score``: it brings its own candidates, and nothing is mined for them.
    """

    def __init__(
        self,
        path: str,
        format: str | None = None,
        invalid: Invalid = "error",
        options: Mapping[str, Any] | None = None,
    ):
        self.path, self.format, self.invalid = path, check_format(format, path), invalid
        self.options = dict(options or {})
        check_options(self.format, self.options)
        if not Path(path).exists() and not (self.format == "columns" and is_hub_name(path)):
            raise InputError(f"{path}: no such file")
        self._read: tuple[str, ScoreTable] | None = None

    def table(
        self, collection: Collection, split: str, limit: int | None = None, seed: int = 0
    ) -> ScoreTable:
        """The scored queries of ``split``, at most ``limit`` of them, drawn with ``seed`` as ``mine`` does.

        Raises ``InputError`` if there is none.
        """
        check_counts(limit=limit)
        table = self._whole(collection).of_split(split)
        rows = table.candidates.query_rows
        if not len(rows):
            raise InputError(f"{self.path}: no scores of queries of split {split!r} of {collection.name}")
        if limit is None or limit >= len(rows):
            return table
        rows = np.random.default_rng(seed).choice(rows, limit, replace=False)
        return table.take(np.flatnonzero(np.isin(table.candidates.query_rows, rows)))

    def covers(self, collection: Collection, split: str) -> int:
        """How many queries of ``split`` it has scores of, a relevant document's among them."""
        return len(self._whole(collection).of_split(split))

    def fingerprint_for(self, collection: Collection) -> str:
        """Changes with any candidate or score that the file holds."""
        table = self._whole(collection)
        more = [table.digests] if table.digests else []
        return fingerprint(table.candidates.fingerprint, hash_array(table.scores), *more)

    def _whole(self, collection: Collection) -> ScoreTable:
        """All that the file holds, read once."""
        if self._read is None or self._read[0] != collection.fingerprint:
            table = read_scores(self.path, collection, self.format, self.invalid, **self.options)
            self._read = collection.fingerprint, table
        return self._read[1]


def score_split(
    teacher: Any,
    retrievers: Retrievers,
    collection: Collection,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
) -> ScoreTable:
    """What ``teacher`` brings of ``split`` if it is a file, else its scores of what is mined."""
    if isinstance(teacher, FileTeacher):
        return teacher.table(collection, split, limit, seed)
    return score_candidates(teacher, mine(collection, retrievers, split, limit, seed))
