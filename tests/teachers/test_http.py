"""A served reranker as the teacher, against a server that the test runs."""

import json
import logging
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from commands import start
from conftest import WordTeacher

from rankdistill.candidates import BM25, mine
from rankdistill.commands.launch import compose, make
from rankdistill.errors import InputError
from rankdistill.runtime import posting
from rankdistill.teachers import EnsembleTeacher, HTTPTeacher, score_candidates, scoring
from rankdistill.teachers.http import requests, scores_of

KEY = "sk-of-a-test-5f2e"


class Server:
    """Scores by ``WordTeacher``, in the reverse order; ``answers`` are what it does instead, each once.

    An answer is (status, headers, body), or a function of the request's body that gives one; None scores.
    """

    def __init__(self, texts="documents", list_alone=False):
        self.asked, self.headers, self.at, self.answers = [], [], [], []
        self.texts, self.list_alone = texts, list_alone
        self.now = self.most = 0
        self.slow = 0.0
        lock, server = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    server.now += 1
                    server.most = max(server.most, server.now)
                    server.at.append(time.monotonic())
                    server.headers.append(dict(self.headers))
                    answer = server.answers.pop(0) if server.answers else None
                    answer = answer(body) if callable(answer) else answer
                    if answer is None:
                        server.asked.append(body)
                time.sleep(server.slow)
                status, headers, text = answer or (200, {}, json.dumps(server.scored(body)))
                with lock:
                    server.now -= 1
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                with suppress(OSError):  # whoever asked may have given up
                    self.wfile.write(text.encode())

            do_GET = do_POST

            def log_message(self, *args):
                pass

        class Many(ThreadingHTTPServer):
            request_queue_size = 128

        self.http = Many(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_port}/rerank"

    def scored(self, body):
        documents = body[self.texts]
        scores = WordTeacher().score([body["query"]] * len(documents), documents)
        name = "score" if self.list_alone else "relevance_score"
        results = [{"index": i, name: float(scores[i])} for i in reversed(range(len(documents)))]
        return results if self.list_alone else {"id": "1", "results": results}

    @property
    def pairs(self):
        return sum(len(body[self.texts]) for body in self.asked)


@pytest.fixture(autouse=True)
def at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(posting, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(scoring, "BLOCK", 50)
    monkeypatch.setenv("RANKDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("A_KEY", KEY)


@pytest.fixture
def serve():
    made = []

    def start(**options):
        made.append(Server(**options))
        return made[-1]

    yield start
    for server in made:
        server.http.shutdown()
        server.http.server_close()


@pytest.fixture
def server(serve):
    return serve()


@pytest.fixture
def candidates(collection):
    found = mine(collection, [BM25(10)])
    assert len(found.document_rows) > 100
    return found


def expected(candidates):
    return WordTeacher().score(*zip(*candidates.pairs(0, len(candidates.document_rows)), strict=True))


@pytest.mark.parametrize(("texts", "list_alone"), [("documents", False), ("texts", True)])
def test_scores_come_to_their_pairs_in_both_forms(serve, candidates, texts, list_alone):
    """Results come in another order; a query's pool is cut by blocks and by requests of four documents."""
    server = serve(texts=texts, list_alone=list_alone)
    teacher = HTTPTeacher(server.address, "reranker", texts=texts, body={"raw_scores": True}, batch_size=4)
    assert np.array_equal(score_candidates(teacher, candidates).scores, expected(candidates))
    assert server.pairs == len(candidates.document_rows)
    assert max(len(body[texts]) for body in server.asked) == 4
    fields = {(body["model"], body["raw_scores"], *sorted(body)) for body in server.asked}
    assert fields == {("reranker", True, *sorted(["query", texts, "model", "raw_scores"]))}


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ([], {"return_documents": False}),
        (["teacher.body={}"], {}),
        (["teacher.body={raw_scores: true}"], {"raw_scores": True}),
        (["teacher.texts=texts"], {}),
    ],
)
def test_what_else_is_sent_is_as_the_command_line_says(words, sent):
    config = compose("teacher=http", "teacher.address=http://a/rerank", *words)
    assert make(config.teacher).body == sent


