"""Every run under a folder as one table, with the tests between any two settings.

    python -m rankdistill.report multirun/2026-01-31/12-00-00

Prints the table and writes report.md, report.tex, report.csv, pairs.csv and report.png beside the runs;
with --by they are named after the fields: report_by_loss.md.
"""

import argparse
import csv
import logging
import sys
from pathlib import Path

from rankdistill.analysis import plot_report
from rankdistill.analysis.plots import save
from rankdistill.errors import InputError
from rankdistill.evaluation.report import Report, as_markdown, report

FEW = 6  # pairs whose tests the terminal shows too


def write(found: Report, folder: Path, ending: str = "") -> None:
    """The report in ``folder``, in every form; ``ending`` is added to the files' names."""
    (folder / f"report{ending}.md").write_text(found.markdown(), encoding="utf-8")
    (folder / f"report{ending}.tex").write_text(found.latex(), encoding="utf-8")
    for name, rows in (("report", found.numbers()), ("pairs", found.pair_numbers())):
        with open(folder / f"{name}{ending}.csv", "w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows(rows)
    save(plot_report(found), folder / f"report{ending}.png")


def main():
    parser = argparse.ArgumentParser(
        prog="python -m rankdistill.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="of a multirun, or of any runs")
    parser.add_argument("--measure", help="what settings are compared by (default: the runs' main measure)")
    parser.add_argument("--margin", type=float, default=0.01, help="of the equivalence tests (default: 0.01)")
    parser.add_argument(
        "--by", nargs="+", metavar="FIELD", help="compare these of the swept fields, averaged over the others"
    )
    given = parser.parse_args()
    ending = f"_by_{'_'.join(given.by)}" if given.by else ""
    logging.basicConfig(format="%(message)s")
    try:
        found = report(given.folder, given.measure, given.margin, given.by)
        write(found, given.folder, ending)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    print(as_markdown(found.rows()), *(f"* {note}" for note in found.notes()), sep="\n")
    if 0 < len(found.pairs) <= FEW:
        print(f"\n{found.pairs_markdown()}")
    print(f"\nThe tests of every pair, and more: {given.folder / f'report{ending}.md'}")


if __name__ == "__main__":
    main()
