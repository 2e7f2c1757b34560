import dataclasses
import re

import ir_measures
import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from rankdistill.candidates import BM25, Dense, mine
from rankdistill.data import Candidates, Collection
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator, Run
from rankdistill.retrieval import DenseIndex, embed_documents, embed_queries, passing_index
from rankdistill.scores import ScoreTable


def ndcg(grades, judged, k):
    """Järvelin and Kekäläinen 2002, with the grade as gain."""
    ideal = sorted(judged, reverse=True)
    gain = [sum(max(g, 0) / np.log2(i + 2) for i, g in enumerate(ranked[:k])) for ranked in (grades, ideal)]
    return gain[0] / gain[1]


def reciprocal_rank(grades, judged, k):
    return next((1 / (i + 1) for i, grade in enumerate(grades[:k]) if grade > 0), 0.0)


def recall(grades, judged, k):
    return sum(grade > 0 for grade in grades[:k]) / sum(grade > 0 for grade in judged)


def average_precision(grades, judged, k):
    hits = [sum(g > 0 for g in grades[: i + 1]) / (i + 1) for i, grade in enumerate(grades) if grade > 0]
    return sum(hits) / sum(grade > 0 for grade in judged)


ORACLE = {
    "nDCG@10": (ndcg, 10),
    "nDCG": (ndcg, 1000),
    "RR@10": (reciprocal_rank, 10),
    "RR": (reciprocal_rank, 1000),
    "R@100": (recall, 100),
    "R@5": (recall, 5),
    "AP": (average_precision, None),
}


@pytest.fixture(scope="module")
def judged():
    """150 documents, 20 queries with graded judgments, a third of them hard to find."""
    rng = np.random.default_rng(0)
    documents = [f"d{i}" for i in range(150)]
    qrels = {
        f"q{i}": {str(d): int(rng.integers(0, 4)) for d in rng.choice(documents, 12, replace=False)}
        for i in range(20)
    }
    return Collection("judged", documents, documents, list(qrels), list(qrels), {"test": qrels})


@pytest.mark.parametrize("digits", [8, 1, 0], ids=["no-ties", "ties", "mostly-ties"])
def test_measures_equal_an_oracle(judged, digits):
    """Equal scores are in the order of document ids, for RR and RR@10 alike."""
    rng = np.random.default_rng(1)
    scored = {
        query: {
            d: round(float(rng.uniform()), digits)
            for d in rng.choice(judged.document_ids, 120, replace=False)
        }
        for query in judged.query_ids
    }
    found = Evaluator(list(ORACLE)).measure(Run.from_scores(scored), judged)
    for name, (measure, k) in ORACLE.items():
        expected = {}
        for query, documents in scored.items():
            grades = judged.qrels["test"][query]
            order = sorted(documents, key=lambda d: (-documents[d], d))
            expected[query] = measure([grades.get(d, 0) for d in order], list(grades.values()), k)
        assert found.per_query[name] == pytest.approx(expected, abs=1e-6), name
        assert found.mean[name] == pytest.approx(np.mean(list(expected.values())), abs=1e-6)
        assert 0.03 < found.mean[name] < 0.97, "or the test shows little"


@pytest.mark.parametrize(("relevant", "rr"), [("a", 1.0), ("b", 0.5), ("c", 1 / 3)])
def test_ties_are_broken_by_document_id_whatever_the_measure(relevant, rr):
    """Two providers of ir-measures break them in opposite directions."""
    toy = Collection("toy", ["a", "b", "c"], ["1", "2", "3"], ["q"], ["?"], {"test": {"q": {relevant: 1}}})
    run = Run.from_scores({"q": {"c": 1.0, "a": 1.0, "b": 1.0}})
    found = Evaluator(["RR", "RR@10", "AP", "nDCG@10", "P@1"]).measure(run, toy).mean
    assert [found["RR"], found["RR@10"], found["AP"]] == pytest.approx([rr] * 3)
    assert found["nDCG@10"] == pytest.approx(1 / np.log2(1 / rr + 1))
    assert found["P@1"] == (relevant == "a")


def perfect(collection, split="test"):
    return {query: {d: 1.0 for d in judged} for query, judged in collection.qrels[split].items()}