def test_a_request_has_documents_of_one_query_in_their_order():
    queries, documents = ["b", "a", "b", "b", "a"], list("vwxyz")
    assert requests(queries, documents, 2) == [("b", [0, 2]), ("b", [3]), ("a", [1, 4])]
    with pytest.raises(ValueError):
        requests(["a"], ["x", "y"], 2)


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3)])
def test_no_more_requests_than_the_limit_are_under_way(server, candidates, limit, most):
    server.slow = 0.02
    teacher = HTTPTeacher(server.address, batch_size=4, concurrency=limit)
    queries, documents = zip(*candidates.pairs(0, 50), strict=True)
    teacher.score(queries, documents)
    assert server.most == most


def test_the_processes_of_a_job_share_the_limit(server, candidates, monkeypatch):
    server.slow = 0.02
    monkeypatch.setattr("rankdistill.runtime.processes.count", lambda: 3)
    HTTPTeacher(server.address, batch_size=4, concurrency=7).score(
        *zip(*candidates.pairs(0, 50), strict=True)
    )
    assert server.most == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_waited_for_by_all(server, form):
    """A date has whole seconds: that of 1 to 2 seconds from now is at least 1 away."""
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server.answers = [(429, {"Retry-After": "0.4" if form == "seconds" else when}, "")]
    teacher = HTTPTeacher(server.address, batch_size=1, concurrency=1)
    assert np.isfinite(teacher.score(["w1", "w2"], ["w1", "w3"])).all()
    assert server.at[1] - server.at[0] > (0.39 if form == "seconds" else 0.9)
    assert len(server.at) == 3


def test_a_server_that_asks_for_hours_is_given_up(server):
    server.answers = [(503, {"Retry-After": "7200"}, "")]
    with pytest.raises(InputError, match=r"503 .*asks to wait 7,200 seconds \(Retry-After\)"):
        HTTPTeacher(server.address).score(["w1"], ["w2"])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("12", 12), (" 1.5 ", 1.5), ("-3", 0), (None, 0), ("soon", 0), ("Fri, 31 Dec 1999 23:59:59 GMT", 0)],
)
def test_what_retry_after_says(header, seconds):
    assert posting.seconds_of(header) == seconds


