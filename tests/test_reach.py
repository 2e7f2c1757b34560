"""A hub out of reach is asked once and briefly."""

import re
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module

import pytest
from huggingface_hub import constants
from omegaconf import OmegaConf

from rankdistill.commands.launch import compose
from rankdistill.commands.named_models import check_model, check_models, named_models
from rankdistill.commands.plan import makes
from rankdistill.commands.words import config_folder
from rankdistill.data import read_hub
from rankdistill.errors import InputError
from rankdistill.runtime import environment, reach
from rankdistill.runtime.folders import RunFolder
from rankdistill.runtime.reach import asking_hub
from rankdistill.scores import read_scores
from rankdistill.students import load_student
from rankdistill.teachers import CrossEncoderTeacher, HTTPTeacher, LateInteractionTeacher


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


PLACES = {  # words of a run -> the field that names a model which cannot be had
    ("student.model=some/none",): "student.model",
    ("student=static", "student.model=some/none"): "student.model",
    ("student=sparse", "student.model=some/none"): "student.model",
    ("student=adapter", "student.model=some/none"): "student.model",
    ("student=late_interaction", "student.model=some/none"): "student.model",
    ("student=cross_encoder", "student.model=some/none"): "student.model",
    ("student=asymmetric", "student.query.model=some/none"): "student.query.model",
    ("candidates.encoder=some/none",): "candidates.encoder",
    ("order=clusters", "order.model.model=some/none"): "order.model.model",
    ("step_teacher=dense", "step_teacher.model.model=some/none"): "step_teacher.model.model",
    ("step_teacher=cross_encoder",): "step_teacher.model.model",
    ("step_teacher=teacher", "teacher=cross_encoder"): "teacher.model",
    ("+step_teacher@warmup.step_teacher=cross_encoder",): "warmup.step_teacher.model.model",
    ("teacher.model=some/none",): "teacher.model",
    ("teacher=dense", "teacher.model=some/none"): "teacher.model",
    ("teacher=late_interaction",): "teacher.model",
    ("teacher=qwen3_reranker",): "teacher.model",
    ("teacher=ensemble",): "teacher.teachers.cross_encoder.model",
    ("teacher=view", "teacher.view.query_prompt=x"): "teacher.teacher.model",
    ("+teacher@warmup.teacher=cross_encoder",): "warmup.teacher.model",
}
OTHERS = {
    ("mine", "candidates.encoder=some/none"): "candidates.encoder",
    ("score", "candidates.encoder=some/none"): "candidates.encoder",
    ("score", "teacher=cross_encoder"): "teacher.model",
    ("evaluate", "model=[minilm,some/none]"): "model",
    ("quantise", "model=some/none"): "model",
    ("export", "model=some/none"): "model",
    ("average", "model=[minilm,some/none]"): "model",
    ("finetune_teacher", "model=some/none"): "model",
}


def test_a_model_that_cannot_be_had_is_refused_before_anything_is_read(hub, silent, tmp_path, monkeypatch):
    """The second of two was looked for when the first was measured, a teacher when a student was made."""
    port, taken = silent
    hub(port)
    monkeypatch.chdir(tmp_path)
    nowhere = ["data=beir", "data.path=nowhere"]
    given = {("config", *words): field for words, field in PLACES.items()} | OTHERS
    for (name, *words), field in given.items():
        run = import_module(f"rankdistill.commands.{'train' if name == 'config' else name}").run
        config = compose(*nowhere, *words, name=name)
        with RunFolder(tmp_path / "run", config) as folder, pytest.raises(InputError) as error:
            run(config, folder)
        said = rf"{re.escape(field)}: model '\S+' cannot be loaded: no such folder, and couldn't connect"
        assert re.match(said, str(error.value))
    assert len(taken) == 1, "asked once"


def test_models_that_nobody_loads_are_not_looked_for(hub, silent, tmp_path):
    """With a file of scores nothing is mined; warmup=none has no teacher; a server has names of its own."""
    port, taken = silent
    hub(port)
    scores = tmp_path / "scores.csv"
    scores.write_text("query_id,document_id,score\n")
    for words in (
        ["teacher=file", f"teacher.path={scores}", "candidates.encoder=some/none"],
        ["teacher=http", "teacher.address=http://127.0.0.1:9/rerank", "teacher.model=some/none"],
        ["warmup=none", "+warmup.teacher={_target_: rankdistill.teachers.DenseTeacher, model: some/none}"],
    ):
        check_models(*makes(compose(*words)))
    assert not taken


def test_every_model_that_a_configuration_names_is_looked_for():
    """A shipped option with a field for a model's name has a target that says so."""
    server = HTTPTeacher.__name__  # its model is what a server calls it
    for file in sorted(config_folder().glob("*/*.yaml")):
        option = alone(OmegaConf.to_container(OmegaConf.load(file), resolve=False))
        found = {field for field, _ in named_models(OmegaConf.create(option))}
        for field, part in models_of(option):
            if not str(part["_target_"]).endswith((server, "StepTeacher")):  # or the student
                assert field in found, (file.name, field)


def alone(part):
    """An option without what it takes of other parts."""
    if isinstance(part, dict):
        return {name: alone(value) for name, value in part.items() if "${" not in str(value)[:2]}
    return part


def models_of(part, above=""):
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "model" and isinstance(value, str) and "_target_" in part:
                yield above + name, part
            yield from models_of(value, f"{above}{name}.")


def test_a_folder_that_is_no_model_says_what_is_in_it(tmp_path):
    (tmp_path / "run" / "model").mkdir(parents=True)
    with pytest.raises(
        InputError, match=r"model: model '.*run' cannot be loaded: it has .*; is it .*run/model\?"
    ):
        check_model(str(tmp_path / "run"), "model")
