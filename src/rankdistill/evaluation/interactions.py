"""Whether a difference between two values of one swept field depends on the value of another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from rankdistill.evaluation.conclusions import ALPHA, count, listed, p_value, probability, value_name
from rankdistill.evaluation.settings import Setting
from rankdistill.evaluation.significance import Comparison, compare_runs, holm

TOLD = 3  # in the sentence; the table has all


@dataclass(frozen=True)
class Interaction:
    """A difference of differences, (b - a with ``under[0]``) - (b - a with ``under[1]``), of ``of`` = (a, b).

    ``gains`` are the two differences; ``p`` is corrected by Holm's method over all of a report.
    """

    of: tuple[str, str]
    under: tuple[str, str]
    gains: tuple[float, float]
    difference: Comparison
    p: float


def interactions(settings: Sequence[Setting], swept: Sequence[str], measure: str) -> list[Interaction]:
    """Those of each two values of the first of two ``swept`` fields and each two of the second.

    The one with the higher gain comes first in ``under``. Queries and seeds are both random, as in
    ``compare_runs``, which the contrast of four settings is given to. None where not two fields were swept, a
    setting is missing, or not all have the same two or more queries and seeds.
    """
    if len(swept) != 2:
        return []
    at = {setting.values: setting for setting in settings}
    worst_first = sorted(settings, key=lambda setting: np.mean(setting.by_seed[measure]))
    called = [{s.values[i]: value_name(swept[i], s.names[i]) for s in worst_first} for i in (0, 1)]
    alike = {(setting.queries(measure), tuple(sorted(setting.seeds))) for setting in settings}
    if len(at) != len(called[0]) * len(called[1]) or len(alike) != 1:
        return []
    seeds, queries = sorted(settings[0].seeds), list(settings[0].per_query[measure])
    if len(queries) < 2:
        return []
    runs = {values: setting.runs_of(measure, queries, seeds) for values, setting in at.items()}
    found = []
    for a, b in combinations(called[0], 2):
        for pair in combinations(called[1], 2):
            gain = {value: runs[b, value] - runs[a, value] for value in pair}
            high, low = sorted(pair, key=lambda value: -gain[value].mean())
            test = compare_runs(gain[high] - gain[low])
            names = (called[0][a], called[0][b]), (called[1][high], called[1][low])
            found.append((*names, (float(gain[high].mean()), float(gain[low].mean())), test))
    corrected = holm(np.array([test.p for *_, test in found]))
    both = [Interaction(*one, p=float(p)) for one, p in zip(found, corrected, strict=True)]
    return sorted(both, key=lambda one: (one.p, -one.difference.difference))


def interaction_rows(found: Sequence[Interaction]) -> list[list[str]]:
    """A table of ``found``, its head first."""
    head = ["difference", "with", "is", "and with", "is", "more by", "95 % interval", "p (t)"]
    rows = [
        [
            *(f"{one.of[1]} - {one.of[0]}", one.under[0], f"{one.gains[0]:+.4f}"),
            *(one.under[1], f"{one.gains[1]:+.4f}", f"{one.difference.difference:+.4f}"),
            *(f"[{one.difference.low:+.4f}, {one.difference.high:+.4f}]", p_value(one.p)),
        ]
        for one in found
    ]
    return [head, *rows]


def interaction_sentence(found: Sequence[Interaction], swept: Sequence[str], measure: str) -> str:
    """What ``found``, which are not none, show."""
    depends = f"{measure}: that a difference between values of {swept[0]} depends on {swept[1]}"
    shown = [one for one in found if one.p < ALPHA]
    if not shown:
        return (
            f"{depends} was not shown ({count(len(found), 'difference')} of differences, least "
            f"{probability(found[0].p)}), which does not show that it does not."
        )
    parts = [
        f"{one.of[1]} - {one.of[0]} is {one.gains[0]:+.4f} with {one.under[0]} and {one.gains[1]:+.4f} with "
        f"{one.under[1]} ({probability(one.p)})"
        for one in shown[:TOLD]
    ]
    more = ", ..." if len(shown) > TOLD else ""
    return f"{depends} was shown for {len(shown):,} of {len(found):,}: {listed(parts)}{more}."
