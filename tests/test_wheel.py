"""What is installed from a wheel works in any folder: the configurations and the teacher travel in it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ["src", "configs", "pyproject.toml", "README.md", "LICENSE"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The unpacked wheel: what pip would put into site-packages."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, source / name)
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(source / "dist")],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(next((source / "dist").glob("*.whl"))).extractall(folder)
    return folder


@pytest.mark.slow
def test_its_annotations_are_read_by_type_checkers(installed):
    assert (installed / "rankdistill" / "py.typed").is_file()


@pytest.mark.slow
def test_the_commands_compose_with_configurations_of_ones_own(installed, tmp_path):
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "sharp.yaml").write_text(
        "_target_: rankdistill.losses.KLDivergence\nteacher_temperature: 0.25\n"
    )
    words = ["+experiment=quick", "loss=sharp", "--config-dir", "mine", "--cfg", "job"]
    done = subprocess.run(
        [sys.executable, "-m", "rankdistill.train", *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "teacher_temperature: 0.25" in done.stdout and "layers: 3" in done.stdout


@pytest.mark.slow
def test_the_package_is_the_wheels_own_and_has_the_teacher(installed, tmp_path):
    program = (
        "import rankdistill; from rankdistill.teachers.demo import ASSETS; from pathlib import Path\n"
        "print(rankdistill.__file__)\n"
        "print(sum(1 for _ in ASSETS.rglob('*.safetensors')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    where, adapters = done.stdout.split()
    assert Path(where).is_relative_to(installed) and adapters == "2"