@pytest.mark.parametrize(
    "absent", [lambda run: run.pop("q20"), lambda run: run["q20"].clear(), lambda run: run.clear()]
)
def test_queries_without_results_count_zero(collection, absent):
    """Averaged over the queries answered, a system gains by staying silent."""
    run = perfect(collection)
    absent(run)
    answered = sum(bool(documents) for documents in run.values())
    found = Evaluator().measure(Run.from_scores(run), collection)
    assert all(len(values) == 8 and values["q20"] == 0 for values in found.per_query.values())
    assert all(mean == answered / 8 for mean in found.mean.values())


def test_queries_and_documents_from_elsewhere_do_not_count(collection):
    run = {**perfect(collection), "q0": {"d5": 1.0}, "nobody": {"d1": 1.0}}
    found = Evaluator().measure(Run.from_scores(run), collection)
    assert found.per_query["AP"].keys() == collection.qrels["test"].keys() and found.mean["AP"] == 1


def test_queries_with_nothing_relevant_do_not_count(collection):
    qrels = {"test": {**collection.qrels["test"], "q0": {"d3": 0}}}
    given = dataclasses.replace(collection, qrels=qrels)
    assert Evaluator().measure(Run.from_scores(perfect(collection)), given).mean["RR@10"] == 1


def test_the_first_measure_is_the_main_one():
    assert Evaluator().main == "nDCG@10" and list(Evaluator().measures) == ["nDCG@10", "RR@10", "R@100", "AP"]
    assert Evaluator(["AP(rel=2)", "P@5"]).main == "AP(rel=2)"


@pytest.mark.parametrize(
    "name", ["nDCK@10", "P@99999999999999999999", "nDCG@", "nDCG@10 RR@10", "", "7", "__import__('os')"]
)
def test_an_unknown_measure_is_named_with_what_there_is(name):
    with pytest.raises(InputError) as error:
        Evaluator(["AP", name])
    assert repr(name) in str(error.value) and "nDCG@10, P@5" in str(error.value)


@pytest.mark.parametrize("name", ["P", "R", "nDCG@0", "nDCG@10.5", "nDCG(foo=1)@10", "P(rel='a')@3"])
def test_a_measure_with_wrong_parameters_is_named(name):
    with pytest.raises(InputError, match="evaluator.measures"):
        Evaluator([name])


def test_no_measure_raises():
    with pytest.raises(InputError, match="evaluator.measures is empty"):
        Evaluator([])


def test_two_names_of_one_measure_have_the_same_value(collection):
    found = Evaluator(["RR@10", "MRR@10"]).measure(Run.from_scores(perfect(collection)), collection)
    assert found.mean == {"RR@10": 1.0, "MRR@10": 1.0}


def test_a_limit_measures_that_many_queries_drawn_by_seed(collection):
    run = Run.from_scores(perfect(collection))
    drawn = [
        set(Evaluator(limit=3, seed=seed).measure(run, collection).per_query["AP"]) for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2] and [len(queries) for queries in drawn] == [3, 3, 3]
    assert len(Evaluator(limit=100).measure(run, collection).per_query["AP"]) == 8


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_raises(collection, limit):
    with pytest.raises(InputError, match="limit"):
        Evaluator(limit=limit).measure(Run.from_scores(perfect(collection)), collection)


@pytest.fixture
def model(student_folder):
    return SentenceTransformer(student_folder, device="cpu")


@pytest.mark.parametrize("given", [False, True], ids=["embeds", "given"])
def test_a_model_is_measured_by_the_run_it_retrieves(model, collection, given):
    documents = passing_index(model, collection) if given else None
    measures = ["nDCG@10", "R@20", "AP"]
    found = Evaluator(measures, k=20).evaluate(model, collection, documents=documents)
    similarity = embed_queries(model, collection.queries) @ embed_documents(model, collection.documents).T
    for row in range(16, 24):
        ranked = found.run.ranking[f"q{row}"]
        best = np.sort(similarity[row])[::-1][:20]
        assert [score for _, score in ranked] == pytest.approx(best.tolist(), abs=1e-6)
        assert [similarity[row, int(d[1:])] for d, _ in ranked] == pytest.approx(best.tolist(), abs=1e-6)
    assert len(found.run.ranking) == 8
    assert found.mean == Evaluator(measures).measure(found.run, collection).mean


