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
    pairs = []
    for first, second in combinations(results, 2):
        for measure, values in results[first].per_query.items():
            if len(values) > 1:
                test = compare(values, results[second].per_query[measure])
                pairs.append((measure, first, second, test))
    corrected = holm(np.array([test.p for *_, test in pairs]))
    return [Compared(*pair, float(p)) for pair, p in zip(pairs, corrected, strict=True)]


def comparison_text(compared: Sequence[Compared]) -> str:
    """A table for each pair of systems, and how to read it."""
    parts = []
    for pair in dict.fromkeys((each.first, each.second) for each in compared):
        those = [each for each in compared if (each.first, each.second) == pair]
        rows = [["measure", "difference", "95 % interval", "p"]]
        for each in those:
            test = each.difference
            interval = f"[{test.low:+.4f}, {test.high:+.4f}]"
            rows.append([each.measure, f"{test.difference:+.4f}", interval, p_value(each.p)])
        parts.append(f"{pair[1]} - {pair[0]}:\n\n{as_markdown(rows)}")
        if all(each.difference.low == each.difference.high == 0 for each in those):
            parts.append("The two are equal on every query: are they the same model?")
    tests = f"{len(compared)} tests" if len(compared) > 1 else "one test"
    parts.append(
        f"p: paired t-tests over {compared[0].difference.n:,} queries, corrected (Holm) over {tests}."
    )
    return "\n\n".join(parts)


def comparison_numbers(compared: Sequence[Compared]) -> list[list]:
    """The same for other programs, in full, the head first; ``p`` of the test alone, ``p_holm`` corrected."""
    head = ["measure", "first", "second", "difference", "low", "high", "t", "p", "p_holm", "queries"]
    tests = [pair.difference for pair in compared]
    return [head] + [
        [pair.measure, pair.first, pair.second, t.difference, t.low, t.high, t.t, t.p, pair.p, t.n]
        for pair, t in zip(compared, tests, strict=True)
    ]


def short_names(paths: Sequence[str]) -> list[str]:
    """What to call different models or run files: the ``endings`` of ``paths``."""
    return endings([placed(path) for path in paths])


def placed(path: str) -> tuple[str, ...]:
    """The parts of ``path``: of a file or folder the absolute ones, of a hub's name those that it has."""
    return Path(os.path.abspath(path) if os.path.exists(path) else path).parts
