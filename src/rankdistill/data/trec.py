"""Collections in TREC's files: topics, qrels, and a corpus as TSV or JSONL."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

from rankdistill.data.collection import Collection
from rankdistill.data.lines import read_judgments, read_lines, read_objects
from rankdistill.data.rows import Row, assemble
from rankdistill.errors import InputError

TAG = re.compile(r"^\s*<(\w+)>", re.MULTILINE)
LABEL = re.compile(r"\A\s*(?:Number|Topic|Description|Narrative)\s*:", re.IGNORECASE)
FIELDS = {"num": "id", "desc": "description", "narr": "narrative"}  # other tags keep their names


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
    perhaps ``title``) if its name says so, else TSV (id, text). Topics are TSV, or TREC's ``<top>``
    with the fields ``title``, ``description`` and ``narrative``, whose text is the title. Each file
    may be gzipped. Templates, ``invalid`` and the last are those of ``read_beir``.
    """
    files = [topics] if isinstance(topics, str | Path) else topics
    splits = qrels if isinstance(qrels, Mapping) else {"test": qrels}
    source = Path(corpus)
    read = read_objects if source.name.removesuffix(".gz").endswith(".jsonl") else _read_tsv
    return assemble(
        source.resolve().parent.name,
        (str(source), read(source)),
        (", ".join(map(str, files)), chain.from_iterable(_read_topics(Path(file)) for file in files)),
        {split: read_judgments(Path(file)) for split, file in splits.items()},
        document_template,
        query_template,
        invalid,
        ignore_identical_ids,
    )


def _read_tsv(file: Path) -> Iterator[Row]:
    for place, line in read_lines(file):
        cells = line.split("\t")
        if len(cells) != 2:
            raise InputError(f"{place}: expected id and text with one tab between, got {len(cells) - 1}")
        yield place, {"id": cells[0], "text": cells[1]}


def _read_topics(file: Path) -> Iterator[Row]:
    _, first = next(read_lines(file), ("", ""))
    return _read_top(file) if first.lstrip().startswith("<") else _read_tsv(file)


def _read_top(file: Path) -> Iterator[Row]:
    """(line of ``<top>``, fields) of each topic; in the oldest files no tag is closed."""
    start, lines, topics = None, [], 0
    for place, line in read_lines(file):
        tag = line.strip().lower()
        if tag == "<top>":
            if start is not None:
                break
            start, lines = place, []
        elif tag == "</top>" and start is not None:
            row = dict(_fields("\n".join(lines)))
            yield start, {**row, "text": row.get("title")}
            start, topics = None, topics + 1
        else:
            lines.append(line)
    if start is not None:
        raise InputError(f"{start}: <top> without </top>")
    if not topics:
        raise InputError(f"{file}: no <top> in it; topics are <top> <num> <title>, or lines of id <tab> text")


def _fields(topic: str) -> Iterator[tuple[str, str]]:
    _, *found = TAG.split(topic)
    for tag, value in zip(found[::2], found[1::2], strict=True):
        value = LABEL.sub("", re.sub(rf"</{tag}>", "", value))
        yield FIELDS.get(tag.lower(), tag.lower()), " ".join(value.split())
