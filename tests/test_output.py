"""What a command does when nobody reads what it prints, or there is no place for it."""

import io
import os
import sys

import pytest
from commands import start, tiny_arguments

from rankdistill.runtime.output import output_kept

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")


def unread(*streams):
    """``streams`` go into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    for stream in streams:
        os.dup2(writer, stream)


def full(*streams):
    device = os.open("/dev/full", os.O_WRONLY)
    for stream in streams:
        os.dup2(device, stream)


def unread_output():
    unread(1)


def all_unread():
    unread(1, 2)


def full_output():
    full(1)


def all_full():
    full(1, 2)


@pytest.fixture
def given(beir, student_folder):
    """Words of a command of each kind: what Hydra prints, what argparse does, and what a command does."""
    return {
        "help": ["train", "--help"],
        "report": ["report", "--help"],
        "cache": ["cache"],
        "evaluate": ["evaluate", "data=beir", f"data.path={beir}", f"model={student_folder}"],
    }


COMMANDS = ("help", "report", "cache", "evaluate")


@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_that_nobody_reads_ends_quietly(name, given, tmp_path):
    command, *words = given[name]
    done = start(command, words, tmp_path, before=unread_output)
    assert (done.returncode, done.stdout) == (0, "") and "Error" not in done.stderr


@needs_full
@pytest.mark.parametrize("name", COMMANDS)
def test_an_output_that_is_full_ends_in_one_line(name, given, tmp_path):
    command, *words = given[name]
    done = start(command, words, tmp_path, before=full_output)
    (line,) = [line for line in done.stderr.splitlines() if "%|" not in line]
    assert done.returncode == 2 and line.startswith("error: standard output: No space left on device; ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("before", "status"),
    [(all_unread, 0), pytest.param(all_full, 2, marks=needs_full)],
)
def test_a_run_that_nobody_watches_goes_on_to_its_end(
    before, status, tmp_path, beir, student_folder, cross_encoder_folder
):
    words = [*tiny_arguments(beir, student_folder, cross_encoder_folder), "evaluation.teacher=false"]
    done = start("train", [*words, "hydra.run.dir=run"], tmp_path, before=before)
    assert done.returncode == status and "Traceback" not in done.stderr
    assert {"conditions.json", "metrics.json", "model"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


@pytest.mark.parametrize("how", [unread, full])
def test_what_was_printed_before_is_there_and_nothing_else_is_lost(how, tmp_path, monkeypatch):
    done = []
    with open(tmp_path / "out", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO()))
        said = sys.stderr.buffer
        try:
            with output_kept():
                print("before", flush=True)
                how(file.fileno())
                print("after", flush=True)
                done.append(True)
        except SystemExit as stop:
            done.append(stop.code)
    assert (tmp_path / "out").read_text() == "before\n"
    assert done == ([True] if how is unread else [True, 2])
    assert (b"standard output: No space" in said.getvalue()) == (how is full)


@pytest.mark.parametrize("status", [None, 0, 2, 130])
def test_the_status_stays_and_so_do_the_streams(status, capsys):
    before = sys.stdout, sys.stderr
    with pytest.raises(SystemExit) as stop, output_kept():
        print("said")
        sys.exit(status)
    assert stop.value.code == status and (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("said\n", "")


def test_streams_that_were_closed_from_the_beginning_take_what_is_printed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with output_kept():
        sys.stdout.write("said")
        sys.stderr.write("said")
    assert sys.stdout is None and sys.stderr is None


def test_what_a_terminal_has_no_sign_for_is_printed_otherwise(tmp_path, monkeypatch):
    with open(tmp_path / "out", "w", encoding="ascii") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with output_kept():
            print("0.5 ± 0.1")
    assert (tmp_path / "out").read_text() == "0.5 \\xb1 0.1\n"
