"""Every run under a folder as one table, with the tests between any two settings.

    rankdistill report multirun/2026-01-31/12-00-00

Prints the table and writes report.md, report.tex, report.csv, pairs.csv, report.png and .pdf beside the
runs, and curves.png where dev queries were measured while training; with --by they are named after the
fields: report_by_loss.md.
"""

import argparse
import logging
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from rankdistill.analysis import plot_curves, plot_report
from rankdistill.analysis.plots import save
from rankdistill.errors import InputError, disk_refuses
from rankdistill.evaluation.report import Report, as_markdown, report
from rankdistill.runtime.folders import own_files, write_csv, write_text
from rankdistill.runtime.output import output_kept

FEW = 6  # pairs whose tests the terminal shows too
WIDTH = 80  # columns of a terminal


def write(comparison: Report, folder: Path, ending: str = "") -> None:
    """The report in ``folder``, in every form, each file whole; ``ending`` is added to the files' names.

    They replace those of an earlier report; raises ``InputError`` for a file of these names that is none.
    """
    with own_files(folder) as files:
        write_text(files / f"report{ending}.md", comparison.markdown())
        write_text(files / f"report{ending}.tex", comparison.latex())
        write_csv(files / f"report{ending}.csv", comparison.numbers())
        write_csv(files / f"pairs{ending}.csv", comparison.pair_numbers())
        save(plot_report(comparison), files / f"report{ending}.png")
        if (curves := plot_curves(comparison)) is not None:
            save(curves, files / f"curves{ending}.png")


def printed(comparison: Report) -> str:
    """The report in ``WIDTH`` columns: table, notes, the tests of few pairs, what was shown."""
    rows = comparison.rows()
    body = [narrow(rows, len(comparison.swept) or 1, len(comparison.others)), bullets(comparison.notes())]
    if 0 < len(comparison.pairs) <= FEW:
        body += [textwrap.fill(comparison.how_pairs_are_tested(), WIDTH), narrow(comparison.pair_rows(), 2)]
    return "\n\n".join(part for part in [*body, bullets(comparison.conclusions())] if part)


def narrow(rows: Sequence[Sequence[str]], named: int, systems: int = 0) -> str:
    """``rows`` as Markdown of at most ``WIDTH`` columns: several tables where one is wider.

    Each begins with the first ``named`` columns; where these leave no room, with a number that a list under
    the tables explains. The last rows are those of ``systems``, which have a name and no values.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    names, key = [row[:named] for row in rows], ""
    if 1 + sum(width + 3 for width in widths[:named]) + max(widths[named:]) + 3 > WIDTH:
        texts = [
            ", ".join(f"{field} {value}" for field, value in zip(names[0], row, strict=True) if value)
            for row in names[1 : len(names) - systems]
        ] + [row[0] for row in names[len(names) - systems :]]
        names = [["#"], *([str(i)] for i in range(1, len(rows)))]
        key = "\n\n" + "\n".join(
            textwrap.fill(
                f"{i}: {text}", WIDTH, subsequent_indent="   ", break_long_words=False, break_on_hyphens=False
            )
            for i, text in enumerate(texts, 1)
        )
    left = 1 + sum(max(len(row[i]) for row in names) + 3 for i in range(len(names[0])))
    parts: list[list[int]] = [[]]
    for column in range(named, len(widths)):
        if parts[-1] and left + sum(widths[i] + 3 for i in [*parts[-1], column]) > WIDTH:
            parts.append([])
        parts[-1].append(column)
    tables = [
        [[*name, *(row[i] for i in part)] for name, row in zip(names, rows, strict=True)] for part in parts
    ]
    return "\n\n".join(map(as_markdown, tables)) + key


def bullets(texts: Sequence[str]) -> str:
    """A point each, wrapped; what is longer than a line, such as a path, is left whole."""
    return "\n".join(
        textwrap.fill(
            f"* {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        for text in texts
    )


@output_kept()
def main():
    parser = argparse.ArgumentParser(
        prog="rankdistill report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="of a multirun, or of any runs")
    parser.add_argument("--measure", help="what settings are compared by (default: the runs' main measure)")
    parser.add_argument("--margin", type=float, default=0.01, help="of the equivalence tests (default: 0.01)")
    parser.add_argument(
        "--by", nargs="+", metavar="FIELD", help="compare these of the swept fields, averaged over the others"
    )
    arguments = parser.parse_args()
    ending = f"_by_{'_'.join(arguments.by)}" if arguments.by else ""
    logging.basicConfig(format="%(message)s")
    try:
        comparison = report(arguments.folder, arguments.measure, arguments.margin, arguments.by)
        print(printed(comparison))  # before anything is written, which a full or read-only disk refuses
        write(comparison, arguments.folder, ending)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        where = Path(error.filename or arguments.folder)
        where = where.parent if where.name.startswith(".") else where  # a draft that is not there
        reason = disk_refuses(error) or f"{error.strerror}: nothing can be written there"
        print(f"error: {where}: {reason}; then report again", file=sys.stderr)
        sys.exit(2)
    print(f"\nThe tests of every pair, and more: {arguments.folder / f'report{ending}.md'}")


if __name__ == "__main__":
    main()