def test_waits_double_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(posting, "FIRST_WAIT", 1.0)
    monkeypatch.setattr(posting.random, "uniform", lambda low, high: low)
    assert [posting.busy_wait(i) for i in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_errors_that_pass_are_tried_again(server, candidates, caplog):
    caplog.set_level(logging.INFO)
    server.answers = [(500, {}, "oops"), (503, {}, ""), (502, {}, "<html>")]
    found = score_candidates(HTTPTeacher(server.address, retries=3), candidates)
    assert np.array_equal(found.scores, expected(candidates))
    assert "answers 500 Internal Server Error; trying again in 0.0 seconds" in caplog.text


def test_a_server_that_is_not_there_is_tried_as_often_as_said():
    with pytest.raises(InputError, match=r"^teacher: query 'w1': .*no answer \(.*refused.*, 3 times"):
        HTTPTeacher("http://127.0.0.1:9/rerank", retries=2).score(["w1"], ["w2"])


def test_an_answer_that_takes_too_long_is_tried_again(server):
    server.slow = 0.5
    with pytest.raises(InputError, match=r"no answer in 0\.1 seconds, 2 times"):
        HTTPTeacher(server.address, timeout=0.1, retries=1).score(["w1"], ["w2"])


def test_a_failure_for_good_names_its_query_and_keeps_the_rest(server, candidates, collection, caplog):
    """The failing query's requests alone, and what had not begun, are asked for by the next run."""
    caplog.set_level(logging.INFO)
    bad = collection.queries[candidates.query_rows[6]]  # in the second of the blocks
    server.answers = [lambda body: (422, {}, "too\n long") if body["query"] == bad else None] * 1000
    teacher = HTTPTeacher(server.address, batch_size=4, concurrency=2)
    with pytest.raises(InputError) as error:
        score_candidates(teacher, candidates)
    assert str(error.value) == (
        f"teacher: query {bad!r}: {server.address}: answers 422 Unprocessable Entity: 'too long'; "
        "what is scored is kept, and the same command resumes there"
    )
    first, n = server.pairs, len(candidates.document_rows)
    assert 50 < first < n
    server.answers = []
    table = score_candidates(teacher, candidates)
    assert np.array_equal(table.scores, expected(candidates))
    assert server.pairs == n, "each pair was scored once"
    assert f"going on after {first} of {n} pairs" in caplog.text


def test_in_an_ensemble_too_what_was_scored_is_kept(server, candidates):
    server.answers = [None] * 8 + [(400, {}, "no")]
    teacher = EnsembleTeacher({"served": HTTPTeacher(server.address, batch_size=4, concurrency=1)})
    with pytest.raises(InputError, match="answers 400 Bad Request: 'no'"):
        score_candidates(teacher, candidates)
    score_candidates(teacher, candidates)
    assert server.pairs == len(candidates.document_rows)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"results": [{"index": 0, "relevance_score": 1}]}, "no result of document 1; 2 were sent, 1 came"),
        ([], "no result of document 0; 2 were sent, 0 came back"),
        ([{"index": 0, "score": 1}, {"index": 0, "score": 1}], "two results of document 0"),
        ([{"index": 2, "score": 1}], "a result of document 2, but 0 to 1 were sent"),
        ([{"index": -1, "score": 1}], "a result of document -1, but 0 to 1 were sent"),
        ([{"index": "0", "score": 1}], "a result without an index: {'index': '0', 'score': 1}"),
        ([{"index": True, "score": 1}], "a result without an index"),
        ([0.5, 0.25], "a result without an index: 0.5"),
        ([{"index": 0, "score": "high"}], "score 'high' of document 0; scores must be finite numbers"),
        ([{"index": 0, "score": None}], "score None of document 0"),
        ([{"index": 0}], "score None of document 0"),
        ([{"index": 0, "score": True}], "score True of document 0"),
        ([{"index": 0, "score": float("nan")}], "score nan of document 0"),
        ([{"index": 0, "score": 1e39}], r"score 1e\+39 of document 0"),
        ([{"index": 0, "score": 10**400}], "score 1000000"),
        ({"data": []}, "the answer has no list of results; it has 'data'"),
        ({"results": {}}, "the answer has no list of results; it has 'results'"),
        ("fine", "the answer has no list of results"),
    ],
)
def test_an_answer_that_is_not_one_finite_score_a_document_is_refused(answer, message):
    with pytest.raises(InputError, match=f"^{message}"):
        scores_of(answer, 2)


@pytest.mark.parametrize(
    ("text", "message"), [("<html>", "answers '<html>', which is not JSON"), ("{}", "no list")]
)
def test_the_line_of_a_bad_answer_has_address_and_query(server, text, message):
    server.answers = [(200, {}, text)]
    with pytest.raises(InputError, match=f"^teacher: query 'w1': {server.address}: .*{message}"):
        HTTPTeacher(server.address).score(["w1"], ["w2"])
    assert len(server.at) == 1, "and is not asked for again"


def test_the_key_is_sent_and_written_nowhere(server, candidates, tmp_path, caplog):
    """Not even where the server repeats it."""
    caplog.set_level(logging.DEBUG)
    server.answers = [(500, {}, KEY), (400, {}, f"{{'message': 'of {KEY}, \nno'}}")]
    teacher = HTTPTeacher(server.address, key_variable="A_KEY", concurrency=1)
    with pytest.raises(InputError, match=r"'message': 'of \*\*\*, no'") as error:
        score_candidates(teacher, candidates)
    score_candidates(teacher, candidates)
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert KEY not in caplog.text + str(error.value) + teacher.fingerprint + repr(vars(teacher))
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert written and not [file for file in written if KEY.encode() in file.read_bytes()]


