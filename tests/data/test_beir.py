import gzip
import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdistill.data import Collection, read_beir, write_beir
from rankdistill.errors import InputError

CORPUS = [
    {"_id": "d1", "title": "Zürich", "text": "a lake, 湖"},
    {"_id": "d2", "title": "", "text": "no title"},
    {"_id": "d3", "text": "no title field"},
    {"_id": "d4", "title": "a title alone", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "where is the lake?"}, {"_id": "q2", "text": "titles"}]
HEADER = "query-id\tcorpus-id\tscore\n"
QRELS = HEADER + "q1\td1\t2\nq1\td2\t0\nq2\td4\t1\n"


def write(folder, corpus=CORPUS, queries=QUERIES, qrels=QRELS, packed=False, end="\n"):
    """A BEIR folder; ``corpus`` and ``queries`` are rows, or strings written as they are."""
    for name, content in (("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels/test.tsv", qrels)):
        if not isinstance(content, str):
            content = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in content)
        content = content.replace("\n", end).encode()
        file = folder / (name + ".gz" * packed)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_reads_plain_and_gzipped_with_either_line_end(tmp_path, packed, end):
    found = read_beir(write(tmp_path / "lakes", packed=packed, end=end))
    assert found.name == "lakes"
    assert dict(zip(found.document_ids, found.documents, strict=True)) == {
        "d1": "Zürich a lake, 湖",
        "d2": "no title",
        "d3": "no title field",
        "d4": "a title alone",
    }
    assert dict(zip(found.query_ids, found.queries, strict=True)) == {
        "q1": "where is the lake?",
        "q2": "titles",
    }
    assert found.qrels == {"test": {"q1": {"d1": 2, "d2": 0}, "q2": {"d4": 1}}}


@pytest.mark.parametrize("qrels", ["q1\t0\td1\t2\nq1\tQ0\td2\t0\nq2\t0\td4\t1\n", QRELS.removeprefix(HEADER)])
def test_reads_qrels_of_four_columns_and_without_a_header(tmp_path, qrels):
    """The first judgment taken for a header would be lost."""
    assert read_beir(write(tmp_path, qrels=qrels)).qrels["test"] == {
        "q1": {"d1": 2, "d2": 0},
        "q2": {"d4": 1},
    }


def test_every_file_of_qrels_is_a_split(tmp_path):
    write(tmp_path)
    (tmp_path / "qrels" / "train.tsv.gz").write_bytes(gzip.compress(b"q2\td3\t1\n"))
    (tmp_path / "qrels" / "notes.txt").write_text("not a split")
    assert read_beir(tmp_path, name="mine").qrels.keys() == {"test", "train"}


def test_a_copy_beside_a_file_of_qrels_is_a_split_of_its_own(tmp_path):
    """Cut at the first dot, test.bak.tsv would silently be read as test.tsv."""
    write(tmp_path)
    (tmp_path / "qrels" / "test.bak.tsv").write_text(HEADER + "q2\td4\t1\n")
    found = read_beir(tmp_path).qrels
    assert set(found) == {"test", "test.bak"} and len(found["test"]) == 2


@pytest.mark.parametrize("id_", ["", " d9", "d 9", "d9\t"])
def test_ids_that_no_run_file_can_hold_are_named(tmp_path, id_):
    write(tmp_path, corpus=[*CORPUS, {"_id": id_, "text": "t"}])
    with pytest.raises(InputError, match="1 ids that are empty or hold white space.*corpus.jsonl:5"):
        read_beir(tmp_path)
    assert len(read_beir(tmp_path, invalid="skip").document_ids) == 4