@pytest.mark.parametrize("index", ["Flat", "IVF6,Flat"])
def test_padding_of_the_index_never_reaches_a_run(model, collection, index):
    """-1 would index the last document; k is larger than the collection, one list is probed."""
    found = Evaluator(index=index, k=1000).evaluate(model, collection)
    similarity = embed_queries(model, collection.queries) @ embed_documents(model, collection.documents).T
    for query, ranked in found.run.ranking.items():
        assert len(ranked) == 60 if index == "Flat" else 0 < len(ranked) < 60
        for document, score in ranked:
            assert score == pytest.approx(similarity[int(query[1:]), int(document[1:])], abs=1e-5)


def test_documents_that_are_not_the_collections_are_refused(model, collection):
    """They were measured in silence: 20 vectors for 60 documents, or an array of any kind."""
    vectors = embed_documents(model, collection.documents)
    with pytest.raises(InputError, match="documents: a DenseIndex of 20, and .* has 60 documents"):
        Evaluator().evaluate(model, collection, documents=DenseIndex(model, vectors[:20]))
    with pytest.raises(InputError, match="documents: a ndarray is no index; retrieval.index_of makes one"):
        Evaluator().evaluate(model, collection, documents=vectors)
    with pytest.raises(InputError, match=r"model='st': it is a name; give the model, load_student\('st'\)"):
        Evaluator().evaluate("st", collection)


@pytest.mark.parametrize(("index", "search"), [("Flattt", {}), ("Flat", {"nprobe": 3}), (5, {})])
def test_a_bad_index_is_refused_before_the_collection_is_encoded(
    model, collection, monkeypatch, index, search
):
    monkeypatch.setattr("rankdistill.evaluation.evaluator.passing_index", None)
    with pytest.raises(InputError, match=r"(evaluator\.)?(index|search)="):
        Evaluator(index=index, search=search).evaluate(model, collection)
    with pytest.raises(InputError, match="^(index|search)="):
        Dense(model, 5, index, search)


def test_a_bad_index_raises(model, collection):
    with pytest.raises(InputError, match="evaluator.index='Flattt'"):
        Evaluator(index="Flattt").evaluate(model, collection)


def test_a_model_whose_embeddings_are_not_finite_is_an_error(model, collection):
    """It would measure 0 everywhere, without a word."""
    with torch.no_grad():
        next(model.parameters())[:] = torch.nan
    with pytest.raises(InputError, match="is not finite"):
        Evaluator().evaluate(model, collection)


def test_a_split_with_nothing_relevant_is_named(model, collection):
    empty = dataclasses.replace(collection, qrels={"test": {"q0": {"d0": 0}}})
    with pytest.raises(InputError, match="no query of split 'test' has a relevant document"):
        Evaluator().evaluate(model, empty)


def test_an_unknown_split_raises(model, collection):
    with pytest.raises(InputError, match="no split 'dev'"):
        Evaluator().evaluate(model, collection, "dev")


NONE = 65535  # the rank of what a source did not find


def test_rerank_orders_the_candidates_by_the_teacher(collection):
    """Of q20's candidates the teacher prefers the positive; of q21's, another document."""
    candidates = Candidates(
        collection,
        np.array([20, 21]),
        np.array([0, 3, 5]),
        np.array([3, 8, 20, 4, 21], np.int32),
        np.array([False, False, True, False, True]),
        {
            "bm25": np.array([0, NONE, 1, 0, NONE], np.uint16),
            "e5": np.array([NONE, 0, NONE, NONE, 0], np.uint16),
        },
    )
    found = Evaluator(["RR"]).rerank(ScoreTable(candidates, np.array([1, 2, 3, 9, 4], np.float32)))
    assert found.run.ranking["q20"] == [("d20", 3.0), ("d8", 2.0), ("d3", 1.0)]
    assert {query: value for query, value in found.per_query["RR"].items() if value} == {
        "q20": 1.0,
        "q21": 0.5,
    }


def test_rerank_leaves_out_positives_that_no_retriever_found(collection):
    """A teacher that is handed the answers looks better than any reranker could be."""
    candidates = Candidates(
        collection,
        np.array([20]),
        np.array([0, 3]),
        np.array([3, 8, 20], np.int32),
        np.array([False, False, True]),
        {"e5": np.array([1, 0, NONE], np.uint16), "random": np.array([NONE, NONE, 65534], np.uint16)},
    )
    found = Evaluator(["RR", "R@100"]).rerank(ScoreTable(candidates, np.array([1, 2, 3], np.float32)))
    assert found.run.ranking == {"q20": [("d8", 2.0), ("d3", 1.0)]}
    assert found.mean == {"RR": 0.0, "R@100": 0.0}


