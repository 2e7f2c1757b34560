"""Collections in BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, each also .gz."""

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import BinaryIO, Literal, cast

from rankdistill.data.collection import Collection
from rankdistill.data.lines import read_judgments, read_objects
from rankdistill.data.rows import assemble
from rankdistill.errors import InputError
from rankdistill.runtime.checked import checked

BLOCK = 1 << 20  # bytes that are compared at once
SPLIT = re.compile(r"(.+)\.(?:tsv|TSV)(?:\.gz)?")  # the name of a file of judgments


@checked
def read_beir(
    path: str | Path,
    name: str | None = None,
    document_template: str | None = None,
    query_template: str | None = None,
    invalid: Literal["error", "skip"] = "error",
    ignore_identical_ids: bool | None = None,
) -> Collection:
    """The collection in folder ``path``; templates, ``invalid`` and the last are those of every reader.

    A template such as ``{title}: {text}`` makes a row's text of its fields; by default that is
    title and text with a space, of queries the text. Empty texts, repeated ids and judgments of
    queries or documents that aren't there raise ``InputError`` (``invalid="error"``) or are dropped
    and counted in the log (``"skip"``). Malformed lines and missing files always raise.
    ``ignore_identical_ids``: see ``Collection``.
    """
    if not str(path):
        raise InputError("path='': it is empty; name a folder with corpus.jsonl, queries.jsonl and qrels/")
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder (a BEIR folder holds corpus.jsonl, queries.jsonl, qrels/)"
        )
    corpus, queries = _find(folder / "corpus.jsonl"), _find(folder / "queries.jsonl")
    files: dict[str, Path] = {}
    for file in sorted(folder.glob("qrels/[!.]*")):  # ._train.tsv is macOS's, of train.tsv
        if (named := SPLIT.fullmatch(file.name)) is None:
            continue
        first = files.setdefault(named[1], file)
        if first != file:
            _check_same(first, file)
    if not files:
        raise InputError(f"{folder / 'qrels'}: no <split>.tsv (query, document and grade, tab-separated)")
    return assemble(
        name or folder.resolve().name,
        (str(corpus), read_objects(corpus)),
        (str(queries), read_objects(queries)),
        {split: read_judgments(file) for split, file in files.items()},
        document_template,
        query_template,
        invalid,
        ignore_identical_ids,
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
            packed = file.with_name(file.name + ".gz")
            if candidate == file and packed.is_file():
                _check_same(file, packed)
            return candidate
    raise InputError(f"{file}: no such file (nor {file.name}.gz)")


def _check_same(read: Path, other: Path) -> None:
    """Raises ``InputError`` unless both files have the same text: which one is meant then is open."""
    try:
        with _opened(read) as one, _opened(other) as two:
            same, more = True, True
            while same and more:
                block = one.read(BLOCK)
                same, more = block == two.read(BLOCK), bool(block)
    except (OSError, EOFError, zlib.error):
        same = False
    if not same:
        raise InputError(
            f"{read}: {other.name} beside it differs, and either may be meant; keep one of the two"
        )


def _opened(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file) if file.suffix == ".gz" else open(file, "rb"))