def test_blank_lines_are_no_rows(tmp_path):
    found = read_beir(write(tmp_path, corpus=["\n", *CORPUS, "  \n"], qrels=QRELS + "\n"))
    assert len(found.documents) == 4


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read_beir(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_named(tmp_path, file):
    write(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=file.split("/")[0]):
        read_beir(tmp_path)


@pytest.mark.parametrize("invalid", ["error", "skip"])
@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ({"corpus": [*CORPUS, '{"_id": "d5", "text": \n']}, "corpus.jsonl:5: malformed JSON"),
        ({"queries": ["not json\n"]}, "queries.jsonl:1: malformed JSON"),
        ({"corpus": ['{"_id": "d1", "text": "a", "text": "b"}\n']}, "corpus.jsonl:1: 'text' is there twice"),
        ({"corpus": ["\n", "[1, 2]\n"]}, "corpus.jsonl:2: expected a JSON object"),
        ({"corpus": ['{"text": "no id"}\n']}, "corpus.jsonl:1: no field _id or .*; available: text"),
        ({"corpus": ['{"_id": "d1", "body": "t"}\n']}, "corpus.jsonl: no row has the field text or title"),
        ({"queries": ['{"_id": "q1", "text": 7}\n']}, "queries.jsonl:1: expected an id and the strings text"),
        ({"qrels": HEADER + "q1\td1\t1\nq1 d2 1\n"}, "test.tsv:3: expected query, document"),
        ({"qrels": HEADER + "q1\td1\thigh\n"}, "test.tsv:2: expected query, document"),
        ({"qrels": HEADER + "q1\td1\t2147483648\n"}, "test.tsv:2: expected .* grade up to 1000"),
        ({"qrels": HEADER + "q1\td1\t1_0\n"}, "test.tsv:2: expected query, document"),
        ({"qrels": HEADER + "q1\t0\td1\t1\tmore\n"}, "test.tsv:2: expected query, document"),
        ({"qrels": "q1\td1\t0.5\n"}, "test.tsv:1: expected query, document"),
        (
            {"corpus": ['{"_id": "d1", "text": "half \\ud800"}\n']},
            r"corpus.jsonl:1: '\\ud800' is half a character",
        ),
        ({"corpus": ['{"_id": true, "text": "t"}\n']}, "corpus.jsonl:1: expected an id"),
        (
            {"corpus": ['{"_id": "d1", "title": "t", "text": 0}\n']},
            "corpus.jsonl:1: expected an id and the strings title and text",
        ),
        ({"corpus": ["[" * 100_000 + "\n"]}, "corpus.jsonl:1: malformed JSON"),
        ({"corpus": ['{"_id": ' + "7" * 5000 + ', "text": "t"}\n']}, "corpus.jsonl:1: malformed JSON"),
    ],
)
def test_malformed_lines_are_named_and_never_skipped(tmp_path, rows, place, invalid):
    with pytest.raises(InputError, match=place):
        read_beir(write(tmp_path, **rows), invalid=invalid)


@pytest.mark.parametrize(
    "cut",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"plain text",
        lambda raw: raw[:20] + bytes(255 - x for x in raw[20:40]) + raw[40:],
    ],
)
def test_a_damaged_gzip_file_is_named(tmp_path, cut):
    write(tmp_path, packed=True)
    file = tmp_path / "corpus.jsonl.gz"
    file.write_bytes(cut(file.read_bytes()))
    with pytest.raises(InputError, match="corpus.jsonl.gz"):
        read_beir(tmp_path)


def test_text_that_is_not_utf8_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "corpus.jsonl").write_bytes(b'{"_id": "d1", "text": "Z\xfcrich"}\n')
    with pytest.raises(InputError, match=r"corpus.jsonl:1: not UTF-8 .*iconv -f LATIN1"):
        read_beir(tmp_path)


@pytest.mark.parametrize("file", ["corpus", "queries"])
def test_a_file_with_no_row_is_named(tmp_path, file):
    with pytest.raises(InputError, match=f"{file}.jsonl: no usable row"):
        read_beir(write(tmp_path, **{file: ""}))


