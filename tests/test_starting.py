import os
import signal
import subprocess
import sys
import time

import pytest

from rankdistill.runtime.starting import _is_command


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_while_modules_are_imported_ends_in_one_line(tmp_path, name):
    """A module of torch's name holds the imports up, which take some seconds."""
    (tmp_path / "torch.py").write_text(
        "print('here', flush=True)\nwhile True:\n    import time; time.sleep(0.01)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-m", "rankdistill.train"],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "here\n"
    time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=600)
    assert process.returncode == 128 + signal.Signals[name]
    assert said.strip() == "interrupted; start the same command again"


@pytest.mark.parametrize(
    ("arguments", "original", "whether"),
    [
        (["-m", "x=1"], ["python", "-u", "-m", "rankdistill.train", "x=1"], True),
        (["-m"], ["python", "-m", "other.tool", "-m", "rankdistill"], False),
        (["/usr/bin/rankdistill", "cache"], ["python", "/usr/bin/rankdistill", "cache"], True),
        (["my_script.py"], ["python", "my_script.py"], False),
        ([""], ["python"], False),
    ],
)
def test_a_program_that_imports_the_library_keeps_its_handlers(arguments, original, whether):
    assert _is_command(arguments, original) == whether
