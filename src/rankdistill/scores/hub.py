"""Score tables on a hub of datasets: ids and numbers alone, as the ecosystem exchanges them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from rankdistill.errors import InputError
from rankdistill.runtime.reach import asking_hub

if TYPE_CHECKING:
    from rankdistill.scores.table import ScoreTable

QUERIES = 10_000  # in a batch
FILES = (".parquet", ".arrow", ".feather")
SCHEMA = pa.schema(
    {
        "query_id": pa.string(),
        "document_ids": pa.large_list(pa.string()),
        "scores": pa.large_list(pa.float32()),
    }
)


def id_only(table: "ScoreTable") -> pa.RecordBatchReader:
    """Columns query_id, document_ids, scores, a row per query, the retriever's best documents first.

    The fingerprints of collection, candidates and teacher are the schema's metadata.
    """
    schema = SCHEMA.with_metadata(fingerprints(table))
    return pa.RecordBatchReader.from_batches(schema, _batches(table, schema))


def fingerprints(table: "ScoreTable") -> dict[str, str]:
    return {
        "collection": table.collection.fingerprint,
        "candidates": table.candidates.fingerprint,
        "teacher": table.teacher,
    }


def _batches(table: "ScoreTable", schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    candidates, collection = table.candidates, table.collection
    ids = pa.array(list(collection.document_ids), pa.string())
    for first in range(0, len(candidates), QUERIES):
        offsets = candidates.offsets[first : first + QUERIES + 1]
        span = slice(offsets[0], offsets[-1])
        owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        order = np.lexsort((candidates.best_ranks(span), owners))
        starts = pa.array(offsets - offsets[0], pa.int64())
        queries = candidates.query_rows[first : first + QUERIES]
        columns = [
            pa.array([collection.query_ids[row] for row in queries], pa.string()),
            pa.LargeListArray.from_arrays(starts, ids.take(pa.array(candidates.document_rows[span][order]))),
            pa.LargeListArray.from_arrays(starts, pa.array(table.scores[span][order], pa.float32())),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def is_hub_name(path: str | Path) -> bool:
    """Whether ``path`` can only be a hub's dataset: owner/name, and no file or folder."""
    named = re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) and not str(path).startswith(".")
    return bool(named) and not str(path).endswith(FILES) and not Path(path).exists()


def hub_batches(name: str, subset: str | None, split: str) -> Iterator[pa.RecordBatch]:
    """The rows of the dataset ``name`` of a hub; raises ``InputError`` if it cannot be loaded."""
    import datasets

    try:
        with asking_hub():
            dataset = datasets.load_dataset(name, subset, split=split)
    except Exception as error:  # of the network, the hub, the dataset's layout
        raise InputError(
            f"{name}: no such file, and no dataset {_line(error)}; offline, give the path of a local copy "
            "(a Parquet file, or a folder of them)"
        ) from None
    for part in dataset.with_format("arrow").iter(QUERIES):
        yield from part.to_batches()


def is_saved(path: Path) -> bool:
    """Whether ``path`` is a folder that ``save_to_disk`` of the library datasets wrote."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def disk_batches(path: Path, split: str) -> Iterator[pa.RecordBatch]:
    """The rows of such a folder, of several splits those of ``split``; raises ``InputError`` without it."""
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except Exception as error:  # of whatever is damaged there
        raise InputError(
            f"{path}: a saved dataset that cannot be read {_line(error)}; save it again"
        ) from None
    if isinstance(dataset, datasets.DatasetDict):
        if split not in dataset:
            raise InputError(
                f"{path}: no split {split!r}; available: {', '.join(dataset)} "
                "(teacher.options={split: ...})"
            )
        dataset = dataset[split]
    for part in dataset.with_format("arrow").iter(QUERIES):
        yield from part.to_batches()


def push(table: "ScoreTable", repo_id: str, private: bool = False) -> None:
    """Uploads ``table`` and its card; raises ``InputError`` where the hub cannot be reached."""
    import datasets
    from huggingface_hub import DatasetCard

    rows = id_only(table).read_all().replace_schema_metadata(None)
    try:
        with asking_hub():
            datasets.Dataset(rows).push_to_hub(repo_id, private=private)
            uploaded = DatasetCard.load(repo_id)
            uploaded.text = card(table, repo_id)  # below the fields that describe the files
            uploaded.push_to_hub(repo_id, repo_type="dataset")
    except Exception as error:  # of the network, the hub, or a name that it doesn't take
        raise InputError(
            f"{repo_id}: cannot be pushed ({_line(error)}); write a file for later: write_scores(table, "
            "'scores.parquet')"
        ) from None


def card(table: "ScoreTable", repo_id: str) -> str:
    """The dataset's README: what was scored by whom, and how to read it."""
    collection, identities = table.collection, fingerprints(table)
    return f"""
# Teacher scores of {collection.name}

{len(table):,} queries with {len(table.scores):,} scored documents, ids and numbers only: a row holds a
`query_id`, its `document_ids` and their `scores`.

| | fingerprint |
|---|---|
| collection {collection.name}, {len(collection.documents):,} documents | `{identities["collection"]}` |
| candidates | `{identities["candidates"]}` |
| teacher | `{identities["teacher"]}` |

```python
import rankdistill as rd

table = rd.read_scores("{repo_id}", collection)
```
"""


def _line(error: Exception) -> str:
    return f"({type(error).__name__}: {' '.join(str(error).split())[:200]})"