@pytest.mark.slow
def test_a_whole_run_has_the_key_nowhere(server, tiny, tmp_path, monkeypatch):
    """Neither in what it leaves nor in what it prints; the name of the variable is there."""
    cache = tmp_path / "cold"
    served = ["teacher=http", f"teacher.address={server.address}", "teacher.key_variable=A_KEY"]
    others = [word for word in tiny if not word.startswith("teacher")]
    done = start("train", [*others, *served, "hydra.run.dir=run"], tmp_path, RANKDISTILL_CACHE=str(cache))
    assert done.returncode == 0, done.stderr[-2000:]
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    left = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert not [file for file, data in left.items() if KEY.encode() in data]
    assert any(b"A_KEY" in data for file, data in left.items() if file.suffix == ".json")
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server, serve, status):
    other = serve()
    server.answers = [(status, {"Location": other.address}, "")]
    with pytest.raises(InputError, match=f"a redirect to '{other.address}', which is not followed"):
        HTTPTeacher(server.address, key_variable="A_KEY").score(["w1"], ["w2"])
    assert not other.headers and len(server.headers) == 1


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NO_KEY", "", "teacher.key_variable=NO_KEY: the environment has no such variable, or it is empty"),
        ("B_KEY", "two words", "teacher.key_variable=B_KEY: the variable does not hold a key"),
        ("B_KEY", "one\nline", "not hold a key"),
        ("B_KEY", "schlüssel", "not hold a key"),
    ],
)
def test_a_key_that_cannot_be_sent_is_refused_unseen(server, monkeypatch, variable, value, message):
    monkeypatch.setenv("B_KEY", value)
    with pytest.raises(InputError, match=message) as error:
        HTTPTeacher(server.address, key_variable=variable).score(["w1"], ["w2"])
    assert not server.at and (not value or value not in str(error.value))


@pytest.mark.parametrize(("variable", "what"), [(None, "asks for a key"), ("A_KEY", "refuses the key")])
def test_a_refused_key_is_not_tried_again(server, variable, what):
    server.answers = [(401, {}, f"wrong: {KEY[:8]}")]
    with pytest.raises(InputError, match=f"answers 401 Unauthorized: it {what}$"):
        HTTPTeacher(server.address, key_variable=variable).score(["w1"], ["w2"])
    assert len(server.at) == 1


def test_its_fingerprint_is_of_what_is_sent_and_where():
    def made(address="http://a/rerank", model="m", **options):
        return HTTPTeacher(address, model, **options).fingerprint

    others = [
        made("http://b/rerank"),
        made(model="n"),
        made(model=None),
        made(texts="texts"),
        made(body={"raw_scores": True}),
    ]
    assert len({made(), *others}) == 6
    same = {"key_variable": "A_KEY", "batch_size": 1, "concurrency": 1, "timeout": 1, "retries": 0}
    assert made() == made(body={"return_documents": False}, **same) != made(body={})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"address": "localhost:8080/rerank"}, "teacher.address='localhost:8080/rerank': it must be"),
        ({"address": "file:///etc/passwd"}, "it must be an address such as"),
        ({"address": "http://a b/rerank"}, "it must be an address such as"),
        ({"address": "http://a:x/rerank"}, "it must be an address such as"),
        ({"address": 5}, "address=5: it must be a text"),
        ({"address": "http://localhost:8080"}, "it lacks the path, which is often /rerank"),
        ({"texts": "passages"}, "teacher.texts='passages': it must be documents or texts"),
        ({"body": {"query": "x"}}, "teacher.body.query: that is what is sent anyway"),
        ({"batch_size": 0}, "batch_size=0: it must be 1 or more"),
        ({"concurrency": 1.5}, "concurrency=1.5: it must be an integer"),
        ({"retries": -1}, "retries=-1: it must be 0 or more"),
        ({"timeout": 0}, "timeout=0: it must be a number of seconds above 0"),
    ],
)
def test_settings_are_checked_before_anything_is_sent(options, message):
    with pytest.raises(InputError, match=message):
        HTTPTeacher(**{"address": "http://a/rerank"} | options)


def test_a_key_in_the_address_is_refused_unseen():
    with pytest.raises(InputError, match="teacher.address: it has a user or a key before the @") as error:
        HTTPTeacher(f"http://user:{KEY}@a/rerank")
    assert KEY not in str(error.value)


def test_nothing_is_sent_once_the_scoring_was_interrupted(server, monkeypatch):
    """Requests that wait for another try give it up."""
    monkeypatch.setattr(posting, "FIRST_WAIT", 60.0)
    server.answers = [(500, {}, "")] * 3 + [lambda body: (400, {}, "no")] * 100
    began = time.monotonic()
    with pytest.raises(InputError, match="answers 400"):
        HTTPTeacher(server.address, concurrency=4).score([f"q{i}" for i in range(40)], ["w1"] * 40)
    assert time.monotonic() - began < 30 and len(server.at) < 10
