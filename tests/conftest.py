"""A tiny collection and tiny random models, made here: tests need no hub and no downloads."""

import dataclasses
import json
import os
import resource
import shutil
import tempfile
from contextlib import contextmanager

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy and torch are imported: a test has one core
os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ["IR_DATASETS_HOME"] = os.path.join(tempfile.gettempdir(), "rankdistill_irds")  # likewise

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from commands import POOLS, tiny_arguments
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from rankdistill.candidates import BM25, Random, mine
from rankdistill.data import Candidates, Collection, read_beir
from rankdistill.scores import ScoreTable
from rankdistill.teachers import score_candidates

WORDS = [f"w{i}" for i in range(200)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Every test has a cold cache of its own."""
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def own_verbosity():
    """A trainer's log_level is transformers' of the whole process."""
    before = transformers.logging.get_verbosity()
    yield
    transformers.logging.set_verbosity(before)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@contextmanager
def at_most(size):
    """As ulimit -f: no file may grow beyond ``size`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_collection(folder, documents=60, queries=24, seed=0):
    """A BEIR folder: each document has words of its own, its query repeats a few of them."""
    rng = np.random.default_rng(seed)
    (folder / "qrels").mkdir(parents=True)
    texts = [" ".join(rng.choice(WORDS, rng.integers(4, 30))) for _ in range(documents)]
    with open(folder / "corpus.jsonl", "w") as out:
        out.writelines(
            json.dumps({"_id": f"d{i}", "title": "", "text": t}) + "\n" for i, t in enumerate(texts)
        )
    with open(folder / "queries.jsonl", "w") as out:
        for i in range(queries):
            out.write(json.dumps({"_id": f"q{i}", "text": " ".join(texts[i].split()[:4])}) + "\n")
    for split, chosen in (("train", range(0, queries - 8)), ("test", range(queries - 8, queries))):
        with open(folder / "qrels" / f"{split}.tsv", "w") as out:
            out.write("query-id\tcorpus-id\tscore\n")
            out.writelines(f"q{i}\td{i}\t1\n" for i in chosen)
    return folder


@pytest.fixture
def small_job(tmp_path, student_folder, cross_encoder_folder):
    """What sets up a training run of 12 queries on a collection and models that a test may change."""
    shutil.copytree(student_folder, tmp_path / "student")
    shutil.copytree(cross_encoder_folder, tmp_path / "teacher")
    return [
        "data=beir",
        f"data.path={write_collection(tmp_path / 'beir')}",
        f"student.model={tmp_path / 'student'}",
        "student.max_length=64",
        "teacher=cross_encoder",
        f"teacher.model={tmp_path / 'teacher'}",
        "teacher.max_length=64",
        *POOLS,
        "candidates.limit=12",
        "sampler.negatives=3",
        "trainer.per_device_train_batch_size=4",
        "trainer.gradient_accumulation_steps=1",
        "trainer.save_steps=1",
        "evaluation.teacher=false",
        "evaluator.limit=5",
        "plots=false",
    ]


def tables(collection):
    """A collection as three DataFrames: documents, queries, qrels."""
    rows = [
        (split, query, document, grade)
        for split, judged in collection.qrels.items()
        for query, grades in judged.items()
        for document, grade in grades.items()
    ]
    return (
        pd.DataFrame({"id": collection.document_ids, "text": collection.documents}),
        pd.DataFrame({"id": collection.query_ids, "text": collection.queries}),
        pd.DataFrame(rows, columns=["split", "query", "document", "grade"]),
    )


@pytest.fixture(scope="session")
def beir(tmp_path_factory):
    return write_collection(tmp_path_factory.mktemp("beir") / "tiny")


@pytest.fixture
def collection(beir):
    return read_beir(beir)


def irds_files(folder, **contents):
    """Files of these contents, as ir_datasets takes them."""
    import ir_datasets

    for name, text in contents.items():
        (folder / name).write_text(text)
    return {name: ir_datasets.util.LocalDownload(folder / name) for name in contents}


def irds_dataset(docs, queries, qrels=None):
    """A dataset of ir_datasets: a handler of documents, files of queries (TSV) and qrels (TREC)."""
    from ir_datasets import Dataset
    from ir_datasets.formats import TrecQrels, TsvQueries

    return Dataset(docs, TsvQueries(queries), TrecQrels(qrels, {}) if qrels else None)


@pytest.fixture
def irds(collection, tmp_path, monkeypatch):
    """A registry of ir_datasets that has only the tiny collection: tiny, tiny/train, tiny/test."""
    ir_datasets = pytest.importorskip("ir_datasets", reason="needs the extra irds")
    registry = ir_datasets.util.Registry()
    monkeypatch.setattr(ir_datasets, "registry", registry)
    documents, queries, qrels = tables(collection)
    lines = {
        split: (part["query"] + " 0 " + part["document"] + " " + part["grade"].astype(str) + "\n").sum()
        for split, part in qrels.groupby("split")
    }
    texts = {
        name: (frame["id"] + "\t" + frame["text"] + "\n").sum()
        for name, frame in (("docs", documents), ("queries", queries))
    }
    made = irds_files(tmp_path, **texts, **lines)
    docs = ir_datasets.formats.TsvDocs(made["docs"])
    registry.register("tiny", irds_dataset(docs, made["queries"]))
    for split in lines:
        registry.register(f"tiny/{split}", irds_dataset(docs, made["queries"], made[split]))
    return registry


def tiny_tokenizer():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(special + WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=64,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def tiny_config():
    return BertConfig(
        vocab_size=len(WORDS) + 5,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def save_student(folder):
    """A random bi-encoder; returns its path."""
    torch.manual_seed(0)
    BertModel(tiny_config()).save_pretrained(folder / "bert")
    tiny_tokenizer().save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert")), Pooling(16)]
    model = SentenceTransformer(modules=modules, device="cpu")
    model.save_pretrained(str(folder / "student"), create_model_card=False)
    return str(folder / "student")


def save_cross_encoder(folder):
    """A random one; returns its path."""
    torch.manual_seed(1)
    config = tiny_config()
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def student_folder(tmp_path_factory):
    return save_student(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def cross_encoder_folder(tmp_path_factory):
    return save_cross_encoder(tmp_path_factory.mktemp("models") / "cross_encoder")


@pytest.fixture(scope="session")
def wide_cross_encoder_folder(cross_encoder_folder, tmp_path_factory):
    """The tiny cross-encoder, its weights ten times as large, so that its logits differ."""
    model = CrossEncoder(cross_encoder_folder, device="cpu")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(10)
    path = tmp_path_factory.mktemp("wide") / "model"
    model.save_pretrained(str(path), create_model_card=False)
    return str(path)


@pytest.fixture
def tiny(beir, student_folder, cross_encoder_folder):
    """The arguments of a tiny run of rankdistill.commands.train."""
    return tiny_arguments(beir, student_folder, cross_encoder_folder)


def with_copies(collection):
    """The first 20 documents once more, as c0 to c19, and q1's text as q0's."""
    return dataclasses.replace(
        collection,
        document_ids=[*collection.document_ids, *(f"c{i}" for i in range(20))],
        documents=[*collection.documents, *(f" {text}\n" for text in collection.documents[:20])],
        queries=[collection.queries[0], *collection.queries[:1], *collection.queries[2:]],
    )


@pytest.fixture
def copied(collection):
    """The tiny collection with copies."""
    return with_copies(collection)


class WordTeacher:
    """Scores by shared words: quick, strong on the tiny collection; counts its pairs."""

    fingerprint = "words"

    def __init__(self):
        self.pairs = 0

    def score(self, queries, documents):
        self.pairs += len(queries)
        shared = [
            len(set(q.split()) & set(d.split())) - len(d.split()) / 40
            for q, d in zip(queries, documents, strict=True)
        ]
        return np.asarray(shared, dtype=np.float32)


@pytest.fixture
def table(collection):
    return score_candidates(WordTeacher(), mine(collection, [BM25(10), Random(10)], "train"))


@pytest.fixture
def small():
    """To write files of by hand: q0 wants d0; q1 wants d1 and d2; q2, of the test split, wants d3."""
    return Collection(
        "small",
        [f"d{i}" for i in range(6)],
        [f"text {i}" for i in range(6)],
        ["q0", "q1", "q2"],
        ["who", "what", "when"],
        {"train": {"q0": {"d0": 1, "d5": 0}, "q1": {"d1": 1, "d2": 2}}, "test": {"q2": {"d3": 1}}},
    )


@pytest.fixture
def scored(small):
    """q0: d4 2.5, d0 -1.25, best rank first; q1: d1 0.1, d2 1/3, d3 1e-7; q2: d3 7, d5 -7."""
    return ScoreTable(
        Candidates(
            small,
            np.array([0, 1, 2]),
            np.array([0, 2, 5, 7]),
            np.array([0, 4, 1, 2, 3, 3, 5], np.int32),
            np.array([True, False, True, True, False, True, False]),
            {"file": np.array([1, 0, 0, 1, 2, 0, 1], np.uint16)},
        ),
        np.array([-1.25, 2.5, 0.1, 1 / 3, 1e-7, 7, -7], np.float32),
    )


def rows_of(table):
    """{query: {document: (score, positive)}}: what a table says, by ids."""
    collection = table.collection
    return {
        collection.query_ids[query]: {
            collection.document_ids[row]: (float(score), bool(positive))
            for row, score, positive in zip(*table.pool(i), strict=True)
        }
        for i, query in enumerate(table.candidates.query_rows)
    }


@pytest.fixture
def table_of(collection):
    """A score table of these pools: a list of scores a query, ``positive`` the places of its positives."""

    def make(pools, positive=None):
        sizes = [len(pool) for pool in pools]
        relevant = np.zeros(sum(sizes), bool)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        for i, places in enumerate(positive or []):
            relevant[offsets[i] + np.array(places, int)] = True
        candidates = Candidates(
            collection,
            np.arange(len(pools)),
            offsets,
            np.concatenate([np.arange(n) for n in sizes]).astype(np.int32),
            relevant,
            {"bm25": np.where(relevant, 65535, 0).astype(np.uint16)},
        )
        return ScoreTable(candidates, np.concatenate(pools).astype(np.float32))

    return make


LONGEST = ("test_readme.py", "test_notebooks.py", "test_killed.py")


def pytest_collection_modifyitems(items):
    """The longest files begin first, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
