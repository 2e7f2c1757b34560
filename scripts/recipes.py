"""What recipes were measured at, beside plain: the table of docs/recipes.md, of finished sweeps.

    rankdistill train +study=recipes hydra.sweep.dir=outputs/recipes/python_functions
    rankdistill train +study=recipes data=beir data.path=nfcorpus hydra.sweep.dir=outputs/recipes/nfcorpus
    python scripts/recipes.py outputs/recipes/python_functions outputs/recipes/nfcorpus

A sweep for each collection, whose folder names the column. With --write the table takes the place
of the one in docs/recipes.md, and its numbers go to docs/results/recipes.csv.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import rankdistill as rd
from rankdistill.evaluation.conclusions import p_value, tested
from rankdistill.evaluation.report import as_markdown
from rankdistill.evaluation.significance import holm

PLAIN, MEASURE = "recipe/plain", "nDCG@10"
DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- measured: scripts/recipes.py -->\n", "<!-- end -->\n"


def measured(folder: Path) -> pd.DataFrame:
    """A row a recipe: mean and deviation over the seeds, difference to plain, interval, p (Holm)."""
    report = rd.report(folder, MEASURE)
    place = report.swept.index("experiment")
    settings = {setting.values[place]: setting for setting in report.settings}
    plain = settings.pop(PLAIN)
    rows = [{"recipe": PLAIN, **of_seeds(plain)}]
    for name, setting in settings.items():
        ((_, better, test, _),) = tested([plain, setting], MEASURE)
        sign = 1 if better is setting else -1
        low, high = sorted((sign * test.low, sign * test.high))
        row = {"difference": sign * test.difference, "low": low, "high": high, "p": test.p}
        rows.append({"recipe": name, **of_seeds(setting), **row})
    table = pd.DataFrame(rows)
    table.loc[1:, "p"] = holm(table["p"].to_numpy()[1:])
    return table.assign(collection=folder.resolve().name)


def of_seeds(setting) -> dict[str, float]:
    values = setting.by_seed[MEASURE]
    return {"seeds": len(values), "mean": np.mean(values), "deviation": np.std(values, ddof=1)}


def page(table: pd.DataFrame) -> str:
    """A row a recipe, two columns a collection; the best of the first collection above."""
    names = table["collection"].unique()
    rows = [["recipe", *(word for name in names for word in (name, "less plain, interval, p"))]]
    for recipe in table["recipe"].drop_duplicates():
        cells = [f"`{recipe}`"]
        for name in names:
            found = table[(table["recipe"] == recipe) & (table["collection"] == name)]
            if not len(found):
                cells += ["", ""]
                continue
            row = found.iloc[0]
            cells.append(f"{row['mean']:.4f} ± {row['deviation']:.4f}")
            of = f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}], {p_value(row['p'])}"
            cells.append("" if recipe == PLAIN else of)
        rows.append(cells)
    return as_markdown(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    table = pd.concat([measured(folder) for folder in given.folders], ignore_index=True)
    text = page(table)
    print(text)
    if given.write:
        table.to_csv(DOCS / "results" / "recipes.csv", index=False, float_format="%.6g")
        before, rest = (DOCS / "recipes.md").read_text().split(BEGIN)
        (DOCS / "recipes.md").write_text(before + BEGIN + text + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