FAULTS = {
    "empty texts": {"corpus": [*CORPUS, {"_id": "d5", "title": " ", "text": "\n"}, {"_id": "d6"}]},
    "duplicate ids": {
        "corpus": [*CORPUS, {"_id": "d1", "text": "another"}, {"_id": "d2", "text": "no title"}]
    },
    "judgments of unknown queries": {"qrels": QRELS + "q8\td1\t1\nq9\td1\t1\n"},
    "judgments of unknown documents": {"qrels": QRELS + "q1\td8\t1\nq1\td9\t0\n"},
}


@pytest.mark.parametrize("kind", FAULTS)
def test_unusable_rows_raise_with_their_count_place_and_remedy(tmp_path, kind):
    with pytest.raises(InputError, match=rf"^2 {kind}: .*:\d.*:\d.*invalid=skip"):
        read_beir(write(tmp_path, **FAULTS[kind]))


@pytest.mark.parametrize("kind", FAULTS)
def test_unusable_rows_are_skipped_on_demand_and_counted(tmp_path, caplog, kind):
    """Of a repeated id, the first row stays."""
    clean = read_beir(write(tmp_path / "clean"))
    with caplog.at_level(logging.WARNING):
        found = read_beir(write(tmp_path / "faulty", **FAULTS[kind]), invalid="skip")
    assert found.fingerprint == clean.fingerprint
    assert f"skipped 2 {kind}" in caplog.text


def test_judgments_of_skipped_documents_go_with_them(tmp_path):
    corpus = [CORPUS[0], CORPUS[1], CORPUS[2], {"_id": "d4", "text": ""}]
    assert read_beir(write(tmp_path, corpus), invalid="skip").qrels == {"test": {"q1": {"d1": 2, "d2": 0}}}


def test_long_lists_of_faults_are_shortened(tmp_path):
    many = QRELS + "".join(f"q1\tx{i}\t1\n" for i in range(1200))
    with pytest.raises(InputError, match=r"1,200 judgments .*x2\) and 1,197 more"):
        read_beir(write(tmp_path, qrels=many))


def test_another_word_for_invalid_raises(tmp_path):
    with pytest.raises(InputError, match="ignore.*'error' or 'skip'"):
        read_beir(write(tmp_path), invalid="ignore")


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)
ids = st.lists(
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8), min_size=1, unique=True
)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), document_ids=ids, query_ids=ids)
def test_what_is_written_reads_back_the_same(tmp_path_factory, data, document_ids, query_ids):
    """Line separators inside texts must not break lines apart."""
    texts = data.draw(st.lists(words, min_size=len(document_ids), max_size=len(document_ids)))
    queries = data.draw(st.lists(words, min_size=len(query_ids), max_size=len(query_ids)))
    grades = st.dictionaries(st.sampled_from(document_ids), st.integers(-1, 3), min_size=1)
    qrels = {
        split: data.draw(st.dictionaries(st.sampled_from(query_ids), grades)) for split in ("train", "test")
    }
    collection = Collection("x", document_ids, texts, query_ids, queries, qrels)
    folder = tmp_path_factory.mktemp("written")
    write_beir(collection, folder)
    assert read_beir(folder).fingerprint == collection.fingerprint


def test_a_collection_read_and_written_keeps_its_fingerprint(collection, tmp_path):
    write_beir(collection, tmp_path / "copy")
    assert read_beir(tmp_path / "copy", name="another name").fingerprint == collection.fingerprint


