import sys
from typing import NamedTuple

import pytest
from conftest import irds_dataset, irds_files

from rankdistill.data import read_irds
from rankdistill.errors import InputError
from rankdistill.runtime import processes

ir_datasets = pytest.importorskip("ir_datasets", reason="needs the extra irds")


class TitledDoc(NamedTuple):
    doc_id: str
    title: str
    text: str

    def default_text(self):
        return f"{self.title} {self.text}"


class PlainDoc(NamedTuple):
    doc_id: str
    body: str


class LinkQuery(NamedTuple):
    query_id: str
    doc_id: str
    text: str


@pytest.mark.parametrize("id_", ["tiny", {"train": "tiny/train", "test": "tiny/test"}])
def test_a_registered_collection_is_read_as_it_is(irds, collection, id_):
    """An id without qrels means the splits below it; queries that splits share come once."""
    found = read_irds(id_)
    assert found.fingerprint == collection.fingerprint and found.name == "tiny"


def test_one_id_is_the_split_that_its_name_says(irds, collection):
    assert read_irds("tiny/train").qrels == {"train": collection.qrels["train"]}
    irds.register("tiny/judged", irds["tiny/test"])
    assert read_irds("tiny/judged").qrels == {"test": collection.qrels["test"]}


def test_fields_of_a_document_by_template_else_its_default_text(irds, tmp_path):
    made = irds_files(
        tmp_path, docs="d1\tLakes\tdeep\n", plain="d1\tdeep\n", queries="q1\thow deep?\n", qrels="q1 0 d1 1\n"
    )
    titled = ir_datasets.formats.TsvDocs(made["docs"], doc_cls=TitledDoc)
    irds.register("titled", irds_dataset(titled, made["queries"], made["qrels"]))
    plain = ir_datasets.formats.TsvDocs(made["plain"], doc_cls=PlainDoc)
    irds.register("plain", irds_dataset(plain, made["queries"], made["qrels"]))
    assert read_irds("titled").documents == ["Lakes deep"]
    assert read_irds("titled", document_template="{text} ({title})").documents == ["deep (Lakes)"]
    assert read_irds("plain", document_template="{body}").documents == ["deep"]
    with pytest.raises(
        InputError, match="plain docs: no row has the field default_text; available: doc_id, body"
    ):
        read_irds("plain")


def test_a_query_that_names_a_document_keeps_its_own_id(irds, tmp_path):
    """As those of TREC News do; its judgments would be of unknown queries."""
    made = irds_files(tmp_path, linked="q1\td7\thow deep?\n", judged="q1 0 d1 1\n")
    queries = ir_datasets.formats.TsvQueries(made["linked"], query_cls=LinkQuery)
    qrels = ir_datasets.formats.TrecQrels(made["judged"], {})
    irds.register("linked", ir_datasets.Dataset(irds["tiny"].docs_handler(), queries, qrels))
    found = read_irds("linked", query_template="{text}")
    assert found.query_ids == ["q1"] and found.qrels == {"test": {"q1": {"d1": 1}}}


def test_ids_of_different_corpora_are_refused(irds, tmp_path):
    made = irds_files(tmp_path, other="d1\tdeep\n", asked="q1\thow deep?\n", judged="q1 0 d1 1\n")
    docs = ir_datasets.formats.TsvDocs(made["other"])
    irds.register("other/test", irds_dataset(docs, made["asked"], made["judged"]))
    with pytest.raises(InputError, match="tiny/train and other/test are not of the same corpus"):
        read_irds({"train": "tiny/train", "test": "other/test"})


def test_a_query_id_with_two_texts_is_a_fault(irds, tmp_path):
    made = irds_files(tmp_path, asked="q0\tanother text\n", judged="q0 0 d1 1\n")
    irds.register("tiny/dev", irds_dataset(irds["tiny"].docs_handler(), made["asked"], made["judged"]))
    with pytest.raises(InputError, match=r"^1 duplicate ids: tiny/dev queries row 0 .q0.; .*skip"):
        read_irds("tiny")


@pytest.mark.parametrize(
    ("id_", "reason"),
    [
        ("tinny/test", "data.id: ir_datasets has no 'tinny/test'; available: 'tiny/test'"),
        ("unheard/of", "data.id: ir_datasets has no 'unheard/of'; its ids are listed on"),
        ({}, "data.id: an id, or split -> id"),
        ({"test": "tiny"}, "data.id: tiny has no qrels; available: 'tiny/.*', 'tiny/"),
    ],
)
def test_ids_that_cannot_be_read_are_named(irds, id_, reason):
    with pytest.raises(InputError, match=reason):
        read_irds(id_)


def test_files_that_cannot_be_had_end_in_one_line(irds, tmp_path):
    """As where the network is out of reach."""
    (tmp_path / "docs").unlink()
    with pytest.raises(
        InputError, match="^tiny docs: ir_datasets cannot .*IR_DATASETS_HOME.*data=beir"
    ) as error:
        read_irds("tiny/test")
    assert "\n" not in str(error.value)


def test_a_download_that_fails_ends_in_one_line(irds, monkeypatch, tmp_path):
    requests, util = ir_datasets.lazy_libs.requests(), ir_datasets.util

    def refuse(**_):
        raise requests.exceptions.ConnectionError("no route\nto the host" + " and so on" * 50)

    monkeypatch.setattr(requests, "get", refuse)
    far = util.Download([util.RequestsDownload("https://example.org/docs", tries=1)], tmp_path / "kept")
    made = irds_files(tmp_path, asked="q0\tanother text\n", judged="q0 0 d1 1\n")
    irds.register("far", irds_dataset(ir_datasets.formats.TsvDocs(far), made["asked"], made["judged"]))
    with pytest.raises(InputError, match="^far docs: .*no route to the host.*IR_DATASETS_HOME") as error:
        read_irds("far")
    assert len(str(error.value)) < 400 and "\n" not in str(error.value)


@pytest.mark.parametrize("main", [True, False])
def test_the_main_process_reads_before_the_others(irds, monkeypatch, main):
    """Downloads and indexes of several processes at once would spoil each other."""
    done = []
    monkeypatch.setattr(processes, "is_main", lambda: main)
    monkeypatch.setattr(processes, "wait", lambda: done.append("wait"))
    docs_iter = irds["tiny"].docs_handler().docs_iter
    monkeypatch.setattr(
        type(irds["tiny"].docs_handler()), "docs_iter", lambda _: done.append("read") or docs_iter()
    )
    read_irds("tiny")
    assert done == (["read", "wait"] if main else ["wait", "read"])


def test_without_ir_datasets_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(InputError, match="data=irds needs ir_datasets: pip install ir_datasets"):
        read_irds("tiny")
