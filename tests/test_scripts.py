"""Scripts are run by hand, seldom; what they import must be there all the same."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_what_a_script_imports_is_there(path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))  # one may import another
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert callable(module.main)


def test_a_figure_that_makes_the_results_is_found(monkeypatch):
    """Beside three that do not, whatever its unit, and however far apart collections are."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    script = importlib.import_module("groups_and_results")
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(60, 4)) * [1, 50, 0.1, 7], columns=list(script.FIGURES))
    rows["cell"] = np.repeat(["a, kl", "b, kl", "b, margin_mse"], 20)
    rows["setting"] = [f"{cell} {i // 2}" for i, cell in enumerate(rows["cell"])]
    within = rows["range"] - rows.groupby("cell")["range"].transform("mean")
    rows["result"] = 0.002 * within + rows["cell"].map({"a, kl": 0.3, "b, kl": 0.6, "b, margin_mse": 0.5})
    table, explained = script.regression(script.centred(rows.assign(sampler="")))
    assert explained == pytest.approx(1, abs=1e-9)
    assert table["coefficient"].to_numpy() == pytest.approx([0, 0.002 * within.std(ddof=0), 0, 0], abs=1e-9)
    assert table.loc["range", "Spearman"] == pytest.approx(1)
