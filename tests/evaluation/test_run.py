import gzip

import ir_measures
import numpy as np
import pytest

from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator, Run


def order(run):
    return {query: [document for document, _ in ranked] for query, ranked in run.ranking.items()}


RUN = Run({"q2": [("d1", 2.5), ("d3", -0.25)], "q1": [("d2", 0.5)]}, "mine")


def test_equal_scores_are_ordered_by_document_id():
    run = Run.from_scores({"q": {"b": 1.0, "d10": 2.0, "a": 1.0, "d9": 2.0, "c": 3.0}})
    assert [document for document, _ in run.ranking["q"]] == ["c", "d10", "d9", "a", "b"]


def test_rows_of_minus_one_are_no_documents(collection):
    """-1 would index the last document."""
    rows, scores = (
        np.array([[3, 0, -1], [-1, -1, -1]]),
        np.array([[0.5, 0.75, 9.0], [1.0, 1.0, 1.0]], np.float32),
    )
    run = Run.from_rows(collection, np.array([1, 5]), rows, scores, "x")
    assert run.ranking == {"q1": [("d0", 0.75), ("d3", 0.5)], "q5": []}


@pytest.mark.parametrize("name", ["run.trec", "run.trec.gz"])
def test_what_is_written_reads_back_the_same(tmp_path, name):
    RUN.write(tmp_path / name)
    assert Run.read(tmp_path / name) == RUN
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")


