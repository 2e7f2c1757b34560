import gzip
import json

import pytest

from rankdistill.data import read_trec
from rankdistill.errors import InputError

TOPICS = """
<top>

<num> Number: 301
<title> Topic: International <i>Crime</i>

<desc> Description:
Identify organizations
that do harm.

<narr> Narrative:
A relevant document:
one.

</top>
<top>
<num>302</num>
<title>Polio</title>
<desc>Is it gone?</desc>
</top>
"""
CORPUS = "d1\tcrime, 湖\nd2\tpolio\n"
QRELS = "301 0 d1 1\n302\t0\td2\t2\n302 0 d1 0\n"


def write(folder, topics=TOPICS, qrels=QRELS, corpus=CORPUS, packed=False):
    """The arguments of ``read_trec`` for files of these contents."""
    given = {}
    for name, text in (("topics", topics), ("qrels", qrels), ("corpus", corpus)):
        file = folder / f"{name}.{'jsonl' if text.startswith('{') else 'txt'}{'.gz' * packed}"
        file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        given[name] = str(file)
    return given


def texts(collection):
    return [
        dict(zip(collection.document_ids, collection.documents, strict=True)),
        dict(zip(collection.query_ids, collection.queries, strict=True)),
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_reads_topics_qrels_and_a_corpus(tmp_path, packed):
    found = read_trec(**write(tmp_path, packed=packed))
    assert found.name == tmp_path.name
    assert texts(found) == [
        {"d1": "crime, 湖", "d2": "polio"},
        {"301": "International <i>Crime</i>", "302": "Polio"},
    ]
    assert found.qrels == {"test": {"301": {"d1": 1}, "302": {"d2": 2, "d1": 0}}}


@pytest.mark.parametrize(
    "topics",
    [
        "<top>\n<num>1\n<title>x\n</top><top>\n<num>2\n<title>y <i>z</i>\n</top>\n",
        "<top><num>1</num><title>x</title></top>\n<top><num>2</num><title>y <i>z</i></title></top>\n",
        "<top><num>1</num><title>x</title></top><top><num>2</num><title>y\n<i>z</i></title>\n</top>",
        "<top>\n<num>1\n<title>x</top>\n\n<top>\n<num>2\n<title>y <i>z</i></top>\n",
        "<top>\n<num>Number: 1 <title>Topic: x\n</top>\n<top>\n<num>2 <title>y <i>z</i>\n</top>\n",
        "<topics>\n<TOP id='1'><NUM>1</NUM><dom>a</dom><TITLE>x</TITLE><desc>b</TOP>\n<top><head>h</head>"
        "<num>2<title>y <i>z</i><narr>c</top></topics>",
    ],
    ids=["joined", "lines", "line", "ends", "fields", "wrapped"],
)
def test_topics_go_by_their_tags_however_lines_break(topics, tmp_path):
    """Two of them joined on a line were lost once, in silence."""
    found = read_trec(**write(tmp_path, topics=topics, qrels="1 0 d1 1\n2 0 d2 1\n"))
    assert texts(found)[1] == {"1": "x", "2": "y <i>z</i>"}


def test_topics_without_a_title_are_read_by_another_field(tmp_path):
    given = write(tmp_path, topics="<top>\n<num>1\n<desc>what?\n</top>\n", qrels="1 0 d1 1\n")
    assert read_trec(**given, query_template="{description}").queries == ["what?"]


@pytest.mark.parametrize(
    ("topics", "corpus"),
    [
        ("qid\tquery\n", "id\ttext\n"),
        ("query_id\ttext\n", "docid\ttext\n"),
        ("\nquery-id\tquery\n", "Doc_ID\tContents\n"),
        ("number\tquery\n", "docno\tbody\n"),
        ("qid\tquestion\n", "id\tcontent\n"),
    ],
)
def test_a_header_over_id_and_text_is_no_row(topics, corpus, tmp_path, caplog):
    caplog.set_level("INFO")
    rows = "301\tcrime\n302\ttext\nid\ttext\n"
    found = read_trec(**write(tmp_path, topics=topics + rows, corpus=corpus + CORPUS))
    assert texts(found) == [
        {"d1": "crime, 湖", "d2": "polio"},
        {"301": "crime", "302": "text", "id": "text"},
    ]
    assert f"{tmp_path / 'corpus.txt'}:1: a header ({', '.join(corpus.split())}), no row" in caplog.text
    assert "topics.txt" in caplog.text


@pytest.mark.parametrize("line", ["q1\ttext", "id\tcrime"])
def test_a_first_row_with_one_name_of_a_header_stays(line, tmp_path):
    found = read_trec(**write(tmp_path, topics=f"{line}\n301\tb\n302\tc\n"))
    assert texts(found)[1] == {line.split("\t")[0]: line.split("\t")[1], "301": "b", "302": "c"}


def test_a_label_is_taken_off_the_beginning_alone(tmp_path):
    """Not out of a title that holds its word."""
    topics = "<top>\n<num> Number: 1\n<title> Hot Topic: the store\n</top>\n"
    found = read_trec(**write(tmp_path, topics=topics, qrels="1 0 d1 1\n"))
    assert found.queries == ["Hot Topic: the store"]


def test_a_template_takes_other_fields_of_a_topic(tmp_path):
    found = read_trec(**write(tmp_path), query_template="{title}. {description} {narrative}")
    assert found.queries == [
        "International <i>Crime</i>. Identify organizations that do harm. A relevant document: one.",
        "Polio. Is it gone?",
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_a_collection_written_as_tsv_or_jsonl_gives_it_back(tmp_path, collection, packed):
    """Topics in a file for each split, as MS MARCO has them."""
    lines = [f"{i}\t{text}\n" for i, text in zip(collection.query_ids, collection.queries, strict=True)]
    given = {"topics": [], "qrels": {}}
    for split, part in (("train", lines[:16]), ("test", lines[16:])):
        (tmp_path / split).mkdir()
        judged = collection.qrels[split].items()
        qrels = "".join(f"{q} Q0 {d} {grade}\n" for q, grades in judged for d, grade in grades.items())
        found = write(tmp_path / split, "".join(part), qrels, packed=packed)
        given["topics"].append(found["topics"])
        given["qrels"][split] = found["qrels"]
    rows = list(zip(collection.document_ids, collection.documents, strict=True))
    for text in (
        "".join(f"{i}\t{text}\n" for i, text in rows),
        "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in rows),
    ):
        corpus = write(tmp_path, corpus=text, packed=packed)["corpus"]
        assert read_trec(**given, corpus=corpus).fingerprint == collection.fingerprint


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (
            {"topics": "<top>\n<title> no number\n</top>\n"},
            r"topics.txt:1: a topic without <num>",
        ),
        ({"topics": "<top>\n<num> 1\n<title> open\n"}, r"topics.txt:1: <top> without </top>"),
        ({"topics": "<top>\n<num> 1\n<title> a\n<top>\n</top>"}, r"topics.txt:1: <top> without </top>"),
        (
            {"topics": "<top>\n<num> 1\n<desc> b\n</top>\n"},
            r"txt:1: a topic without <title>; data.query_template",
        ),
        (
            {"topics": "<top>\n<num> 1\n<title> a\n<num> 2\n<title> b\n</top>"},
            r"txt:1: a topic with two <num>",
        ),
        ({"topics": "<top>\n<num> 1\n<title> a\n</top>\n</top>\n"}, r"txt:5: </top> without <top>"),
        ({"topics": "<top>\n<num> 1\n<title> a\n</top>\n<num> 2\n"}, r"txt: <num> after the last </top>"),
        ({"topics": "<num> 1\n<title> a\n<top>\n</top>\n"}, r"txt:3: <num> before this <top>"),
        ({"topics": "<xml>\n<topic number='1'/>\n"}, r"topics.txt: no <top> in it"),
        ({"topics": ""}, r"topics.txt: no usable row in it"),
        ({"topics": "1\ta\tb\n"}, r"topics.txt:1: expected id and text with one tab between, got 2"),
        (
            {"corpus": "d1\tcrime\nd2 polio\n"},
            r"corpus.txt:2: expected id and text with one tab between, got 0",
        ),
        ({"corpus": "d1\tcrime\nd2\t \n"}, r"^1 empty texts: .*corpus.txt:2; .*skip"),
        ({"corpus": "d1\tcrime\nd1\tother\n"}, r"^1 duplicate ids: .*corpus.txt:2 .d1.; .*skip"),
        (
            {"corpus": '{"id": "d1", "contents": "a"}\n'},
            r"corpus.jsonl: no row has the field text or title; .*contents",
        ),
        ({"corpus": '{"id": "d1", "text": 3}\n'}, r"corpus.jsonl:1: expected an id and the strings"),
        ({"corpus": "{broken\n"}, r"corpus.jsonl:1: malformed JSON"),
        ({"qrels": "301 0 d1\n"}, r"qrels.txt:1: expected query, document and grade"),
        (
            {"qrels": "301 0 d1 1\n301 0 d2 high\n"},
            r"qrels.txt:2: expected query, document and a whole grade",
        ),
        (
            {"qrels": "301 0 d1 1\n301 0 d9 1\n"},
            r"^1 judgments of unknown documents: .*qrels.txt:2 .d9.; .*skip",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, contents, reason):
    with pytest.raises(InputError, match=reason) as error:
        read_trec(**write(tmp_path, **contents))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    for name in ("topics", "qrels", "corpus"):
        given = write(tmp_path) | {name: str(tmp_path / "nowhere.tsv")}
        with pytest.raises(InputError, match="nowhere.tsv: no such file"):
            read_trec(**given)


def test_faults_are_skipped_on_demand(tmp_path):
    given = write(tmp_path, qrels=QRELS + "399 0 d1 1\n", corpus=CORPUS + "d3\t\nd1\tother\n")
    assert read_trec(**given, invalid="skip").fingerprint == read_trec(**write(tmp_path)).fingerprint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"qrels": {"train": ["a", "b"]}},
            r"qrels: of train expected a file, got \['a', 'b'\]; give each split",
        ),
        ({"topics": []}, "topics: none given"),
    ],
)
def test_files_that_are_not_given_as_they_must_be_are_named(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        read_trec(**(write(tmp_path) | given))
