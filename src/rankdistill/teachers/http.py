"""A reranker that a server runs, as the teacher."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np

from rankdistill.errors import InputError, check_aligned, check_counts
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.checked import checked
from rankdistill.runtime.posting import Poster, Stopped, check_address, read_key
from rankdistill.teachers.scoring import Unfinished

TEXTS = ("documents", "texts")


@checked
class HTTPTeacher:
    """Scores are those of a server's ``/rerank``: text-embeddings-inference, vLLM, Infinity, Jina, Cohere.

    A query and up to ``batch_size`` documents are posted to ``address`` as {"query", "documents", "model"}
    and what ``body`` has besides, by default "return_documents": false; ``texts`` is what the documents
    are called, "texts" by text-embeddings-inference, which knows no such field. The answer is
    {"results": [{"index", "relevance_score"}, ...]}, or the list alone, with "score". ``model`` is left out
    if it is None. The key, if there is one, is in the environment's ``key_variable`` and is sent as a bearer
    token; it is written nowhere.

    At most ``concurrency`` requests are under way, in all processes of a job together (one each at least).
    One that fails is tried again ``retries`` times, see ``Poster``; ``timeout`` is in seconds. One that
    fails for good ends the scoring in a line that names its query: what others brought is kept, and a
    later run asks for the rest.

    The fingerprint is of address, model and what else is sent. A server that runs another model under the
    same name cannot be seen. Each document must be scored independently: which others share its request
    depends on ``batch_size`` and on where a run is resumed.
    """

    def __init__(
        self,
        address: str,
        model: str | None = None,
        key_variable: str | None = None,
        texts: str = "documents",
        body: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        concurrency: int = 8,
        timeout: float = 60.0,
        retries: int = 6,
    ):
        check_address(address, "teacher.address")
        check_counts(batch_size=batch_size, concurrency=concurrency)
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise InputError(f"retries={retries!r}: it must be 0 or more, an integer")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < np.inf:
            raise InputError(f"timeout={timeout!r}: it must be a number of seconds above 0")
        if texts not in TEXTS:
            raise InputError(f"teacher.texts={texts!r}: it must be {' or '.join(TEXTS)}")
        self.address, self.model_name, self.texts = address, model, texts
        self.key_variable = key_variable
        own = {"return_documents": False} if texts == "documents" else {}
        self.body: dict[str, Any] = own if body is None else dict(body)
        for name in self.body:
            if name in ("query", "model", *TEXTS):
                raise InputError(f"teacher.body.{name}: that is what is sent anyway; leave it out")
        self.batch_size, self.concurrency = batch_size, concurrency
        self.timeout, self.retries = timeout, retries

    @property
    def fingerprint(self) -> str:
        return fingerprint("http", self.address, self.model_name, self.texts, self.body)

    def score(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Scores of the aligned pairs, float32 (n,).

        Raises ``Unfinished`` if a request fails for good, with what others brought.
        """
        check_aligned(queries, documents)
        key = read_key(self.key_variable, "teacher.key_variable")
        poster = Poster(self.address, key, self.timeout, self.retries)
        scores = np.full(len(queries), np.nan, dtype=np.float32)
        failed: InputError | None = None
        pool = ThreadPoolExecutor(max(1, self.concurrency // processes.count()))
        try:
            asked: dict[Future, list[int]] = {
                pool.submit(self._ask, poster, query, [documents[i] for i in rows]): rows
                for query, rows in requests(queries, documents, self.batch_size)
            }
            for future in as_completed(asked):
                try:
                    scores[asked[future]] = future.result()
                except Stopped:
                    pass
                except InputError as error:
                    failed = failed or error
                    poster.stop()
        finally:
            poster.stop()
            pool.shutdown(cancel_futures=True)
        if failed is not None:
            raise Unfinished(f"teacher: {failed}", scores)
        return scores

    def _ask(self, poster: Poster, query: str, documents: list[str]) -> np.ndarray:
        body = {"query": query, self.texts: documents} | self.body
        if self.model_name is not None:
            body["model"] = self.model_name
        try:
            answer = poster.post(body)
            try:
                return scores_of(answer, len(documents))
            except InputError as error:
                raise InputError(f"{self.address}: {error}") from None
        except InputError as error:
            raise InputError(f"query {query[:60]!r}: {error}") from None


def requests(
    queries: Sequence[str], documents: Sequence[str], batch_size: int
) -> list[tuple[str, list[int]]]:
    """Each query with the rows of its pairs, at most ``batch_size`` at a time, in their order."""
    rows: dict[str, list[int]] = {}
    for row, (query, _) in enumerate(zip(queries, documents, strict=True)):
        rows.setdefault(query, []).append(row)
    return [
        (query, of_query[start : start + batch_size])
        for query, of_query in rows.items()
        for start in range(0, len(of_query), batch_size)
    ]


def scores_of(answer: Any, n: int) -> np.ndarray:
    """The scores that a server's ``answer`` has of ``n`` documents, in their order, float32 (n,).

    Raises ``InputError`` unless each document has one finite number.
    """
    results = answer.get("results") if isinstance(answer, dict) else answer
    if not isinstance(results, list):
        there = f"; it has {', '.join(map(repr, list(answer)[:5]))}" if isinstance(answer, dict) else ""
        raise InputError(f"the answer has no list of results{there}")
    scores = np.full(n, np.nan, dtype=np.float32)
    for result in results:
        index = result.get("index") if isinstance(result, dict) else None
        if isinstance(index, bool) or not isinstance(index, int):
            raise InputError(f"a result without an index: {repr(result)[:60]}")
        if not 0 <= index < n:
            raise InputError(f"a result of document {index}, but 0 to {n - 1} were sent")
        if not np.isnan(scores[index]):
            raise InputError(f"two results of document {index}")
        scores[index] = finite(result.get("relevance_score", result.get("score")), index)
    if np.isnan(scores).any():
        lacking = np.flatnonzero(np.isnan(scores))
        raise InputError(f"no result of document {lacking[0]}; {n} were sent, {n - len(lacking)} came back")
    return scores


def finite(score: Any, index: int) -> np.float32:
    """``score`` as float32; raises ``InputError`` unless it is a finite number."""
    with np.errstate(over="ignore"):
        try:
            value = np.float32(score) if isinstance(score, int | float) else np.float32("nan")
        except OverflowError:
            value = np.float32("inf")
    if isinstance(score, bool) or not np.isfinite(value):
        raise InputError(f"score {repr(score)[:60]} of document {index}; scores must be finite numbers")
    return value
