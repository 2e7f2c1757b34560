"""Collections from the Hugging Face hub in the layouts of BEIR, NanoBEIR and MTEB, or copies of them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetDict, load_dataset
from datasets.exceptions import DatasetsError

from rankdistill.data.collection import Collection
from rankdistill.data.frames import BLOCK, rows_of
from rankdistill.data.lines import read_judgments, read_objects
from rankdistill.data.rows import Row, assemble
from rankdistill.data.shards import check_whole
from rankdistill.errors import InputError
from rankdistill.runtime.checked import checked
from rankdistill.runtime.reach import asking_hub


@checked
def read_hub(
    name: str | Path,
    document_template: str | None = None,
    query_template: str | None = None,
    invalid: Literal["error", "skip"] = "error",
    ignore_identical_ids: bool | None = None,
) -> Collection:
    """The dataset ``name`` on the hub, or a folder with the same files.

    Documents and queries are its configurations ``corpus`` and ``queries``, the qrels ``qrels``
    (NanoBEIR), ``default`` (MTEB) or the dataset ``<name>-qrels`` (BEIR); their split ``validation``
    is called ``dev``. A folder holds ``corpus``, ``queries`` and ``qrels`` (or lies beside
    ``<name>-qrels``) as folders of parquet, JSONL or, for qrels, TSV files, or as single files.
    Templates, ``invalid`` and the last are those of ``read_beir``.

    Raises ``InputError`` if the dataset cannot be loaded or has another layout.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir() and str(name).startswith((".", "/", "~")):
        raise InputError(f"{name}: no such folder")
    documents, queries, qrels = _local(folder) if folder.is_dir() else _remote(str(name))
    if "validation" in qrels and "dev" not in qrels:  # what the hub's library makes of a file dev.tsv
        qrels["dev"] = qrels.pop("validation")
    return assemble(
        folder.resolve().name,
        (f"{name} corpus", documents),
        (f"{name} queries", queries),
        qrels,
        document_template,
        query_template,
        invalid,
        ignore_identical_ids,
    )


def _remote(name: str) -> tuple[Iterator[Row], Iterator[Row], dict[str, Iterator[Row]]]:
    corpus, queries = _load((name, "corpus")), _load((name, "queries"))
    qrels = _load((name, "qrels"), (name, "default"), (f"{name}-qrels", None))
    return (
        chain.from_iterable(rows_of(f"{name} corpus", part) for part in corpus.values()),
        chain.from_iterable(rows_of(f"{name} queries", part) for part in queries.values()),
        {split: rows_of(f"{name} qrels {split}", part) for split, part in qrels.items()},
    )


def _load(place: tuple[str, str | None], *others: tuple[str, str | None]) -> DatasetDict:
    """The dataset and configuration ``place``, or the first of ``others``; none of their code runs."""
    try:
        with asking_hub():
            return load_dataset(*place)
    except (ValueError, OSError, RuntimeError, DatasetsError) as error:
        if others and isinstance(error, ValueError):  # the dataset has no such configuration
            return _load(*others)
        name, config = place
        reason = str(error).split("\n")[0].rstrip(".")
        raise InputError(
            f"{name}: {config or 'it'} cannot be loaded from the hub ({reason}); offline, give the folder "
            "of a copy: data.name=<folder>, or data=beir data.path=<folder>"
        ) from None


def _local(folder: Path) -> tuple[Iterator[Row], Iterator[Row], dict[str, Iterator[Row]]]:
    beside = folder.resolve()
    beside = beside.with_name(f"{beside.name}-qrels")
    qrels: dict[str, list[Path]] = {}
    for file in _files(folder, "qrels", TABLES | JUDGMENTS, beside):
        qrels.setdefault(_split(file), []).append(file)
    return (
        _read(_files(folder, "corpus", TABLES)),
        _read(_files(folder, "queries", TABLES)),
        {split: _read(files) for split, files in qrels.items()},
    )


def _split(file: Path) -> str:
    """That of a file of judgments: its name, or its folder's where it is a number; ``test`` of ``qrels``."""
    name = re.sub(r"-\d+-of-\d+$", "", file.name.removesuffix(".gz").rpartition(".")[0])
    name = file.parent.name if name.isdecimal() else name
    return "test" if name == "qrels" else name


def _files(
    folder: Path, kind: str, readers: Mapping[str, Callable], beside: Path | None = None
) -> list[Path]:
    """The files of ``kind`` in ``folder``, or those ``beside`` it."""
    files = sorted([*folder.glob(f"{kind}.*"), *folder.glob(f"{kind}/**/*")])
    files = files or (sorted(beside.glob("**/*")) if beside else [])
    files = [file for file in files if _kind(file) in readers and file.name[0] != "."]
    if not files:
        kinds = " or ".join(f"{kind}/*{suffix}" for suffix in readers)
        raise InputError(f"{folder}: no {kinds} in it" + (f", nor in {beside}" if beside else ""))
    check_whole(files)
    return files


def _kind(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _read(files: Sequence[Path]) -> Iterator[Row]:
    for file in files:
        yield from (TABLES | JUDGMENTS)[_kind(file)](file)


def _read_parquet(file: Path) -> Iterator[Row]:
    number = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(BLOCK):
            for row in batch.to_pylist():
                yield f"{file} row {number}", row
                number += 1
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not Parquet, or cut short ({str(error).split(chr(10))[0]})") from None


TABLES = {".parquet": _read_parquet, ".jsonl": read_objects}
JUDGMENTS = {".tsv": read_judgments}
