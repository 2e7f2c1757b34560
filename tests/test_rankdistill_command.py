"""``rankdistill <command>`` is ``python -m rankdistill <command>``, and says what there is in no time."""

import subprocess
import sys
from pathlib import Path

import pytest

from rankdistill.__main__ import COMMANDS, HELP

PACKAGE = Path(sys.modules["rankdistill"].__file__).parent


def rankdistill(*words, modules=()):
    """Runs it in a fresh interpreter; fails if one of ``modules`` was imported for it."""
    code = "import sys; from rankdistill.__main__ import main\ntry: main()\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=600)
    *out, loaded = done.stdout.splitlines()
    assert not set(modules) & set(loaded.split())
    return done.returncode, "\n".join(out), done.stderr


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_every_command_without_loading_torch(words):
    assert rankdistill(*words, modules=["torch", "transformers"]) == (0, HELP, "")


def test_every_module_that_can_be_run_is_a_command():
    runs = {
        file.stem
        for file in (PACKAGE / "commands").glob("*.py")
        if '__name__ == "__main__"' in file.read_text()
    }
    assert runs == set(COMMANDS) and all(name in HELP for name in COMMANDS)


def test_a_misspelt_command_is_one_line():
    line = "error: 'trian' is not a command; did you mean train?; available: " + ", ".join(COMMANDS)
    assert rankdistill("trian", modules=["torch"]) == (2, "", line + "\n")


def test_a_command_gets_its_own_words(tmp_path):
    status, out, _ = rankdistill("report", str(tmp_path / "none"))
    assert status == 2
    assert rankdistill("cache", "--help")[1].startswith("usage: ")
