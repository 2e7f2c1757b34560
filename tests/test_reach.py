"""A hub out of reach is asked once and briefly."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from rankdistill.data import read_hub
from rankdistill.errors import InputError
from rankdistill.runtime import environment, reach
from rankdistill.runtime.reach import asking_hub
from rankdistill.scores import read_scores
from rankdistill.students import load_student
from rankdistill.teachers import CrossEncoderTeacher, LateInteractionTeacher


@pytest.fixture
def hub(monkeypatch):
    """Says which address the hub has."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(reach, "_failed_at", {})
    monkeypatch.setattr(environment, "PATIENCE", 0.3)
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return lambda port: monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")


@pytest.fixture
def silent():
    """A port that takes connections and never answers, and how many it took."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = []

        def listen():
            while True:
                try:
                    taken.append(server.accept())
                except OSError:
                    return

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], taken


@pytest.mark.parametrize(
    "load",
    [
        lambda _: load_student("someone/none"),
        lambda _: CrossEncoderTeacher("someone/none"),
        lambda _: LateInteractionTeacher("someone/none"),
        lambda _: read_hub("someone/none"),
        lambda collection: read_scores("someone/none", collection),
    ],
    ids=["student", "cross-encoder", "late-interaction", "collection", "scores"],
)
def test_a_hub_that_never_answers_ends_in_one_line_soon(hub, silent, collection, load):
    port, taken = silent
    hub(port)
    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(InputError, match="someone/none") as error:
            load(collection)
        assert "\n" not in str(error.value)
    assert len(taken) == 1, "asked once"
    assert time.monotonic() - started < 40  # by itself more than a minute, however busy the machine
    assert constants.HF_HUB_OFFLINE is False


def test_a_hub_that_refuses_is_out_of_reach_and_asked_again_later(hub, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    hub(port)
    with asking_hub():
        assert constants.HF_HUB_OFFLINE
    monkeypatch.setattr(reach, "REMEMBERED", 0)
    with answering(port), asking_hub():
        assert not constants.HF_HUB_OFFLINE


class answering:
    """A server that knows nothing, at ``port``."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    def __init__(self, port):
        self.server = HTTPServer(("127.0.0.1", port), self.Handler)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def test_who_is_offline_asks_nobody(hub, silent, monkeypatch):
    port, taken = silent
    hub(port)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with asking_hub():
        assert constants.HF_HUB_OFFLINE
    assert constants.HF_HUB_OFFLINE and not taken
