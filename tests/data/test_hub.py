import json

import pandas as pd
import pytest
from conftest import tables
from datasets import load_dataset

from rankdistill.data import hub, read_hub
from rankdistill.errors import InputError


def parts(collection):
    """Documents, queries and split -> qrels, with the hub's column names."""
    documents, queries, qrels = tables(collection)
    documents, queries = (frame.rename(columns={"id": "_id"}) for frame in (documents, queries))
    qrels = qrels.rename(columns={"query": "query-id", "document": "corpus-id", "grade": "score"})
    return documents, queries, {s: part.drop(columns="split") for s, part in qrels.groupby("split")}


def save(frame, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        frame.to_parquet(file)
    elif ".tsv" in file.suffixes:
        frame.to_csv(file, sep="\t", index=False)
    else:
        frame.to_json(file, orient="records", lines=True)


def card(folder, **configs):
    """The head of a dataset's README: configuration -> split -> files."""
    lines = ["---", "configs:"]
    for config, splits in configs.items():
        lines += [f"  - config_name: {config}", "    data_files:"]
        lines += [f"      - split: {split}\n        path: {path}" for split, path in splits.items()]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))


def write_nano(folder, collection):
    """NanoBEIR: three configurations of one split in Parquet, qrels without a grade."""
    documents, queries, qrels = parts(collection)
    judged = qrels["train"].drop(columns="score")
    for kind, frame in (("corpus", documents), ("queries", queries), ("qrels", judged)):
        save(frame, folder / kind / "train-00000-of-00001.parquet")
    card(folder, **{kind: {"train": f"{kind}/train-*"} for kind in ("corpus", "queries", "qrels")})


def write_mteb(folder, collection):
    """MTEB: JSONL, the qrels being the configuration default."""
    documents, queries, qrels = parts(collection)
    save(documents, folder / "corpus.jsonl")
    save(queries, folder / "queries.jsonl")
    for split, frame in qrels.items():
        save(frame, folder / "qrels" / f"{split}.jsonl")
    default = {split: f"qrels/{split}.jsonl" for split in qrels}
    card(folder, default=default, corpus={"corpus": "corpus.jsonl"}, queries={"queries": "queries.jsonl"})


def write_beir(folder, collection):
    """BEIR: Parquet, the qrels as TSV in a dataset of their own; test is written as dev here."""
    documents, queries, qrels = parts(collection)
    save(documents, folder / "corpus" / "tiny-corpus.parquet")
    save(queries, folder / "queries" / "tiny-queries.parquet")
    card(folder, **{kind: {kind: f"{kind}/*.parquet"} for kind in ("corpus", "queries")})
    for split, frame in (("train", qrels["train"]), ("dev", qrels["test"])):
        save(frame, folder.with_name(f"{folder.name}-qrels") / f"{split}.tsv")


LAYOUTS = {"nano": write_nano, "mteb": write_mteb, "beir": write_beir}


@pytest.fixture(params=["folder", "hub"])
def place(request, tmp_path, monkeypatch):
    """Makes a folder or a substitute for a hub: the library that reads one, pointed at ``tmp_path``."""

    def load(name, config=None):
        if not (tmp_path / name).is_dir():
            raise ConnectionError(f"Couldn't reach '{name}' on the Hub (OfflineModeIsEnabled)")
        return load_dataset(str(tmp_path / name), config, cache_dir=str(tmp_path / "cache"))

    if request.param == "hub":
        monkeypatch.setattr(hub, "load_dataset", load)
        return "someone/tiny"
    return str(tmp_path / "someone" / "tiny")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_collection_back(place, layout, collection, tmp_path):
    LAYOUTS[layout](tmp_path / "someone" / "tiny", collection)
    found = read_hub(place)
    qrels = {
        "nano": {"train": collection.qrels["train"]},
        "mteb": collection.qrels,
        "beir": {"train": collection.qrels["train"], "dev": collection.qrels["test"]},
    }
    assert found.name == "tiny" and found.qrels == qrels[layout]
    for name in ("document_ids", "documents", "query_ids", "queries"):
        assert list(getattr(found, name)) == list(getattr(collection, name))


def test_templates_and_faults_are_those_of_every_reader(place, collection, tmp_path):
    folder = tmp_path / "someone" / "tiny"
    write_mteb(folder, collection)
    rows = [{"_id": "d0", "head": "Lakes", "text": "deep"}, {"_id": "d0", "head": "a", "text": "b"}]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        InputError, match=r"^1 duplicate ids: .*corpus.* \(d0\)|^1 duplicate ids: .*corpus.jsonl:2"
    ):
        read_hub(place)
    found = read_hub(place, document_template="{head}: {text}", invalid="skip")
    assert found.documents == ["Lakes: deep"] and found.qrels == {"train": {"q0": {"d0": 1}}, "test": {}}
    with pytest.raises(InputError, match="corpus: no row has the field title; available: _id, head, text"):
        read_hub(place, document_template="{title}")


