"""From the rows of a reader to a collection: ids, texts by template, judgments, what is wrong with them."""

from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

from rankdistill.data.collection import Collection
from rankdistill.data.faults import Faults
from rankdistill.errors import InputError, half_a_character, shorten

HIGHEST_GRADE = 1000  # measures keep a counter for every grade up to the highest

Row = tuple[str, Mapping[str, Any]]  # its place in the file, and its fields

# What the fields are called in BEIR and on the hub, in ir_datasets, in files of qrels, and here; of several
# that a row has, the first here is meant: beside an id, "query" is its text.
ID = ("_id", "id", "query_id", "doc_id")  # some queries of ir_datasets name a document as well
QUERY = ("query-id", "query_id", "queryid", "qid", "topic_id", "query", "topic")
DOCUMENT = (
    *("corpus-id", "corpus_id", "doc_id", "doc-id", "docid", "docno", "document_id", "document-id"),
    *("passage_id", "passage-id", "pid", "document", "passage", "doc"),
)
GRADE = ("score", "relevance", "grade", "rel", "relevancy")
INDEX = "__index_level_"  # how pandas calls its row numbers in a Parquet file


def assemble(
    name: str,
    documents: tuple[str, Iterable[Row]],
    queries: tuple[str, Iterable[Row]],
    qrels: Mapping[str, Iterable[Row]],
    document_template: str | None = None,
    query_template: str | None = None,
    invalid: str = "error",
    ignore_identical_ids: bool | None = None,
) -> Collection:
    """The collection of a reader's rows; ``documents`` and ``queries`` are (where from, rows).

    A template such as ``{title}: {text}`` makes a row's text of its fields, a missing one being
    empty; by default that is title and text with a space, of queries the text.

    Empty texts, repeated ids and judgments of queries or documents that aren't there raise
    ``InputError`` (``invalid="error"``) or are dropped and counted in the log (``"skip"``).
    Rows without the fields they must have always raise. ``ignore_identical_ids`` is the collection's.
    """
    if invalid not in ("error", "skip"):
        raise InputError(f"invalid={invalid!r}: it must be 'error' or 'skip'")
    parts = _parts("document_template", document_template or "{title} {text}")
    query_parts = _parts("query_template", query_template or "{text}")
    faults = Faults()
    assembled = _texts(*documents, parts, document_template is not None, faults)
    asked = _texts(*queries, query_parts, query_template is not None, faults)
    judged = {split: _judgments(rows, asked, assembled, faults) for split, rows in qrels.items()}
    faults.settle(invalid)
    texts = list(assembled), list(assembled.values()), list(asked), list(asked.values())
    return Collection(name, *texts, judged, ignore_identical_ids)


def texts_by_id(source: str, rows: Iterable[Row]) -> dict[str, str]:
    """Id -> text of rows with an id and a ``text``; raises ``InputError`` if one is empty, or there twice."""
    faults = Faults()
    texts = _texts(source, rows, _parts("template", "{text}"), False, faults)
    for kind, places in faults.found.items():
        raise InputError(f"{len(places):,} {kind}: {shorten(places)}")
    return texts


def _parts(name: str, template: str) -> list[tuple[str, str | None]]:
    """``template`` as (the text before a field, the field); the last field may be None."""
    try:
        parts = list(Formatter().parse(template))
    except (TypeError, ValueError) as error:
        raise InputError(f"data.{name}={template!r}: {error}") from None
    fields = [part for part in parts if part[1] is not None]
    if not fields or any(not field or spec or conversion for _, field, spec, conversion in fields):
        raise InputError(f"data.{name}={template!r}: it names fields in braces, such as {{title}}: {{text}}")
    return [(before, field) for before, field, _, _ in parts]


def _texts(
    source: str, rows: Iterable[Row], parts: list[tuple[str, str | None]], strict: bool, faults: Faults
) -> dict[str, str]:
    """Id -> text. Where ``strict``, some row must have each field of the template, else any of them."""
    texts: dict[str, str] = {}
    fields = list(dict.fromkeys(field for _, field in parts if field is not None))
    lacking, seen = set(fields), dict[str, None]()
    for place, row in rows:
        if lacking:
            lacking -= row.keys()
            seen |= dict.fromkeys(row)
        key = _key(_field(place, row, ID))
        values: dict[str | None, Any] = {
            field: "" if row.get(field) is None else row[field] for field in fields
        }
        try:
            text = "".join([before + values.get(field, "") for before, field in parts]).strip()
            f"{key}{text}".encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{place}: {half_a_character(error)}") from None
        except TypeError:
            key = None
        if key is None:
            raise InputError(f"{place}: expected an id and the strings {' and '.join(fields)}")
        if not any(map(str.strip, values.values())):
            faults.add("empty texts", place)
        elif key.split() != [key]:
            faults.add("ids that are empty or hold white space, which no run file can", f"{place} ({key!r})")
        elif key in texts:
            faults.add("duplicate ids", f"{place} ({key})")
        else:
            texts[key] = text
    if seen and (len(lacking) == len(fields) or (strict and lacking)):
        raise InputError(
            f"{source}: no row has the field {' or '.join(sorted(lacking))}; available: {_names(seen)}; "
            "data.document_template and data.query_template say which are read"
        )
    if not texts:
        reasons = "; ".join(f"{len(where):,} {kind}: {where[0]}" for kind, where in faults.found.items())
        raise InputError(f"{source}: no usable row in it" + (f" ({reasons})" if reasons else ""))
    return texts


def _judgments(
    rows: Iterable[Row], queries: Container[str], documents: Container[str], faults: Faults
) -> dict[str, dict[str, int]]:
    """Query -> document -> grade; rows of a query and a document alone are judgments of grade 1."""
    qrels: dict[str, dict[str, int]] = {}
    for place, row in rows:
        query, document = (_key(_field(place, row, names)) for names in (QUERY, DOCUMENT))
        named = [name for name in row if not name.startswith(INDEX)]
        grade = 1 if len(named) == 2 else _grade(_field(place, row, GRADE))
        if query is None or document is None or grade is None:
            if place.endswith(":1") and (query not in queries or document not in documents):
                continue  # a file's header
            raise InputError(
                f"{place}: expected query, document and a whole grade up to {HIGHEST_GRADE}; got "
                f"{', '.join(repr(value) for value in row.values())[:90]}"
            )
        if query not in queries:
            faults.add("judgments of unknown queries", f"{place} ({query})", query, queries)
        elif document not in documents:
            faults.add("judgments of unknown documents", f"{place} ({document})", document, documents)
        elif qrels.get(query, {}).get(document, grade) != grade:
            faults.add("judgments that contradict an earlier one", f"{place} ({query}, {document})")
        else:
            qrels.setdefault(query, {})[document] = grade
    return qrels


def _field(place: str, row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of ``names`` that ``row`` has."""
    for name in names:
        if name in row:
            return row[name]
    raise InputError(f"{place}: no field {' or '.join(names)}; available: {_names(row)}")


def _names(fields: Iterable[Any]) -> str:
    return ", ".join(map(str, fields))


def _key(value: Any) -> str | None:
    return str(value) if isinstance(value, str) or type(value) is int else None


def _grade(value: Any) -> int | None:
    """A whole number up to the highest grade, else None."""
    if isinstance(value, bool) or "_" in str(value) or not str(value).isascii():
        return None
    try:
        grade = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(grade) if grade.is_integer() and abs(grade) <= HIGHEST_GRADE else None
