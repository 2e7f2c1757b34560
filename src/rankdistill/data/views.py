"""Another text for a teacher than for the student: rewritten queries, translations, prompts."""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rankdistill.data.collection import Collection
from rankdistill.data.lines import read_lines, read_objects
from rankdistill.data.rows import Row, texts_by_id
from rankdistill.errors import InputError, shorten
from rankdistill.runtime.cache import fingerprint

log = logging.getLogger(__name__)
Texts = Mapping[str, str] | str | Path  # id -> text, or a file of that


@dataclass(frozen=True)
class View:
    """What somebody else reads of a collection: the same ids with other texts.

    ``queries`` and ``documents`` are id -> text, or a file of that: JSON lines with ``_id`` and ``text``, or
    id and text with a tab between them, either gzipped or not. What has no text there keeps its own, and the
    log says how many. ``query_prompt`` and ``document_prompt`` come before each text. Raises ``InputError``
    for a file that cannot be read, or has a text of no query or document of the collection.
    """

    queries: Texts | None = None
    documents: Texts | None = None
    query_prompt: str = ""
    document_prompt: str = ""

    @property
    def fingerprint(self) -> str:
        """Changes with any text."""
        texts = (None if one is None else texts_of(one) for one in (self.queries, self.documents))
        return fingerprint(*texts, self.query_prompt, self.document_prompt)

    def of(self, collection: Collection) -> Collection:
        """``collection`` as it is read so."""
        return dataclasses.replace(
            collection,
            queries=_replaced(
                "queries", self.queries, self.query_prompt, collection.query_ids, collection.queries
            ),
            documents=_replaced(
                "documents",
                self.documents,
                self.document_prompt,
                collection.document_ids,
                collection.documents,
            ),
        )


def _replaced(
    kind: str, texts: Texts | None, prompt: str, ids: Sequence[str], own: Sequence[str]
) -> Sequence[str]:
    replacements = {} if texts is None else texts_of(texts)
    if texts is not None:
        known = replacements.keys() & set(ids)
        where = f"{texts}: " if isinstance(texts, (str, Path)) else ""
        if not known:
            raise InputError(
                f"{where}{kind}: a text of none of the {len(ids)} {kind}; it has {shorten(replacements)}"
            )
        log.info("%s%d of %d %s have another text for the teacher", where, len(known), len(ids), kind)
    if not replacements and not prompt:
        return own
    return [prompt + replacements.get(name, text) for name, text in zip(ids, own, strict=True)]


def texts_of(texts: Texts) -> dict[str, str]:
    """Id -> text; raises ``InputError`` as ``View`` says."""
    if isinstance(texts, Mapping):
        if odd := [name for name, text in texts.items() if not (isinstance(text, str) and text.strip())]:
            raise InputError(f"texts of {shorten(odd)} are empty or not text; give id: text")
        return dict(texts)
    file = Path(texts)
    jsonl = file.name.removesuffix(".gz").endswith((".jsonl", ".json"))
    return texts_by_id(str(file), read_objects(file) if jsonl else _tabbed(file))


def _tabbed(file: Path) -> Iterable[Row]:
    for place, line in read_lines(file):
        name, tab, text = line.partition("\t")
        if not tab:
            raise InputError(f"{place}: expected an id and a text with a tab between them; got {line[:60]!r}")
        yield place, {"_id": name, "text": text}