def test_a_hub_out_of_reach_ends_in_one_line_with_the_way_out():
    """With the library itself, offline."""
    with pytest.raises(InputError) as error:
        read_hub("BeIR/nfcorpus")
    assert str(error.value) == (
        "BeIR/nfcorpus: corpus cannot be loaded from the hub (Couldn't reach 'BeIR/nfcorpus' on the Hub "
        "(OfflineModeIsEnabled)); offline, give the folder of a copy: data.name=<folder>, or data=beir "
        "data.path=<folder>"
    )


def test_a_split_validation_is_dev(place, collection, tmp_path):
    folder = tmp_path / "someone" / "tiny"
    write_beir(folder, collection)
    qrels = folder.with_name("tiny-qrels")
    (qrels / "dev.tsv").rename(qrels / "validation.tsv")
    assert read_hub(place).qrels == {"train": collection.qrels["train"], "dev": collection.qrels["test"]}


def test_a_dataset_of_another_layout_is_named(collection, tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    write_nano(folder, collection)
    real = {"cache_dir": str(tmp_path / "cache")}
    monkeypatch.setattr(
        hub, "load_dataset", lambda name, config: load_dataset(f"{tmp_path}/{name}", config, **real)
    )
    card(folder, corpus={"train": "corpus/train-*"}, queries={"train": "queries/train-*"})
    with pytest.raises(
        InputError, match="^tiny-qrels: it cannot be loaded from the hub .Couldn't find any data file"
    ):
        read_hub("tiny")
    card(folder, other={"train": "corpus/train-*"})
    with pytest.raises(InputError, match="tiny: corpus cannot .*'corpus' not found. Available: .'other'"):
        read_hub("tiny")


def test_what_a_folder_lacks_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read_hub(str(tmp_path / "nowhere"))
    folder = tmp_path / "tiny"
    save(pd.DataFrame({"_id": ["a"], "text": ["b"]}), folder / "queries" / "queries.parquet")
    with pytest.raises(
        InputError, match=r"no qrels/\*.parquet or qrels/\*.jsonl or qrels/\*.tsv in it, nor in .*tiny-q"
    ):
        read_hub(str(folder))
    save(pd.DataFrame({"query-id": ["a"], "corpus-id": ["b"]}), folder / "qrels" / "test.parquet")
    with pytest.raises(InputError, match=r"tiny: no corpus/\*.parquet or corpus/\*.jsonl in it$"):
        read_hub(str(folder))


@pytest.mark.parametrize(
    "cut", [lambda raw: b"", lambda raw: raw[: len(raw) // 2], lambda raw: b"PAR1" + raw[200:]]
)
def test_a_damaged_parquet_file_is_named(tmp_path, collection, cut):
    write_nano(tmp_path / "tiny", collection)
    file = tmp_path / "tiny" / "queries" / "train-00000-of-00001.parquet"
    file.write_bytes(cut(file.read_bytes()))
    with pytest.raises(InputError, match="train-00000-of-00001.parquet: not Parquet, or cut short") as error:
        read_hub(str(tmp_path / "tiny"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["qrels.tsv"], ["test"]),
        (["qrels/train/0000.parquet", "qrels/test/0000.parquet"], ["test", "train"]),
        (["qrels/train-00000-of-00001.parquet", "qrels/test.tsv"], ["test", "train"]),
    ],
)
def test_a_copys_files_say_their_split_or_their_folders_do(files, splits, collection, tmp_path):
    documents, queries, qrels = parts(collection)
    save(documents, tmp_path / "corpus.jsonl")
    save(queries, tmp_path / "queries.jsonl")
    for file in files:
        save(qrels["train" if "train" in file else "test"], tmp_path / file)
    found = read_hub(str(tmp_path))
    assert {split: found.qrels[split] for split in splits} == {s: collection.qrels[s] for s in splits}
    assert sorted(split for split, judged in found.qrels.items() if judged) == splits


@pytest.mark.parametrize("names", [("qid", "docid", "rel"), ("query_id", "corpus_id", "relevance")])
def test_qrels_go_by_the_names_of_their_columns(names, collection, tmp_path):
    documents, queries, qrels = parts(collection)
    save(documents, tmp_path / "c" / "corpus.parquet")
    save(queries, tmp_path / "c" / "queries.parquet")
    for split, frame in qrels.items():
        frame = frame.rename(columns=dict(zip(("query-id", "corpus-id", "score"), names, strict=True)))
        save(frame[list(names[::-1])].assign(iteration=0), tmp_path / "c" / "qrels" / f"{split}.parquet")
    assert read_hub(tmp_path / "c").fingerprint == collection.fingerprint
