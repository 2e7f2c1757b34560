"""Collections in BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, each also .gz."""

import json
import logging
from pathlib import Path
from typing import Literal

from rankdistill.data.collection import Collection
from rankdistill.data.lines import read_lines
from rankdistill.errors import InputError, shorten

log = logging.getLogger(__name__)
HIGHEST_GRADE = 1000  # measures keep a counter for every grade up to the highest


class _Faults:
    """Rows that cannot be used: the first few of each kind, and how many."""

    def __init__(self):
        self.found: dict[str, list[str]] = {}

    def add(self, kind: str, where: str) -> None:
        self.found.setdefault(kind, []).append(where)

    def settle(self, invalid: str) -> None:
        for kind, places in self.found.items():
            text = f"{len(places):,} {kind}: {shorten(places)}".replace("'", "")
            if invalid == "error":
                raise InputError(f"{text}; mend the file, or drop such rows: data.invalid=skip")
            log.warning("skipped %s", text)


def read_beir(
    path: str | Path,
    name: str | None = None,
    invalid: Literal["error", "skip"] = "error",
) -> Collection:
    """The collection in folder ``path``; a document's text is its title and text with a space.

    Empty texts, repeated ids and judgments of queries or documents that aren't there raise
    ``InputError`` (``invalid="error"``) or are dropped and counted in the log (``"skip"``).
    Malformed lines and missing files always raise.
    """
    folder = Path(path)
    if invalid not in ("error", "skip"):
        raise InputError(f"invalid={invalid!r}: it is 'error' or 'skip'")
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder (a BEIR folder holds corpus.jsonl, queries.jsonl, qrels/)"
        )
    faults = _Faults()
    documents = _read_texts(_find(folder / "corpus.jsonl"), ("title", "text"), faults)
    queries = _read_texts(_find(folder / "queries.jsonl"), ("text",), faults)
    files: dict[str, Path] = {}
    for file in sorted(folder.glob("qrels/*")):
        if file.name.endswith((".tsv", ".tsv.gz")):
            files.setdefault(file.name.removesuffix(".gz").removesuffix(".tsv"), file)
    if not files:
        raise InputError(f"{folder / 'qrels'}: no <split>.tsv (query, document and grade, tab-separated)")
    qrels = {split: _read_qrels(file, queries, documents, faults) for split, file in files.items()}
    faults.settle(invalid)
    return Collection(
        name or folder.resolve().name,
        list(documents),
        list(documents.values()),
        list(queries),
        list(queries.values()),
        qrels,
    )


def write_beir(collection: Collection, folder: Path) -> None:
    """Writes ``collection`` to ``folder`` in BEIR layout."""
    (folder / "qrels").mkdir(parents=True)
    for file, ids, texts in (
        ("corpus.jsonl", collection.document_ids, collection.documents),
        ("queries.jsonl", collection.query_ids, collection.queries),
    ):
        with open(folder / file, "w", encoding="utf-8") as out:
            for id_, text in zip(ids, texts, strict=True):
                out.write(json.dumps({"_id": id_, "text": text}, ensure_ascii=False) + "\n")
    for split, judged in collection.qrels.items():
        with open(folder / "qrels" / f"{split}.tsv", "w", encoding="utf-8") as out:
            out.write("query-id\tcorpus-id\tscore\n")
            for query, grades in judged.items():
                out.writelines(f"{query}\t{document}\t{grade}\n" for document, grade in grades.items())


def _find(file: Path) -> Path:
    for candidate in (file, file.with_name(file.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise InputError(f"{file}: no such file (nor {file.name}.gz)")


def _read_texts(file: Path, fields: tuple[str, ...], faults: _Faults) -> dict[str, str]:
    texts: dict[str, str] = {}
    for place, line in read_lines(file):
        try:
            row = json.loads(line)
            if not isinstance(row["_id"], (str, int)) or isinstance(row["_id"], bool):
                raise TypeError
            key = str(row["_id"])
            text = " ".join(row[field] for field in fields if row.get(field) is not None).strip()
            f"{key}{text}".encode()  # lone surrogates are no text
        except json.JSONDecodeError as error:
            raise InputError(f"{place}: malformed JSON ({error.msg} at column {error.colno})") from None
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            raise InputError(
                f"{place}: expected an object with the strings _id and {' and '.join(fields)}"
            ) from None
        if not text:
            faults.add("empty texts", place)
        elif key.split() != [key]:
            faults.add("ids that are empty or hold white space, which no run file can", f"{place} ({key!r})")
        elif key in texts:
            faults.add("duplicate ids", f"{place} ({key})")
        else:
            texts[key] = text
    if not texts:
        raise InputError(f"{file}: no row in it")
    return texts


def _read_qrels(file: Path, queries, documents, faults: _Faults) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for place, line in read_lines(file):
        cells = line.split("\t")
        if len(cells) == 4:  # TREC: query, iteration, document, grade
            cells = [cells[0], *cells[2:]]
        try:
            query, document, value = cells
            grade = float(value)
            if not grade.is_integer() or abs(grade) > HIGHEST_GRADE or "_" in value:
                raise ValueError
        except ValueError:
            if place.endswith(":1") and len(cells) == 3 and cells[0] not in queries:
                continue  # the header
            raise InputError(
                f"{place}: expected query, document and a whole grade up to {HIGHEST_GRADE}, tab-separated"
            ) from None
        if query not in queries:
            faults.add("judgments of unknown queries", f"{place} ({query})")
        elif document not in documents:
            faults.add("judgments of unknown documents", f"{place} ({document})")
        elif qrels.get(query, {}).get(document, grade) != grade:
            faults.add("judgments that contradict an earlier one", f"{place} ({query}, {document})")
        else:
            qrels.setdefault(query, {})[document] = int(grade)
    return qrels