def test_templates_make_texts_of_any_fields(tmp_path):
    """A field that a row lacks is empty; literal words alone are no text."""
    corpus = [{**CORPUS[0], "url": "a.ch"}, {"_id": "d2", "title": None, "text": ""}, *CORPUS[2:]]
    folder = write(tmp_path, corpus, [{"_id": "q1", "text": "lake", "lang": "en"}], "q1\td1\t1\n")
    templates = {"document_template": "{title} | {text} ({{{url}}})", "query_template": "{lang}: {text}"}
    with pytest.raises(InputError, match=r"^1 empty texts: .*corpus.jsonl:2"):
        read_beir(folder, **templates)
    found = read_beir(folder, **templates, invalid="skip")
    assert list(found.documents) == [
        "Zürich | a lake, 湖 ({a.ch})",
        "| no title field ({})",
        "a title alone |  ({})",
    ]
    assert found.queries == ["en: lake"]


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{body}", "corpus.jsonl: no row has the field body; available: _id, title, text"),
        ("{title} {body}", "corpus.jsonl: no row has the field body; available: _id, title, text"),
        ("{title", "document_template='{title': expected '}'"),
        ("{title!r}", "names fields in braces"),
        ("{}", "names fields in braces"),
        ("title", "names fields in braces"),
    ],
)
def test_templates_that_cannot_be_filled_are_named(tmp_path, template, reason):
    with pytest.raises(InputError, match=reason):
        read_beir(write(tmp_path), document_template=template)


@pytest.mark.parametrize(
    "qrels",
    [
        HEADER + "q1\td1 \t2\n",
        HEADER + "q1\td1\t2\t\n",
        HEADER + " q1\td1\t2.0  \n",
        '"query-id"\t"corpus-id"\t"score"\n"q1"\t"d1"\t"2"\n',
    ],
    ids=["blank", "tab", "both", "quotes"],
)
def test_blanks_and_quotes_around_the_cells_of_qrels_are_none_of_the_ids(qrels, tmp_path):
    assert read_beir(write(tmp_path, qrels=qrels)).qrels == {"test": {"q1": {"d1": 2}}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"qrels": HEADER + "q1\tcafe\u0301\t1\n"},
            r"\('cafe\u0301' differs from 'caf\u00e9' only by Unicode norm",
        ),
        ({"qrels": HEADER + "q1\td1\t0.5\n"}, "test.tsv:2: expected .* whole grade .* got 'q1', 'd1', '0.5'"),
        ({"qrels": HEADER + "q1\td1\t1_0\n"}, "test.tsv:2: expected .* whole grade"),
        ({"qrels": HEADER + "q1\td1\t\uff11\n"}, "test.tsv:2: expected .* whole grade"),
        ({"qrels": "q1,d1,1\n"}, "test.tsv:1: expected .* tab-separated.* got 'q1,d1,1'"),
        ({"queries": '[{"_id": "q1", "text": "x"}]'}, "queries.jsonl:1: .*write one object per line"),
    ],
)
def test_what_is_wrong_is_shown_with_the_remedy(files, message, tmp_path):
    corpus = [*CORPUS, {"_id": "caf\u00e9", "text": "x"}]
    with pytest.raises(InputError, match=message):
        read_beir(write(tmp_path, corpus, **files))


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_utf_16_and_utf_32_are_named(encoding, mark, tmp_path):
    """UTF-32 was taken for UTF-16, and without its mark for malformed JSON."""
    write(tmp_path)
    text = mark + json.dumps(QUERIES[0]) + "\n"
    (tmp_path / "queries.jsonl").write_bytes(text.encode(encoding))
    name = encoding[:6].upper()
    said = (
        f"not UTF-8 text but {name}; convert it: iconv -f {name} -t" if mark else "as it has zero bytes; if"
    )
    with pytest.raises(InputError, match=f"queries.jsonl: .*{said}"):
        read_beir(tmp_path)