def test_a_query_with_an_empty_ranking_counts_zero(collection):
    """Judged@10 divided by its length."""
    query = collection.query_ids[collection.query_rows("test")[0]]
    found = Evaluator(["nDCG@10", "Judged@10"]).measure(Run.from_scores({query: {}}), collection)
    assert set(found.per_query["Judged@10"].values()) == {0.0}


def test_rerank_of_the_positives_alone_is_no_result(collection):
    candidates = mine(collection, [], "test")
    found = Evaluator().rerank(ScoreTable(candidates, np.ones(8, np.float32)))
    assert set(found.mean.values()) == {0.0}


def test_mined_and_scored_it_reranks_the_test_queries(collection):
    candidates = mine(collection, [BM25(10)], "test")
    oracle = np.isin(candidates.document_rows, np.arange(16, 24)) & candidates.positive
    found = Evaluator().rerank(ScoreTable(candidates, oracle.astype(np.float32)))
    assert (
        found.mean["RR@10"]
        == Evaluator(["R@100"]).rerank(ScoreTable(candidates, oracle * -1.0)).mean["R@100"]
        > 0.8
    )


def test_a_query_that_is_a_document_is_no_result_of_itself():
    """BEIR's evaluator gives 1.0 and 1.0; so does the run that is written."""
    own = Collection("own", ["1", "2", "3"], list("abc"), ["1"], ["a"], {"test": {"1": {"2": 1}}})
    run = Run.from_scores({"1": {"1": 1.0, "2": 0.8, "3": 0.1}})
    found = Evaluator(["nDCG@10", "RR@10"]).measure(run, own)
    assert found.mean == {"nDCG@10": 1.0, "RR@10": 1.0}
    assert found.run.ranking == {"1": [("2", 0.8), ("3", 0.1)]}
    kept = dataclasses.replace(own, ignore_identical_ids=False)
    assert Evaluator(["RR@10"]).measure(run, kept).mean == {"RR@10": 0.5}
    table = ScoreTable(
        Candidates(kept, np.array([0]), np.array([0, 3]), np.arange(3, dtype=np.int32),
                   np.array([False, True, False]), {"e5": np.zeros(3, np.uint16)}),
        np.array([3, 2, 1], np.float32),
    )  # fmt: skip
    assert Evaluator(["RR@10"]).rerank(table).mean == {"RR@10": 0.5}
    table = dataclasses.replace(table, candidates=dataclasses.replace(table.candidates, collection=own))
    assert Evaluator(["RR@10"]).rerank(table).mean == {"RR@10": 1.0}


# What ir-measures computes with what this library requires.
COMPUTED = [
    *("AP", "AP@5", "AP(rel=2)", "Accuracy@6", "Bpref", "Compat(p=0.9)", "ERR@10", "IPrec@0.5", "Judged@3"),
    *("NumQ", "NumRel", "NumRet", "NumRet(rel=1)", "P@2", "R@2", "RR", "RR@10", "RR(rel=2)@3", "Rprec"),
    *("SetAP", "SetF(beta=0.5)", "SetP", "SetR", "Success@1", "infAP", "nDCG", "nDCG@3"),
    *("nDCG(dcg='exp-log2')@10", "nDCG(gains={0:0,1:3})@10", "nDCG(judged_only=True)@3"),
]


