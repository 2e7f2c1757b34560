"""Two runs on the same queries: the difference of a measure, its interval, the paired t-test.

python scripts/compare_runs.py outputs/contrastive outputs/stratified
"""

import argparse
import csv
from pathlib import Path

from rankdistill import compare
from rankdistill.summary import significance


def after(run: Path, measure: str) -> dict[str, float]:
    with open(run / "per_query.csv", newline="", encoding="utf-8") as lines:
        return {row["query_id"]: float(row[f"{measure} after"]) for row in csv.DictReader(lines)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--measure", default="nDCG@10")
    given = parser.parse_args()
    first, second = (after(run, given.measure) for run in (given.first, given.second))
    for run, values in ((given.first, first), (given.second, second)):
        print(f"{run}: {given.measure} {sum(values.values()) / len(values):.4f}")
    print(significance(given.measure, compare(first, second), f"{given.second.name} - {given.first.name}"))


if __name__ == "__main__":
    main()
