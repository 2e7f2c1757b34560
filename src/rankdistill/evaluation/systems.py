"""Several systems measured on the same queries: what to call each, and how they differ."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from rankdistill.evaluation.conclusions import p_value
from rankdistill.evaluation.evaluator import Evaluation
from rankdistill.evaluation.names import endings
from rankdistill.evaluation.report import as_markdown
from rankdistill.evaluation.significance import Comparison, compare, holm


@dataclass(frozen=True)
class Compared:
    """``second`` - ``first`` in ``measure``, paired by query; ``p`` is corrected."""

    measure: str
    first: str
    second: str
    difference: Comparison
    p: float


def comparisons(results: Mapping[str, Evaluation]) -> list[Compared]:
    """Every two of ``results`` (name -> evaluation, of the same queries) in every measure.

    Paired t-tests, their p corrected (Holm) over measures and pairs. None of fewer than two queries.
    """
    found = []
    for first, second in combinations(results, 2):
        for measure, values in results[first].per_query.items():
            if len(values) > 1:
                test = compare(values, results[second].per_query[measure])
                found.append((measure, first, second, test))
    corrected = holm(np.array([test.p for *_, test in found]))
    return [Compared(*one, float(p)) for one, p in zip(found, corrected, strict=True)]


def comparison_text(compared: Sequence[Compared]) -> str:
    """A table for each pair of systems, and how to read it."""
    parts = []
    for pair in dict.fromkeys((one.first, one.second) for one in compared):
        those = [one for one in compared if (one.first, one.second) == pair]
        rows = [["measure", "difference", "95 % interval", "p"]]
        for one in those:
            test = one.difference
            interval = f"[{test.low:+.4f}, {test.high:+.4f}]"
            rows.append([one.measure, f"{test.difference:+.4f}", interval, p_value(one.p)])
        parts.append(f"{pair[1]} - {pair[0]}:\n\n{as_markdown(rows)}")
        if all(one.difference.low == one.difference.high == 0 for one in those):
            parts.append("The two are equal on every query: are they the same model?")
    tests = f"{len(compared)} tests" if len(compared) > 1 else "one test"
    parts.append(
        f"p: paired t-tests over {compared[0].difference.n:,} queries, corrected (Holm) over {tests}."
    )
    return "\n\n".join(parts)


def comparison_numbers(compared: Sequence[Compared]) -> list[list]:
    """The same for other programs, in full, the head first; ``p`` of the test alone, ``p_holm`` corrected."""
    head = ["measure", "first", "second", "difference", "low", "high", "t", "p", "p_holm", "queries"]
    tests = [one.difference for one in compared]
    return [head] + [
        [one.measure, one.first, one.second, t.difference, t.low, t.high, t.t, t.p, one.p, t.n]
        for one, t in zip(compared, tests, strict=True)
    ]


def short_names(paths: Sequence[str]) -> list[str]:
    """What to call different models or run files: the ``endings`` of ``paths``."""
    return endings([placed(path) for path in paths])


def placed(path: str) -> tuple[str, ...]:
    """The parts of ``path``: of a file or folder the absolute ones, of a hub's name those that it has."""
    return Path(os.path.abspath(path) if os.path.exists(path) else path).parts
