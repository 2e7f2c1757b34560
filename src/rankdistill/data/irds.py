"""Collections of ir_datasets, by id (MacAvaney et al. 2021, arXiv 2103.02280)."""

import textwrap
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal

from rankdistill.data.collection import Collection
from rankdistill.data.rows import Row, assemble
from rankdistill.errors import InputError, shorten
from rankdistill.runtime import processes
from rankdistill.runtime.checked import checked

SPLITS = ("train", "dev", "test")


@checked
def read_irds(
    id: str | Mapping[str, str],
    document_template: str | None = None,
    query_template: str | None = None,
    invalid: Literal["error", "skip"] = "error",
    ignore_identical_ids: bool | None = None,
) -> Collection:
    """The collection ``id`` of ir_datasets, such as ``beir/nfcorpus/test``, or split -> id over one corpus.

    One id is the split that its name says (``train``, ``dev``, else ``test``); one without qrels,
    such as ``beir/nfcorpus``, means the splits right below it. A text is what ir_datasets holds for
    it (``default_text``) unless a template names fields. ``invalid`` and the last are those of
    ``read_beir``.

    ir_datasets downloads what it lacks and keeps documents, partly as pickles, in its home folder:
    use no home folder of somebody you don't trust. Raises ``InputError`` if it isn't installed, for
    ids it doesn't know or that differ in their corpus, and if it cannot have the files.
    """
    try:
        import ir_datasets
    except ImportError:
        raise InputError("data=irds needs ir_datasets: pip install ir_datasets") from None
    registry = ir_datasets.registry
    ids = id if isinstance(id, Mapping) else _splits(id, registry)
    parts = {split: _find(name, registry) for split, name in ids.items()}
    _check(ids, parts, registry)
    corpus, *_ = map(ir_datasets.docs_parent_id, ids.values())
    documents = next(iter(parts.values())).docs_iter
    if not processes.is_main():
        processes.wait()  # the main process downloads and indexes, the others find it done
    try:
        return assemble(
            corpus,
            (f"{corpus} docs", _rows(f"{corpus} docs", documents)),
            (f"{corpus} queries", _queries(ids, parts)),
            {split: _rows(f"{ids[split]} qrels", part.qrels_iter) for split, part in parts.items()},
            document_template or "{default_text}",
            query_template or "{default_text}",
            invalid,
            ignore_identical_ids,
        )
    finally:
        if processes.is_main():
            processes.wait()


def _check(ids: Mapping[str, str], parts: Mapping[str, Any], registry) -> None:
    """Raises ``InputError`` unless each of ``parts`` has all that it takes, and all have one corpus."""
    if not parts:
        raise InputError("data.id: an id, or split -> id, such as {train: ..., test: ...}")
    first = next(iter(parts))
    for split, part in parts.items():
        for kind in ("docs", "queries", "qrels"):
            if not part.has(kind):
                raise InputError(f"data.id: {ids[split]} has no {kind}; {_near(ids[split], registry)}")
        if part.docs_handler() != parts[first].docs_handler():
            raise InputError(f"data.id: {ids[first]} and {ids[split]} are not of the same corpus")


def _splits(id: str, registry) -> dict[str, str]:
    """Split -> id, of the splits that ``id`` means."""
    if not _find(id, registry).has("qrels"):
        known = set(registry)
        below = {split: f"{id}/{split}" for split in SPLITS if f"{id}/{split}" in known}
        below = {split: name for split, name in below.items() if registry[name].has("qrels")}
        if below:
            return below
    return {next((part for part in reversed(id.split("/")) if part in SPLITS), "test"): id}


def _find(id: str, registry):
    try:
        return registry[id]
    except KeyError:
        raise InputError(f"data.id: ir_datasets has no {id!r}; {_near(id, registry)}") from None


def _near(id: str, registry) -> str:
    below = [one for one in registry if one.startswith(f"{id}/")]
    near = below or get_close_matches(id, list(registry))
    return f"available: {shorten(near, 9)}" if near else "its ids are listed on ir-datasets.com"


def _queries(ids: Mapping[str, str], parts: Mapping[str, Any]) -> Iterator[Row]:
    """Those of all splits; one that several of them have alike comes once."""
    known: dict[str, Mapping[str, Any]] = {}
    for split, part in parts.items():
        for place, row in _rows(f"{ids[split]} queries", part.queries_iter):
            first = known.setdefault(row["query_id"], row)
            if first is row or first != row:
                yield place, row


def _rows(source: str, iterate: Callable[[], Iterator]) -> Iterator[Row]:
    """(place, fields) of what ir_datasets gives, ``default_text`` among them where it has one."""
    try:
        for number, item in enumerate(iterate()):
            text = getattr(item, "default_text", None)
            row = item._asdict()
            yield f"{source} row {number}", row if text is None else row | {"default_text": text()}
    except Exception as error:  # each of its sources fails in its own way
        reason = textwrap.shorten(str(error), 120) or type(error).__name__
        raise InputError(
            f"{source}: ir_datasets cannot get them ({reason}); offline, set "
            "IR_DATASETS_HOME to a folder that holds them, or give a copy: data=beir data.path=<folder>"
        ) from None
