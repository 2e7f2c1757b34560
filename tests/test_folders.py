"""What a run folder says of itself, and what other commands may do to it."""

import hashlib
import json
import logging
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from conftest import at_most
from filelock import FileLock
from omegaconf import OmegaConf
from safetensors.torch import save_file

import rankdistill
from rankdistill.commands.explain import explain
from rankdistill.commands.summary import write_conditions
from rankdistill.errors import InputError
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.folders import WRITTEN, RunFolder, own_files, read_json, write_json, write_text
from rankdistill.training.checkpoints import seal

SOURCES = Path(rankdistill.__file__).parent
ONE, OTHER = OmegaConf.create({"seed": 0, "x": [1, "a"]}), OmegaConf.create({"seed": 1, "x": [1, "a"]})
TRAINING = OmegaConf.create({"seed": 0, "trainer": {}})
INPUTS = {"collection": "c", "candidates": "k", "teacher": "t", "student": "s"}


def contents(folder):
    """Every file's checksum, its time too: nothing was even written again."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(autouse=True)
def info(caplog):
    caplog.set_level(logging.INFO)


def train(folder, config=ONE, until="end", word="trained", **inputs):
    """A run that logs a line and leaves a checkpoint; ``until``: start, checkpoint, end."""
    with RunFolder(folder, config, ["a=b"], {"sampler": "hard"}, "train") as place:
        logging.getLogger("rankdistill").info("%s", word)
        if place.finished(**INPUTS | inputs):
            return place
        if until == "start":
            return place
        place.begin(**INPUTS | inputs)
        (place.checkpoints / "warmup" / "checkpoint-3").mkdir(parents=True, exist_ok=True)
        if until == "checkpoint":
            return place
        write_text(place.path / "metrics.json", '{"after": {"AP": 1.0}}')
        write_conditions(place.path, settings=place.settings, **INPUTS | inputs, resumed=place.resumed)
        place.clear()
    return place


@pytest.mark.parametrize("until", ["checkpoint", "end"])
@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        (OTHER, {}, "other settings"),
        (ONE, {"student": "S"}, "another student"),
        (ONE, {"collection": "C"}, "another collection"),
        (ONE, {"candidates": "K", "teacher": "T"}, "another candidates and another teacher"),
    ],
)
def test_a_refused_run_changes_nothing(tmp_path, until, config, inputs, message):
    """Neither of a finished run nor of one that was interrupted; not a line of its log."""
    train(tmp_path, until=until)
    before = contents(tmp_path)
    assert set(before) >= {"run.json", "config.yaml", "train.log"}
    with pytest.raises(
        InputError, match=message.replace(" and ", ".* and ") + ".*give another hydra.run.dir"
    ):
        train(tmp_path, config, word="refused", **inputs)
    assert contents(tmp_path) == before


def test_a_run_beside_a_running_one_changes_nothing(tmp_path):
    train(tmp_path, until="start")
    before = contents(tmp_path)
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another run is using it"):
        train(tmp_path)
    assert contents(tmp_path) == before


def test_a_finished_run_is_read_and_nothing_is_written(tmp_path):
    train(tmp_path)
    before = contents(tmp_path)
    (tmp_path / ".lock").unlink(missing_ok=True)
    tmp_path.chmod(0o500)
    try:
        assert train(tmp_path, word="again").conditions["student"] == "s"
    finally:
        tmp_path.chmod(0o700)
    assert contents(tmp_path) == before and not (tmp_path / ".lock").exists()


def test_what_a_killed_process_left_is_removed(tmp_path):
    """Drafts of files, and checkpoints where it was killed after its results were written."""
    (tmp_path / ".123.metrics.json").write_text("{")
    (tmp_path / ".hidden.json").write_text("a person's own")
    train(tmp_path)
    assert not (tmp_path / ".123.metrics.json").exists() and (tmp_path / ".hidden.json").exists()
    left = tmp_path / "checkpoints" / "warmup" / "finished"
    left.mkdir(parents=True)
    before = contents(tmp_path)
    with RunFolder(tmp_path, ONE) as place:
        assert place.finished(**INPUTS)
    assert not (tmp_path / "checkpoints").exists()
    assert contents(tmp_path) == {name: found for name, found in before.items() if "checkpoints" not in name}


def test_a_run_that_left_nothing_makes_way_for_another(tmp_path):
    """It failed before anything was kept: it is corrected and started again in the same folder."""
    train(tmp_path, until="start", word="the first")
    train(tmp_path, OTHER, until="start", word="the second")
    told = json.loads((tmp_path / "run.json").read_text())
    assert told["config"] == OmegaConf.to_container(OTHER) and told["settings"] == fingerprint(told["config"])
    assert told["overrides"] == ["a=b"] and told["choices"] == {"sampler": "hard"}
    assert OmegaConf.load(tmp_path / "config.yaml") == OTHER
    assert OmegaConf.load(tmp_path / ".hydra" / "overrides.yaml") == ["a=b"]


def test_the_log_holds_what_was_said_before_the_run_was_accepted(tmp_path):
    train(tmp_path, until="checkpoint", word="the first")
    train(tmp_path, word="the second")
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert [line.rpartition(" - ")[2] for line in lines] == ["the first", "the second"]
    assert all("[rankdistill][INFO] - " in line for line in lines)


def test_what_a_run_was_resumed_from_outlives_another_interruption(tmp_path):
    train(tmp_path, until="checkpoint")
    for step in (3, 7):
        with RunFolder(tmp_path, ONE) as place:
            place.begin(**INPUTS)
            place.note_resumed(f"warmup, step {step}")
    train(tmp_path)
    assert json.loads((tmp_path / "conditions.json").read_text())["resumed"] == [
        "warmup, step 3",
        "warmup, step 7",
    ]
    assert not (tmp_path / "checkpoints").exists()


def test_clear_leaves_what_trackers_wrote(tmp_path):
    place = train(tmp_path, until="checkpoint")
    (place.checkpoints / "warmup" / "finished").mkdir()
    (place.checkpoints / "distillation" / "runs").mkdir(parents=True)
    (place.checkpoints / "distillation" / "runs" / "events").write_text("")
    place.clear()
    left = sorted(path.name for path in place.checkpoints.rglob("*"))
    assert left == ["distillation", "events", "runs"]


DAMAGES = {"empty": b"", "list": b"[]", "cut": b'{"settings": "', "bytes": b"\xff\xfe", "number": b"3"}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["run.json", "metrics.json", "conditions.json"])
def test_a_damaged_file_of_a_finished_run_is_named(tmp_path, name, damage):
    train(tmp_path)
    (tmp_path / name).write_bytes(DAMAGES[damage])
    with pytest.raises(InputError, match=rf"{name}: damaged \(.*delete {tmp_path}"):
        train(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "conditions.json"])
def test_a_missing_file_of_a_finished_run_is_named(tmp_path, name):
    """Not as damaged: somebody deleted it."""
    train(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=rf"^{tmp_path / name}: missing; .*delete {tmp_path}"):
        train(tmp_path)


@pytest.mark.parametrize("damage", [*DAMAGES, "gone"])
def test_a_damaged_identity_of_an_interrupted_run_is_named(tmp_path, damage):
    place = train(tmp_path, until="checkpoint")
    file = place.checkpoints / "identity.json"
    file.unlink() if damage == "gone" else file.write_bytes(DAMAGES[damage])
    with pytest.raises(InputError, match=f"checkpoints.*delete {place.checkpoints}"):
        train(tmp_path)


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "a.json", {"a": 2})
    assert read_json(tmp_path / "a.json", dict, "") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("before", ["nothing", "a run that failed"])
@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
def test_a_model_that_no_run_wrote_there_is_not_replaced(tmp_path, name, before):
    """It may be the student or teacher that the run starts from."""
    if before != "nothing":
        train(tmp_path, TRAINING, until="start")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / name).write_text("somebody's own")
    held = contents(tmp_path)
    with pytest.raises(
        InputError, match=r"model: is there already.*give another hydra\.run\.dir.*move it away"
    ):
        train(tmp_path, TRAINING)
    assert contents(tmp_path) == held


OTHERS = ["run.json", "metrics.json", "per_query.csv", "run.trec.gz", "run_2.trec.gz"]
OTHERS += ["qrels.trec", "comparison.csv", "document_ids.json", "pq.faiss", "torch", "openvino_int8"]


@pytest.mark.parametrize("name", [*OTHERS, "history.json", "plots", "teacher_warmup", "config.yaml"])
def test_what_no_run_wrote_is_not_replaced(tmp_path, name):
    """Under any name that a command writes, by any command, and however often it is tried."""
    (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).write_text("[]")
    (tmp_path / "notes.txt").write_text("somebody's own")
    held = contents(tmp_path)
    for config in (ONE, OTHER):
        with pytest.raises(InputError, match=f"{name}: is there already, and no run that began here wrote"):
            train(tmp_path, config)
    assert contents(tmp_path) == held
    (tmp_path / name).rmdir() if "." not in name else (tmp_path / name).unlink()
    train(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "somebody's own"


def test_every_name_that_a_command_writes_is_known():
    """Those in the sources, between the folder and what is written there."""
    source = "".join(file.read_text() for file in (SOURCES / "commands").glob("*.py"))
    names = re.findall(r"""(?:folder|folder\.path|path) / f?"([^"]+)"|drafted\("(\w+)"\)""", source)
    names = {re.sub(r"{\w+}", "0", a or b) for a, b in names}
    assert {"metrics.json", "qrels.trec", "0.faiss", "torch", "history.json"} <= names
    aside = {
        "model",
        "README.md",
        "checkpoints",
        "finished",
        "sweep.log",
    }  # looked at by itself, and no folder of a run
    reports = {name for name in names if name.startswith(("report", "pairs", "curves"))}
    unknown = {n for n in names - aside - reports if not any(fnmatch(n, p) for p in WRITTEN)}
    assert not unknown