@pytest.mark.parametrize(
    "qrels",
    [
        "corpus-id\tquery-id\tscore\nd1\tq1\t2\nd2\tq1\t0\nd4\tq2\t1\n",
        "score\tpid\tqid\n2\td1\tq1\n0\td2\tq1\n1\td4\tq2\n",
        "query_id\tdocid\trelevance\tlang\nq1\td1\t2\t9\nq1\td2\t0\t9\nq2\td4\t1\t9\n",
        "Query_ID\tquery\tdocno\titeration\trel\nq1\tx\td1\t0\t2\nq1\tx\td2\t0\t0\nq2\ty\td4\t0\t1\n",
        "\tquery-id\tcorpus-id\tgrade\n0\tq1\td1\t2\n1\tq1\td2\t0\n2\tq2\td4\t1\n",
        "TOPIC ITERATION DOCUMENT RELEVANCY\nq1 0 d1 2\nq1 0 d2 0\nq2 0 d4 1\n",
        '\n"corpus-id"\t"query-id"\t"score"\n"d1"\t"q1"\t"2"\n"d2"\t"q1"\t"0"\n"d4"\t"q2"\t"1"\n',
        "frage\tdokument\tnote\nq1\td1\t2\nq1\td2\t0\nq2\td4\t1\n",
    ],
    ids=["swapped", "backwards", "beside", "among", "index", "spaces", "quotes", "unknown"],
)
def test_columns_of_qrels_go_by_the_names_of_the_header(qrels, tmp_path):
    """Ids in common would make judgments of swapped columns, in silence; so would a language a grade."""
    corpus = [*CORPUS, {"_id": "q1", "text": "x"}, {"_id": "q2", "text": "y"}]
    queries = [*QUERIES, *({"_id": f"d{i}", "text": "z"} for i in (1, 2, 4))]
    found = read_beir(write(tmp_path, corpus, queries, qrels))
    assert found.qrels == {"test": {"q1": {"d1": 2, "d2": 0}, "q2": {"d4": 1}}}


@pytest.mark.parametrize(
    "header",
    [
        "corpus-id\tquery-id\tnote",
        "frage\tdokument\tnote\tsprache",
        "query-id\tcorpus-id\tnote\tlang",
        "query-id\tcorpus-id\tscore\tgrade",
        "query-id\tcorpus-id\tscore\tscore",
    ],
)
def test_a_header_that_leaves_the_columns_open_is_refused(header, tmp_path):
    first = "\t".join(["q1", "d1", "1", "1"][: header.count("\t") + 1])
    with pytest.raises(InputError, match=r"test.tsv:1: which columns are .*Name one each.*; got ") as error:
        read_beir(write(tmp_path, qrels=f"{header}\n{first}\n"))
    assert "\n" not in str(error.value)


def test_a_line_with_other_cells_than_the_header_is_named(tmp_path):
    with pytest.raises(InputError, match=r"test.tsv:3: expected .* in 3 cells, as the header.*got 'd2"):
        read_beir(write(tmp_path, qrels="corpus-id\tquery-id\tscore\nd1\tq1\t1\nd2\tq1\n"))


def test_judgments_by_whatever_case_and_none_of_hidden_files(tmp_path):
    folder = write(tmp_path / "lakes")
    (folder / "qrels" / "train.TSV").write_text(HEADER + "q1\td4\t1\n")
    (folder / "qrels" / "._test.tsv").write_bytes(b"\0\5\26\7")  # macOS's
    assert read_beir(folder).qrels == {
        "test": {"q1": {"d1": 2, "d2": 0}, "q2": {"d4": 1}},
        "train": {"q1": {"d4": 1}},
    }


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
@pytest.mark.parametrize("damage", ["another", "longer", "cut"])
def test_a_file_and_its_gzipped_namesake_have_the_same_text(tmp_path, caplog, name, damage):
    """One of the two was read, and a warning said that they may differ."""
    folder = write(tmp_path / "lakes")
    expected = read_beir(folder)
    whole = (folder / name).read_bytes()
    packed = folder / f"{name}.gz"
    packed.write_bytes(gzip.compress(whole))
    assert read_beir(folder).fingerprint == expected.fingerprint and not caplog.records
    packed.write_bytes(
        {
            "another": b"another",
            "longer": gzip.compress(whole + b" "),
            "cut": gzip.compress(whole)[:-9],
        }[damage]
    )
    file = (folder / name).name
    with pytest.raises(InputError, match=rf"{file}: {file}\.gz beside it differs, .*; keep one of the two"):
        read_beir(folder)
