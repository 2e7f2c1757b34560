"""Collections in TREC's files: topics, qrels, and a corpus as TSV or JSONL."""

import logging
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Literal

from rankdistill.data.collection import Collection
from rankdistill.data.lines import read_judgments, read_lines, read_objects
from rankdistill.data.rows import DOCUMENT, ID, QUERY, Row, assemble
from rankdistill.errors import InputError
from rankdistill.runtime.checked import checked

log = logging.getLogger(__name__)
TOP = re.compile(r"<(/?)top(?:\s[^>]*)?>", re.IGNORECASE)
FIELD = re.compile(r"<(num|title|desc|narr)>", re.IGNORECASE)  # anywhere in a line; a title may hold <i>
TAG = re.compile(rf"{FIELD.pattern}|^[^\S\n]*<(\w+)>", re.IGNORECASE | re.MULTILINE)
LABEL = re.compile(r"\A\s*(?:Number|Topic|Description|Narrative)\s*:", re.IGNORECASE)
TEXT = ("text", "query", "title", "question", "content", "contents", "body", "document", "passage")
HEADER = ({*ID, *QUERY, *DOCUMENT, "number"}, {*TEXT})
FIELDS = {"num": "id", "desc": "description", "narr": "narrative"}  # other tags keep their names


@checked
def read_trec(
    topics: str | Sequence[str],
    qrels: str | Mapping[str, str],
    corpus: str,
    document_template: str | None = None,
    query_template: str | None = None,
    invalid: Literal["error", "skip"] = "error",
    ignore_identical_ids: bool | None = None,
) -> Collection:
    """The collection of ``topics``, ``qrels`` (split -> file; one file is the split ``test``) and ``corpus``.

    Its name is that of the corpus's folder. A corpus is JSONL (fields ``_id`` or ``id``, ``text``,
    perhaps ``title``) if its name says so, else TSV (id, text, under a header or none). Topics are
    TSV, or TREC's ``<top>`` with the fields ``title``, ``description`` and ``narrative``, whose text is
    the title. Each file may be gzipped. Templates, ``invalid`` and the last are those of ``read_beir``.
    """
    files = [topics] if isinstance(topics, str | Path) else topics
    splits = qrels if isinstance(qrels, Mapping) else {"test": qrels}
    for split, file in splits.items():
        if not isinstance(file, str | Path):
            raise InputError(f"qrels: of {split} expected a file, got {file!r}; give each split one file")
    if not files:
        raise InputError("topics: none given; name a file, or several")
    source = Path(corpus)
    read = read_objects if source.name.removesuffix(".gz").endswith(".jsonl") else _read_tsv
    return assemble(
        source.resolve().parent.name,
        (str(source), read(source)),
        (
            ", ".join(map(str, files)),
            chain.from_iterable(_read_topics(Path(file), not query_template) for file in files),
        ),
        {split: read_judgments(Path(file)) for split, file in splits.items()},
        document_template,
        query_template,
        invalid,
        ignore_identical_ids,
    )


def _read_tsv(file: Path) -> Iterator[Row]:
    for number, (place, line) in enumerate(read_lines(file)):
        cells = line.split("\t")
        if len(cells) != 2:
            raise InputError(f"{place}: expected id and text with one tab between, got {len(cells) - 1}")
        if number == 0 and all(
            cell.strip().lower() in names for cell, names in zip(cells, HEADER, strict=True)
        ):
            log.info("%s: a header (%s), no row", place, ", ".join(cells))
            continue
        yield place, {"id": cells[0], "text": cells[1]}


def _read_topics(file: Path, need_title: bool) -> Iterator[Row]:
    _, first = next(read_lines(file), ("", ""))
    return _read_top(file, need_title) if first.lstrip().startswith("<") else _read_tsv(file)


def _read_top(file: Path, need_title: bool) -> Iterator[Row]:
    """(line of ``<top>``, fields) of each topic, by their tags; in the oldest files no field is closed."""
    places, lines = zip(*read_lines(file), strict=True)
    text = "\n".join(lines)
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    place, after, topics = None, 0, 0
    for tag in TOP.finditer(text):
        at = places[bisect_right(starts, tag.start()) - 1]
        content, after = text[after : tag.start()], tag.end()
        if not tag[1]:
            if place is not None:
                raise InputError(f"{place}: <top> without </top>")
            if re.search("<num>", content, re.IGNORECASE):
                raise InputError(f"{at}: <num> before this <top>, in no topic")
            place = at
            continue
        if place is None:
            raise InputError(f"{at}: </top> without <top>")
        row = _fields(place, content)
        for name in ("num", "title")[: 1 + need_title]:
            if FIELDS.get(name, name) not in row:
                remedy = "; data.query_template={description} reads another field" if name == "title" else ""
                raise InputError(f"{place}: a topic without <{name}>{remedy}")
        yield place, {**row, "text": row.get("title")}
        place, topics = None, topics + 1
    if place is not None:
        raise InputError(f"{place}: <top> without </top>")
    if topics and re.search("<num>", text[after:], re.IGNORECASE):
        raise InputError(f"{file}: <num> after the last </top>, in no topic")
    if not topics:
        raise InputError(f"{file}: no <top> in it; topics are <top> <num> <title>, or lines of id <tab> text")


def _fields(place: str, topic: str) -> dict[str, str]:
    """The fields of a topic; raises ``InputError`` for one that is there twice, as in a topic without end."""
    row: dict[str, str] = {}
    while tag := TAG.search(topic):
        name = (tag[1] or tag[2]).lower()
        following = FIELD.search(topic, tag.end())
        closing = re.compile(f"</{name}>", re.IGNORECASE).search(topic, tag.end())
        if closing and not (following and following.start() < closing.start()):
            rest, bracket, after = topic[closing.end() :].partition("<")  # bare text is the field's still
            value, topic = topic[tag.end() : closing.start()] + rest, bracket + after
        else:
            following = TAG.search(topic, tag.end())
            end = following.start() if following else len(topic)
            value, topic = topic[tag.end() : end], topic[end:]
        if tag[1] and FIELDS.get(name, name) in row:
            raise InputError(f"{place}: a topic with two <{name}>; end each topic with </top>")
        row[FIELDS.get(name, name)] = " ".join(LABEL.sub("", value).split())
    return row
