"""A test collection: documents, queries and who judged what relevant to which."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import numpy as np

from rankdistill.data.same_text import SameText, same_text
from rankdistill.errors import InputError, check_counts, check_seed, half_a_character, shorten
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.checked import checked

Qrels = Mapping[str, Mapping[str, int]]
SHARED = 1000  # ids of both a query and a document, whose texts are compared at most

log = logging.getLogger(__name__)


@checked
@dataclass(frozen=True)
class Collection:
    """Documents and queries by row, and the qrels of each split.

    ``documents[i]`` is the text of ``document_ids[i]``, likewise for queries; everything else in
    the library handles rows (positions in these lists) and looks text up only to tokenise it.
    ``qrels`` maps split -> query id -> document id -> grade; a grade above 0 means relevant.

    ``ignore_identical_ids``: a document that has the query's own id is the query itself (as in ArguAna
    and Quora), and no result, candidate or in-batch negative of it unless judged relevant. ``None``: if most
    documents that share an id with a query have its text too, after a title perhaps.

    Raises ``InputError`` if ids or texts are no strings, ids repeat, texts are empty, or qrels name what
    isn't there or give a grade that is no whole number.
    """

    name: str
    document_ids: Sequence[str]
    documents: Sequence[str]
    query_ids: Sequence[str]
    queries: Sequence[str]
    qrels: Mapping[str, Qrels]
    ignore_identical_ids: bool | None = None

    def __post_init__(self):
        for kind, ids, texts in (
            ("document", self.document_ids, self.documents),
            ("query", self.query_ids, self.queries),
        ):
            if len(ids) != len(texts):
                raise InputError(f"{self.name}: {len(ids)} {kind} ids for {len(texts)} texts")
            for what, values in (("ids", ids), ("texts", texts)):
                if (i := next((i for i, x in enumerate(values) if not isinstance(x, str)), None)) is not None:
                    raise InputError(f"{self.name}: {kind} {what} must be strings, got {values[i]!r} at {i}")
            if len(set(ids)) != len(ids):
                first: dict[str, int] = {}
                twice = [i for row, i in enumerate(ids) if first.setdefault(i, row) != row]
                raise InputError(f"{self.name}: duplicate {kind} id {shorten(twice)}")
            blank = [i for i in ids if i.split() != [i]]
            if blank:
                raise InputError(
                    f"{self.name}: {kind} ids that are empty or hold white space, which no run file can: "
                    f"{shorten(blank)}; rename them"
                )
            empty = [i for i, text in zip(ids, texts, strict=True) if not text.strip()]
            if empty:
                raise InputError(f"{self.name}: empty text of {kind} {shorten(empty)}")
        for split, qrels in self.qrels.items():
            for query, judged in qrels.items():
                if query not in self.query_row:
                    raise InputError(f"{self.name}: qrels of {split} name no query {query!r}")
                missing = [document for document in judged if document not in self.document_row]
                if missing:
                    raise InputError(f"{self.name}: qrels of {split} name no document {shorten(missing)}")
                for document, grade in judged.items():
                    if not isinstance(grade, Integral):
                        raise InputError(
                            f"{self.name}: qrels of {split}: query {query!r}, document {document!r} has the "
                            f"grade {grade!r}; it must be a whole number"
                        )

    @cached_property
    def document_row(self) -> dict[str, int]:
        return {document: row for row, document in enumerate(self.document_ids)}

    @cached_property
    def query_row(self) -> dict[str, int]:
        return {query: row for row, query in enumerate(self.query_ids)}

    @cached_property
    def same_documents(self) -> SameText | None:
        """Which documents have the same text; None if all differ. The log says how many do not."""
        return self._same("documents", self.documents)

    @cached_property
    def same_queries(self) -> SameText | None:
        """Which queries have the same text; None if all differ. The log says how many do not."""
        return self._same("queries", self.queries)

    @cached_property
    def alike_queries(self) -> SameText | None:
        """Which queries differ in nothing but case and white space, if that; None if there are none."""
        return same_text(self.queries, folded=True)

    def _same(self, kind: str, texts: Sequence[str]) -> SameText | None:
        firsts = same_text(texts)
        if firsts is not None:
            count = int((firsts.first != np.arange(len(texts))).sum())
            log.info("%s: %d of %d %s have the text of an earlier one", self.name, count, len(texts), kind)
        return firsts

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any id, text or judgment; raises ``InputError`` for half a character in one."""
        try:
            return fingerprint(
                list(self.document_ids),
                list(self.documents),
                list(self.query_ids),
                list(self.queries),
                self.qrels,
            )
        except UnicodeEncodeError as error:
            raise InputError(f"{self.name}: {half_a_character(error)}") from None

    def texts_fingerprint(self, kind: str) -> str:
        """Changes with any text of ``kind``, ``query`` or ``document``, or their order."""
        return self._texts_fingerprints[kind]

    @cached_property
    def _texts_fingerprints(self) -> dict[str, str]:
        texts = {"query": self.queries, "document": self.documents}
        return {kind: fingerprint(list(some)) for kind, some in texts.items()}

    @cached_property
    def own_document(self) -> np.ndarray:
        """int64 (Q,): the row of the document that is the query itself and left out, -1 for none."""
        rows = np.array([self.document_row.get(query, -1) for query in self.query_ids], dtype=np.int64)
        shared = np.flatnonzero(rows >= 0)
        ignore = self.ignore_identical_ids
        if ignore is None and len(shared):
            some = shared[:: -(-len(shared) // SHARED)]
            equal = [_ends_with(self.documents[rows[i]], self.queries[i]) for i in some.tolist()]
            ignore = sum(equal) * 2 >= len(equal)
        for i in shared.tolist():
            query = self.query_ids[i]
            if not ignore or any(qrels.get(query, {}).get(query, 0) > 0 for qrels in self.qrels.values()):
                rows[i] = -1
        if len(shared):
            if left := int((rows >= 0).sum()):
                log.info(
                    "%s: %d queries are documents of the same id, which are left out of their results, "
                    "candidates and in-batch negatives, as BEIR does (data.ignore_identical_ids=false keeps "
                    "them)",
                    self.name,
                    left,
                )
            elif self.ignore_identical_ids is None and not ignore:
                log.info(
                    "%s: %d queries have the id of a document with another text, which stays among their "
                    "results (data.ignore_identical_ids=true leaves it out, as BEIR does)",
                    self.name,
                    len(shared),
                )
        return rows

    def judged(self, split: str) -> Qrels:
        """The qrels of ``split``; raises ``InputError`` with what there is to choose from."""
        try:
            return self.qrels[split]
        except KeyError:
            raise InputError(
                f"{self.name}: no split {split!r}; available: {shorten(self.qrels, 9)}"
            ) from None

    def query_rows(self, split: str, limit: int | None = None, seed: int = 0) -> np.ndarray:
        """Rows, ascending, of the queries of ``split`` that have a relevant document.

        With ``limit``, at most that many, drawn with ``seed``. int64. Raises ``InputError`` if
        there is none.
        """
        check_counts(limit=limit)
        check_seed(seed)
        rows = sorted(
            self.query_row[query]
            for query, judged in self.judged(split).items()
            if any(grade > 0 for grade in judged.values())
        )
        if not rows:
            raise InputError(f"{self.name}: no query of split {split!r} has a relevant document")
        if limit is not None and limit < len(rows):
            rows = sorted(np.random.default_rng(seed).choice(rows, limit, replace=False))
        return np.asarray(rows, dtype=np.int64)

    def positive_rows(self, split: str) -> dict[int, list[int]]:
        """Query row -> rows of its relevant documents, ascending."""
        return {
            self.query_row[query]: sorted(
                self.document_row[document] for document, grade in judged.items() if grade > 0
            )
            for query, judged in self.judged(split).items()
        }

    def __repr__(self) -> str:
        splits = ", ".join(f"{split} {len(qrels):,}" for split, qrels in self.qrels.items())
        return f"Collection({self.name}: {len(self.documents):,} documents, queries: {splits})"


def _ends_with(document: str, query: str) -> bool:
    """Whether ``document`` is the text ``query``, perhaps after a title, but for white space and case."""
    document, query = (" ".join(text.split()).casefold() for text in (document, query))
    return document == query or document.endswith(f" {query}")