def test_it_is_written_in_trec_format(tmp_path):
    RUN.write(tmp_path / "run.trec")
    cells = [line.split(" ") for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert [row[:4] + row[5:] for row in cells] == [
        ["q2", "Q0", "d1", "1", "mine"],
        ["q2", "Q0", "d3", "2", "mine"],
        ["q1", "Q0", "d2", "1", "mine"],
    ]
    assert [float(row[4]) for row in cells] == [2.5, -0.25, 0.5]


def test_scores_close_together_keep_their_order_on_disk(tmp_path):
    """Else the run file measures differently from the run."""
    scores = np.float32(0.9) + np.arange(4, dtype=np.float32) * np.float32(1.2e-7)
    assert len(set(scores.tolist())) > 2
    run = Run.from_scores({"q": dict(zip("abcd", scores.tolist(), strict=True))})
    run.write(tmp_path / "run.trec")
    assert order(Run.read(tmp_path / "run.trec")) == order(run)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 d2 2 0.5", "run.trec:3: expected 'query Q0 document rank score name', got 'q Q0 d2 2 0.5'"),
        ("q Q0 d2 2 0.5 x y", "run.trec:3: expected"),
        ("q Q0 d2 2 high x", "run.trec:3: expected"),
        ("q Q0 d2 2 nan x", "run.trec:3: score nan is not finite"),
        ("q Q0 d2 2 inf x", "run.trec:3: score inf is not finite"),
        ("q Q0 d1 2 0.5 x", "run.trec:3: document 'd1' twice for query 'q'"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    (tmp_path / "run.trec").write_text(f"q Q0 d1 1 0.75 x\n\n{line}\n")
    with pytest.raises(InputError, match=message):
        Run.read(tmp_path / "run.trec")


def test_a_byte_order_mark_is_no_part_of_the_first_query(tmp_path):
    (tmp_path / "run.trec").write_text("q Q0 d1 1 0.75 x\n", encoding="utf-8-sig")
    assert list(Run.read(tmp_path / "run.trec").ranking) == ["q"]


def test_a_score_that_is_nan_raises():
    """It would be ranked by the order of insertion."""
    with pytest.raises(InputError, match="the score of 'q', '.*' is nan"):
        Run.from_scores({"q": {"a": float("nan"), "b": 1.0}})


def test_the_order_is_that_of_the_scores_not_of_the_lines(tmp_path):
    (tmp_path / "run.trec").write_text("q Q0 a 1 0.5 x\r\nq\tQ0 c 2 0.75  x\nq Q0 b 3 0.75 x\n")
    assert Run.read(tmp_path / "run.trec") == Run({"q": [("b", 0.75), ("c", 0.75), ("a", 0.5)]}, "x")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.trec", None),
        ("plain.trec.gz", b"q Q0 d1 1 0.5 x\n"),
        ("cut.trec.gz", gzip.compress(b"q Q0 d1 1 0.5 x\n" * 9)[:-12]),  # its header holds the time
        ("latin.trec", b"q Q0 d\xfc 1 0.5 x\n"),
    ],
    ids=["missing", "not gzipped", "cut off", "not UTF-8"],
)
def test_a_file_that_is_no_run_is_named(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        Run.read(tmp_path / name)


def test_a_folder_is_no_run(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Run.read(tmp_path)


@pytest.mark.parametrize(
    "scores",
    [
        [0.5] * 40,
        [1, 1, 1 - 2**-24, 1 - 2**-24, 0.25],
        [0] * 9,
        [1e300, 1e300, -1e300],
        [-0.75, -0.75, -0.75000001],
    ],
)
def test_trec_eval_has_the_figures_of_the_library_from_what_is_written(tmp_path, scores):
    """It breaks ties the other way round and reads single precision: 1.0 of its AP is a fortieth here."""
    documents = [f"d{i:02d}" for i in range(len(scores))]
    grades = {documents[0]: 1, documents[-1]: 2, documents[len(documents) // 2]: 1}
    toy = Collection("toy", documents, documents, ["q"], ["?"], {"test": {"q": grades}})
    run = Run.from_scores({"q": dict(zip(documents, scores, strict=True))}, "two words")
    measures = ["AP", "RR", "RR@10", "nDCG@3", "P@1", "R@2", "Judged@2", "Bpref", "Success@1"]
    ours = Evaluator(measures).measure(run, toy).mean
    run.write(tmp_path / "run.trec")
    read = Run.read(tmp_path / "run.trec")
    assert order(read) == order(run) and read.name == "two_words"
    theirs = ir_measures.calc_aggregate(
        [ir_measures.parse_measure(m) for m in measures],
        {"q": grades},
        list(ir_measures.read_trec_run(str(tmp_path / "run.trec"))),
    )
    assert {str(m): v for m, v in theirs.items()} == pytest.approx(ours)
    exact = np.array([score for _, score in read.ranking["q"]])
    if max(map(abs, scores)) < 1e38:
        assert np.allclose(exact, np.sort(scores)[::-1], rtol=1e-5, atol=1e-40)


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        ({"q": ["d2", "d1"]}, r"query 'q': expected \(document id, score\) pairs, got \['d2', 'd1'\]"),
        ({"q": {"d2": 1.0}}, r"query 'q': expected \(document id, score\) pairs, .* Run.from_scores takes"),
        (
            {"q": [("d2", float("nan"))]},
            "query 'q': expected a document's id, a string, and a number, got 'd2', nan",
        ),
        ({"q": [(4, 1.0)]}, "query 'q': expected a document's id, a string, and a number, got 4, 1.0"),
        ({"q": [("d", 2.0), ("d", 1.0)]}, "query 'q' has a document twice"),
        ({4: [("d", 1.0)]}, "query 4: an id must be a string"),
    ],
)
def test_what_is_no_ranking_is_refused(ranking, message):
    """Two letters were taken for a document and its score, and a perfect run for one that finds nothing."""
    with pytest.raises(InputError, match=f"run rankdistill: {message}"):
        Run(ranking)


def test_an_id_that_would_end_in_the_middle_is_not_written(tmp_path):
    with pytest.raises(InputError, match="'q 2' is no id in a run file"):
        Run({"q 2": [("d", 1.0)]}).write(tmp_path / "run.trec")
    assert not (tmp_path / "run.trec").exists()


def test_scores_that_are_no_numbers_are_named():
    with pytest.raises(InputError, match="the score of 'q', 'd' is '1', no number"):
        Run.from_scores({"q": {"d": "1", "e": 2}})