def test_the_model_of_an_interrupted_run_is_replaced_when_it_resumes(tmp_path):
    """Even of one that keeps no checkpoints."""
    with RunFolder(tmp_path, TRAINING) as place:
        place.begin(**INPUTS)
        with place.drafted("model") as draft:
            draft.mkdir()
            (draft / "cut").write_text("")
    assert train(tmp_path, TRAINING).conditions is None
    assert (tmp_path / "conditions.json").exists()


def test_a_run_that_measures_leaves_a_model_in_its_folder_alone(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_text("somebody's own")
    with RunFolder(tmp_path, ONE) as place:
        assert place.accepted
    assert (tmp_path / "model" / "model.safetensors").read_text() == "somebody's own"


@pytest.mark.parametrize("until", ["damaged", "gone", "card", "all gone"])
def test_a_finished_run_whose_model_is_not_what_it_measured_is_named(tmp_path, until):
    """Its card may be edited, and the whole of it be removed to make room."""
    with RunFolder(tmp_path, ONE) as place:
        place.begin(**INPUTS)
        with place.drafted("model") as draft:
            (draft / "1_Pooling").mkdir(parents=True)
            for name in ("README.md", "model.safetensors", "1_Pooling/config.json"):
                (draft / name).write_text("as it was")
        write_conditions(place.path, settings=place.settings, **INPUTS)
        place.clear()
    if until in ("card", "all gone"):
        (tmp_path / "model" / "README.md").write_text("edited")
        if until == "all gone":
            shutil.rmtree(tmp_path / "model")
        assert train(tmp_path).conditions is not None
        return
    file = tmp_path / "model" / ("model.safetensors" if until == "damaged" else "1_Pooling/config.json")
    file.write_text("as it is") if until == "damaged" else file.unlink()
    word = "damaged" if until == "damaged" else "missing"
    with pytest.raises(InputError, match=f"{file}: {word}.*delete {tmp_path} to run it again"):
        train(tmp_path)


def test_a_model_that_the_disk_refuses_is_named(tmp_path):
    """safetensors, torch and NumPy say why alone, and each in its own words."""
    weights = torch.zeros(1000)
    with RunFolder(tmp_path, ONE) as place:
        for save in (
            lambda file: save_file({"weights": weights}, file),
            lambda file: torch.save(weights, file),
            lambda file: weights.numpy().repeat(9).tofile(file),
            lambda file: file.write_bytes(bytes(4000)),
        ):
            with at_most(2000), pytest.raises(Exception) as caught, place.drafted("model") as draft:
                draft.mkdir()
                save(draft / "file")
            assert re.match(f"{place.path / 'model'}: .*ulimit -f", explain(caught.value)), save


def test_a_log_that_the_disk_refuses_does_not_end_the_run(tmp_path, capsys):
    """Nor as it is closed, when what is left of the line is tried again."""
    with RunFolder(tmp_path, ONE, log="train") as place:
        with at_most((tmp_path / "train.log").stat().st_size + 10):
            logging.getLogger("rankdistill").info("a line of more than ten letters")
            place.log.close()
    assert "train.log: cannot be written (File too large)" in capsys.readouterr().err


def test_a_folder_takes_the_place_of_another_when_it_is_full(tmp_path):
    with RunFolder(tmp_path, ONE) as place:
        for text in ("one", "two"):
            with place.drafted("model") as draft:
                draft.mkdir()
                (draft / text).write_text(text)
        with pytest.raises(OSError, match="full"), place.drafted("model"):
            raise OSError("full")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["two"]


def swap(one, other):
    one.rename(one.with_name("aside"))
    other.rename(one)
    one.with_name("aside").rename(other)


@pytest.mark.parametrize("name", ["checkpoint-3", "finished"])
def test_what_was_moved_or_copied_among_checkpoints_is_named(tmp_path, name):
    """It is whole, and would be resumed to another result: of another stage, step or run."""

    def interrupted(folder, **inputs):
        with RunFolder(folder, ONE) as place:
            run = place.begin(**INPUTS | inputs)
            for stage in ("warmup", "distillation"):
                kept = place.checkpoints / stage / name
                kept.mkdir(parents=True, exist_ok=True)
                (kept / "model.safetensors").write_text(f"{stage} of {run}")
                seal(kept, run)
        return place.checkpoints

    found = interrupted(tmp_path / "run")
    swap(found / "warmup", found / "distillation")
    before = contents(tmp_path)
    remedy = f"moved or copied here; delete {found}/(warmup|distillation)/{name} to resume"
    with pytest.raises(InputError, match=f"{name}: is (warmup|distillation)/{name} by its .*, {remedy}"):
        train(tmp_path / "run")
    assert contents(tmp_path) == before
    swap(found / "warmup", found / "distillation")
    other = interrupted(tmp_path / "other", student="another")
    shutil.rmtree(found / "warmup")
    shutil.copytree(other / "warmup", found / "warmup")
    with pytest.raises(InputError, match=f"warmup/{name}: is warmup/{name} of another run .*, {remedy}"):
        train(tmp_path / "run")
    shutil.rmtree(found / "warmup")
    (found / "distillation" / name).rename(found / "distillation" / "checkpoint-9")
    with pytest.raises(InputError, match=f"checkpoint-9: is distillation/{name} by its checksums.json"):
        train(tmp_path / "run")
    (found / "distillation" / "checkpoint-9").rename(found / "distillation" / name)
    train(tmp_path / "run")


def test_a_kill_amid_files_of_ones_own_leaves_them_ones_own(tmp_path, monkeypatch):
    """Some are the new ones, some those of before; the next time all are replaced."""

    def write(word):
        with own_files(tmp_path / "sweep") as files:
            for name in "abc":
                (files / name).write_text(f"{word} {name}")

    write("first")
    replace = Path.replace

    def killed(path, target):
        if path.name == "b":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        write("second")
    found = [(tmp_path / "sweep" / name).read_text() for name in "abc"]
    assert found == ["second a", "first b", "first c"]
    write("third")
    assert [(tmp_path / "sweep" / name).read_text() for name in "abc"] == ["third a", "third b", "third c"]
    (tmp_path / "sweep" / ".written.json").write_text("[")
    with pytest.raises(InputError, match="a: is there already, and no such command wrote it"):
        write("fourth")


def test_what_another_program_of_hydra_s_wrote_stays(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("theirs")
    for until in ("checkpoint", "end"):
        train(tmp_path, until=until)
        assert (tmp_path / ".hydra" / "overrides.yaml").read_text() == "theirs"