@pytest.mark.parametrize(
    "queries",
    [["PLAIN-1", "a-7", "b-7"], ["q1", "1_2", "007"], ["7", "-7", "q:\u00e9"], ["z\0a", "z\0b", "0"]],
)
def test_a_measure_does_not_depend_on_what_ids_are_called(queries):
    """Programs cut ids at hyphens and zero bytes, or take digits alone: ERR was half, or a traceback."""
    documents = ["x\0y", "x\0z", "a-1", "b-1", "q:1", "0", "\u00e9"]
    grades = np.array([[0, 1, 2, 0, 1, 3], [4, 0, 0, 1, 0, 0], [0, 0, 1, 0, 2, 0]])
    ranks = np.array([[2, 0, 5, 1, 6, 3, 4], [1, 3, 2, 0, 4, 6, 5], [6, 5, 2, 1, 0, 4, 3]])

    def measured(queries, documents):
        qrels = {q: dict(zip(documents, row.tolist())) for q, row in zip(queries, grades, strict=True)}  # noqa: B905
        toy = Collection("toy", documents, list("abcdefg"), queries, list("xyz"), {"test": qrels})
        run = {q: dict(zip(documents, -row[:6])) for q, row in zip(queries, ranks, strict=True)}  # noqa: B905
        found = Evaluator(COMPUTED).measure(Run.from_scores(run), toy).per_query
        return {name: [values[query] for query in queries] for name, values in found.items()}

    expected = measured(list("123"), list("abcdefg"))
    assert measured(queries, documents) == expected
    for i, ranked in enumerate(np.take_along_axis(grades, ranks[:, :6].argsort(axis=1), 1).tolist()):
        seen, err = 1.0, 0.0
        for rank, grade in enumerate(ranked, 1):  # Chapelle et al. 2009; the highest grade is 4
            stop = (2**grade - 1) / 16
            err, seen = err + seen * stop / rank, seen * (1 - stop)
        ordered = sorted(grades[i].tolist(), reverse=True)
        dcg = [sum((2**g - 1) / np.log2(r + 2) for r, g in enumerate(gs)) for gs in (ranked, ordered)]
        assert expected["ERR@10"][i] == pytest.approx(err, abs=1e-5)
        assert expected["nDCG(dcg='exp-log2')@10"][i] == pytest.approx(dcg[0] / dcg[1], abs=1e-5)


def test_compatibility_prefers_what_was_found_among_equal_grades():
    """Found: a, x; ideal: a, b. Overlaps 1/1 and 1/2, weighed 1 and 0.5, over the ideal's with itself."""
    toy = Collection("toy", list("abx"), list("123"), ["q"], ["?"], {"test": {"q": {"b": 1, "a": 1}}})
    found = Evaluator(["Compat(p=0.5)"]).measure(Run.from_scores({"q": {"a": -1.0, "x": -2.0}}), toy)
    assert found.mean["Compat(p=0.5)"] == pytest.approx((1 + 0.25) / (1 + 0.5))


def graded(**grades):
    return Collection("toy", list("abcd"), list("1234"), ["q"], ["?"], {"test": {"q": grades}})


@pytest.mark.parametrize("name", COMPUTED)
def test_a_negative_grade_is_not_relevant_or_refused(name):
    """TREC Web's -2 is junk; trec_eval takes it for not judged (Bpref 1.0 for 0.0)."""
    run = Run.from_scores({"q": {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}})
    if name in ("Bpref", "infAP", "nDCG(judged_only=True)@3"):
        with pytest.raises(
            InputError, match=f"{re.escape(name)}: query 'q', document 'a' has the grade -2; .*make it 0"
        ):
            Evaluator([name]).measure(run, graded(a=-2, b=1, c=2))
    else:
        found = [Evaluator([name]).measure(run, graded(a=grade, b=1, c=2)).mean for grade in (-2, 0)]
        assert found[0] == found[1]


@pytest.mark.parametrize(("name", "grade"), [("ERR@10", 5), ("nDCG(dcg='exp-log2')@5", 9), ("AP", 10**6)])
def test_a_grade_that_a_measure_does_not_know_is_named_before_anything_is_encoded(name, grade):
    with pytest.raises(InputError) as error:
        Evaluator([name]).evaluate(None, graded(a=0, b=grade))
    assert f"{name}: query 'q', document 'b' has the grade {grade};" in str(error.value)


def test_a_value_of_a_query_that_was_not_asked_for_is_an_error(collection, monkeypatch):
    metric = ir_measures.Metric("PLAIN", ir_measures.AP, 1.0)
    monkeypatch.setattr(ir_measures, "iter_calc", lambda *_: iter([metric]))
    with pytest.raises(InputError, match="AP of a query 'PLAIN' that was not asked for"):
        Evaluator(["AP"]).measure(Run.from_scores(perfect(collection)), collection)


def test_what_ir_measures_cannot_compute_is_one_line():
    """It divides by the number of documents that are not relevant."""
    with pytest.raises(InputError, match="Accuracy@1: ir_measures cannot compute"):
        Evaluator(["Accuracy@1"]).measure(Run.from_scores({"q": {"b": 1.0}}), graded(b=1))


