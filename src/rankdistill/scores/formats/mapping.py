"""Scores as a mapping, query id -> document id -> score: one JSON object, or one per line."""

import gzip
import json
import re
import shlex
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rankdistill.data.collection import Collection
from rankdistill.data.lines import GZIP, not_text
from rankdistill.errors import InputError
from rankdistill.scores.formats.files import pools, writing
from rankdistill.scores.formats.jsonl import in_chunks, number
from rankdistill.scores.formats.triples import Invalid, to_table
from rankdistill.scores.table import ScoreTable

BLOCK = 1 << 20  # characters read at a time
MARK = re.compile(r"[\s,]*")


class Pairs(list):
    """A JSON object's keys and values; a dictionary would lose a key that is there twice."""


def read_json(path: str | Path, collection: Collection, invalid: Invalid = "error") -> ScoreTable:
    """Reads ``{query id: {document id: score}}``, also gzipped, a query at a time.

    sentence-transformers publishes its MS MARCO scores as a pickle of this mapping, which runs code
    when it is read: for such a file the error says how to convert it. Raises ``InputError`` for
    anything else in it too; see ``to_table``.
    """
    path = Path(path)
    if is_pickle(path):
        raise InputError(
            f"{path}: pickles run code when they are read, and are not; if you trust it, convert it: "
            + conversion(path)
        )

    def scored() -> Iterator[tuple[str, list[str], list[float]]]:
        for query, documents in members(path):
            place = f"{path}: query {query!r}"
            if not isinstance(documents, Pairs):
                raise InputError(f"{place}: expected document ids and scores, got {str(documents)[:60]!r}")
            yield query, [d for d, _ in documents], [number(score, place) for _, score in documents]

    return to_table(in_chunks(scored()), collection, path, invalid)


def is_pickle(path: str | Path) -> bool:
    """By its name."""
    return bool({".pkl", ".pickle"} & set(Path(path).suffixes))


def conversion(path: Path) -> str:
    """A command that writes scores.json of the pickle at ``path``, gzipped or not, of any numbers."""
    try:
        with open(path, "rb") as file:
            gzipped = file.read(2) == GZIP
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    code = (
        f"import json, pickle, sys{', gzip' if gzipped else ''}; "
        f'found = pickle.load({"gzip." if gzipped else ""}open(sys.argv[1], "rb")); '
        "scores = {str(q): {str(d): float(s) for d, s in pool.items()} for q, pool in found.items()}; "
        'json.dump(scores, open("scores.json", "w"))'
    )
    return shlex.join(["python", "-c", code, str(path)])


def write_json(table: ScoreTable, path: str | Path) -> None:
    """Writes one JSON object, a query per line; raises ``InputError`` for a pickle's name."""
    if is_pickle(path):
        raise InputError(f"{path}: pickles run code when they are read, and none is written; name it .json")
    ids = table.collection.document_ids
    with writing(path) as out:
        separator = "{\n"
        for query, rows, scores, _ in pools(table):
            documents = {ids[row]: float(f"{score:.9g}") for row, score in zip(rows, scores, strict=True)}
            out.write(f"{separator}{json.dumps(query)}: {json.dumps(documents)}")
            separator = ",\n"
        out.write("\n}\n")


def _past_marks(text: str, at: int) -> int:
    """Where white space and commas from ``at`` on end."""
    marks = MARK.match(text, at)
    return at if marks is None else marks.end()


def members(path: Path) -> Iterator[tuple[str, Any]]:
    """Key and value of each member of the JSON objects in ``path``, one in memory at a time.

    A value that is an object is ``Pairs``.
    """
    decoder = json.JSONDecoder(object_pairs_hook=Pairs)
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as file:
            text, at, inside = file.read(BLOCK), 0, False
            while True:
                at = _past_marks(text, at)
                try:
                    if not inside and text[at : at + 1] == "{":
                        at, inside = at + 1, True
                    elif inside and text[at : at + 1] == "}":
                        at, inside = at + 1, False
                    else:
                        key, end = decoder.raw_decode(text, at)
                        end = _past_marks(text, end)
                        if not inside or not isinstance(key, str) or text[end : end + 1] not in ("", ":"):
                            raise InputError(
                                f"{path}: expected {{query id: {{document id: score}}}}; of a list, "
                                "as RankLLM writes its results, take the TREC run"
                            )
                        value, at = decoder.raw_decode(text, _past_marks(text, end + 1))
                        yield key, value
                except json.JSONDecodeError as error:
                    more = file.read(max(BLOCK, len(text)))  # as much again: no text is parsed too often
                    if more:
                        text, at = text[at:] + more, 0
                    elif not inside and not text[at:].strip():
                        return
                    else:
                        raise InputError(
                            f"{path}: malformed JSON, or cut short ({error.msg}) at {text[at : at + 60]!r}"
                        ) from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error, IsADirectoryError) as error:
        raise InputError(not_text(path, error)) from None
    except InputError:
        raise
    except (ValueError, RecursionError):
        raise InputError(f"{path}: malformed JSON (a number too large, or nested too deeply)") from None
