"""Exports that sentence-transformers' trainers take as they are."""

import json

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer
from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments as CrossEncoderArguments
from sentence_transformers.cross_encoder.losses import ListNetLoss
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.training_args import SentenceTransformerTrainingArguments

from rankdistill.errors import InputError
from rankdistill.scores.formats import read_scores, write_scores


def loaded(path):
    kind = "parquet" if path.suffix == ".parquet" else "json"
    cache = str(path.parent / "cache")
    return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache)


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl"])
def test_rows_by_hand(name, scored, tmp_path):
    """q0: d0 relevant, d4 not; q1: d1 and d2 relevant, d3 not; q2: d3 relevant, d5 not."""
    write_scores(scored, tmp_path / name, "tuples")
    third = float(np.float32(1 / 3))
    rows = [
        ("who", "text 0", "text 4", [-1.25, 2.5]),
        ("what", "text 1", "text 3", [0.1, 1e-7]),
        ("what", "text 2", "text 3", [third, 1e-7]),
        ("when", "text 3", "text 5", [7, -7]),
    ]
    found = [tuple(row.values()) for row in loaded(tmp_path / name)]
    assert [row[:3] for row in found] == [row[:3] for row in rows]
    np.testing.assert_allclose([row[3] for row in found], [row[3] for row in rows], rtol=1e-6)
    write_scores(scored, tmp_path / f"l{name}", "lists")
    first = loaded(tmp_path / f"l{name}")[0]
    assert first == {"query": "who", "docs": ["text 4", "text 0"], "labels": [2.5, -1.25]}


def test_all_of_a_pool_is_in_its_rows(table, tmp_path):
    """Every pair of a positive and another document of the pool, seven others to a row."""
    write_scores(table, tmp_path / "t.parquet", "tuples")
    found = loaded(tmp_path / "t.parquet")
    names = [f"negative_{i}" for i in range(1, 8)]
    assert found.column_names == ["anchor", "positive", *names, "scores"]
    pairs = {(row["anchor"], row["positive"], row[name]) for row in found for name in names}
    texts, expected = table.collection.documents, set()
    for i, query in enumerate(table.candidates.query_rows):
        rows, _, positive = table.pool(i)
        asked = table.collection.queries[query]
        expected |= {(asked, texts[p], texts[n]) for p in rows[positive] for n in rows[~positive]}
    assert pairs == expected


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl"])
@pytest.mark.parametrize(
    "names", [[f"negative_{i}" for i in range(1, 12)], ["negative", *(f"negative{i}" for i in range(1, 11))]]
)
def test_columns_that_are_sorted_by_name_keep_their_scores(names, name, collection, tmp_path):
    """negative_10 is the tenth, not the second; d0 is q0's positive."""
    texts = {"anchor": collection.queries[0], "positive": collection.documents[0]}
    texts |= dict(zip(names, collection.documents[1:12], strict=True))
    row = {key: texts[key] for key in sorted(texts)} | {"scores": [float(i) for i in range(12)]}
    assert list(row)[2:4] != names[:2] or list(row)[3] != names[1]
    if name == "t.jsonl":
        (tmp_path / name).write_text(json.dumps(row))
    else:
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / name)
    table = read_scores(tmp_path / name, collection, "tuples")
    rows, scores, _ = table.pool(0)
    assert rows.tolist() == scores.tolist() == list(range(12))
    assert table.candidates.ranks["file"].tolist() == list(range(12))


def test_pools_of_positives_alone_are_no_tuples(table_of, tmp_path):
    alone = table_of([[1.0, 2.0]], [[0, 1]])
    with pytest.raises(InputError, match="t.jsonl: no query has a relevant document and another"):
        write_scores(alone, tmp_path / "t.jsonl", "tuples")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        (
            "tuples",
            '{"anchor": "who", "positive": "text 0", "negative": "text 4", "scores": [1]}',
            "2 texts and 1",
        ),
        (
            "tuples",
            '{"anchor": "who", "positive": "text 0", "negative_a": "text 4", "scores": [1, 2]}',
            "negative_a does not say which negative it is; call the negatives negative_1, negative_2, ...",
        ),
        (
            "tuples",
            '{"anchor": "who", "positive": "text 0", "negative_1": "a", "negative1": "b", "scores": [1, 2]}',
            "which is first, negative_1 or negative1",
        ),
        ("tuples", '{"anchor": "who", "positive": 3, "scores": [1]}', "queries and documents are texts"),
        ("tuples", '{"anchor": "who", "positive": "text 0"}', "no field scores; available: anchor, positive"),
        ("lists", '{"query": "who", "docs": "text 0", "labels": [1]}', "docs is a list"),
    ],
)
def test_bad_rows_are_named(format, text, message, small, tmp_path):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(InputError, match=f"t.jsonl:1: {message}"):
        read_scores(tmp_path / "t.jsonl", small, format)


SETTINGS = {"max_steps": 1, "per_device_train_batch_size": 2, "report_to": "none", "save_strategy": "no"}
SETTINGS |= {"disable_tqdm": True, "use_cpu": True}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (losses.MarginMSELoss, "t.parquet"),
        (losses.DistillKLDivLoss, "t.jsonl"),
        (losses.MultipleNegativesRankingLoss, "t.parquet"),
    ],
)
def test_a_trainer_takes_the_tuples(kind, name, table, student_folder, tmp_path):
    write_scores(table, tmp_path / name, "tuples")
    model = SentenceTransformer(student_folder, device="cpu")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(str(tmp_path / "out"), **SETTINGS),
        train_dataset=loaded(tmp_path / name),
        loss=kind(model),
    )
    assert np.isfinite(trainer.train().training_loss)
    assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_cross_encoder_takes_the_lists(table, cross_encoder_folder, tmp_path):
    write_scores(table, tmp_path / "l.parquet", "lists")
    model = CrossEncoder(cross_encoder_folder, device="cpu")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainer = CrossEncoderTrainer(
        model=model,
        args=CrossEncoderArguments(str(tmp_path / "out"), **SETTINGS),
        train_dataset=loaded(tmp_path / "l.parquet"),
        loss=ListNetLoss(model),
    )
    assert np.isfinite(trainer.train().training_loss)
    assert any(not torch.equal(before[key], value) for key, value in model.state_dict().items())