class Fixed:
    """Embeddings of a model by hand: what ``embed_queries`` and ``embed_documents`` would give."""

    max_seq_length = tokenizer = None

    def __init__(self, monkeypatch, documents, queries):
        self.documents = DenseIndex(self, np.array(documents, np.float32))
        monkeypatch.setattr(
            "rankdistill.retrieval.dense.embed_queries", lambda *_: np.array(queries, np.float32)
        )

    def get_embedding_dimension(self):
        return self.documents.vectors.shape[1]


def test_which_of_tied_documents_are_found_follows_their_ids(monkeypatch):
    toy = Collection("toy", ["c", "b", "a"], list("123"), ["q"], ["?"], {"test": {"q": {"a": 1}}})
    model = Fixed(monkeypatch, [[1.0]] * 3, [[1.0]])
    found = Evaluator(["R@1"], k=1).evaluate(None, toy, documents=model.documents)
    assert found.mean == {"R@1": 1.0} and found.run.ranking == {"q": [("a", 1.0)]}


def test_a_measure_deeper_than_k_raises_it(monkeypatch, caplog):
    """R@200 of k=100 was 1/3: the relevant documents at ranks 50, 150 and 250 of 300, in silence."""
    caplog.set_level("INFO")
    ids = [f"{i:03d}" for i in range(300)]
    qrels = {"test": {"q": {"050": 1, "150": 1, "250": 1}}}
    deep = Collection("deep", ids, ids, ["q"], ["?"], qrels)
    model = Fixed(monkeypatch, -np.arange(300.0)[:, None], [[1.0]])
    evaluator = Evaluator(["nDCG@10", "R@200", "AP"], k=100)
    assert evaluator.k == 200 and "evaluator.k=100 is raised to 200 for R@200" in caplog.text
    found = evaluator.evaluate(None, deep, documents=model.documents)
    assert found.mean["R@200"] == pytest.approx(2 / 3) and len(found.run.ranking["q"]) == 200
    assert "AP: over the 200 best documents (evaluator.k)" in caplog.text


def test_a_query_that_is_a_document_costs_no_result(monkeypatch):
    own = Collection("own", ["1", "2", "3"], list("abc"), ["1"], ["a"], {"test": {"1": {"2": 1}}})
    model = Fixed(monkeypatch, [[3.0], [2.0], [1.0]], [[1.0]])
    found = Evaluator(["RR@1"], k=1).evaluate(None, own, documents=model.documents)
    assert found.run.ranking == {"1": [("2", 2.0)]} and found.mean == {"RR@1": 1.0}


def test_the_teachers_row_is_cut_as_the_students(collection, caplog):
    caplog.set_level("INFO")
    candidates = Candidates(
        collection, np.array([20]), np.array([0, 3]), np.array([3, 8, 20], np.int32),
        np.array([False, False, True]), {"e5": np.zeros(3, np.uint16)},
    )  # fmt: skip
    table = ScoreTable(candidates, np.array([3, 2, 1], np.float32))
    assert Evaluator(["AP"], k=2).rerank(table).run.ranking == {"q20": [("d3", 3.0), ("d8", 2.0)]}
    assert not caplog.messages
    assert len(Evaluator(["AP"], k=100).rerank(table).run.ranking["q20"]) == 3
    said = "the teacher ranks its candidates alone, 3 to 3 a query, where a model that searches has the best"
    assert f"{said} 60 of all documents" in caplog.text
    Evaluator(["AP"], "HNSW8", k=100).rerank(table)
    assert f"{said} 60 that evaluator.index=HNSW8 finds" in caplog.text


def test_how_an_index_is_searched_is_set(model, collection):
    few, all_ = (
        Evaluator(index="IVF6,Flat", k=60, search={"nprobe": n}).evaluate(model, collection) for n in (1, 6)
    )
    assert all(len(all_.run.ranking[q]) == 60 > len(ranked) for q, ranked in few.run.ranking.items())


def test_counts_of_judgments_need_no_results():
    qrels = {"q0": {"d0": 1, "d1": 1}, "q1": {"d2": 1, "d3": 0, "d4": 2}}
    ids = [f"d{i}" for i in range(5)]
    toy = Collection("toy", ids, ids, list(qrels), list(qrels), {"test": qrels})
    measured = Evaluator(["NumRel", "NumQ", "NumRet"]).measure(Run.from_scores({"q0": {"d0": 1.0}}), toy)
    assert measured.per_query == {
        "NumRel": {"q0": 2, "q1": 2},
        "NumQ": {"q0": 1, "q1": 1},
        "NumRet": {"q0": 1, "q1": 0},
    }
