"""What a report shows, in plain sentences."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from rankdistill.evaluation.settings import Setting
from rankdistill.evaluation.significance import LEAST, Comparison, compare_runs, holm
from rankdistill.evaluation.training_runs import PROCESSES

ALPHA = 0.05
SHARES = {PROCESSES, "per_device_train_batch_size", "gradient_accumulation_steps"}  # their product is a batch
TOLD = 6  # names or differences in a sentence; the files have all


def tested(
    settings: Sequence[Setting], measure: str
) -> list[tuple[Setting, Setting, Comparison, np.ndarray]]:
    """Every two of ``settings`` with the same two or more queries: worse, better, test, differences.

    Better in the mean of ``measure``; of equal means the first one is better. Differences are float64 (S, n)
    of the seeds that both have, where these are all; else (1, n), of the means over each one's seeds.
    """
    ranked = sorted(settings, key=lambda setting: np.mean(setting.by_seed[measure]), reverse=True)
    pairs = []
    for better, worse in combinations(ranked, 2):
        queries = list(worse.per_query[measure])
        if worse.queries(measure) != better.queries(measure) or len(queries) < 2:
            continue
        seeds = sorted(worse.seeds)
        a, b = (one.runs_of(measure, queries, sorted(one.seeds)) for one in (worse, better))
        if seeds != sorted(better.seeds):
            a, b = (values.mean(axis=0, keepdims=True) for values in (a, b))
        pairs.append((worse, better, compare_runs(b - a), b - a))
    return pairs


def conclusion(settings: Sequence[Setting], swept: Sequence[str], measure: str) -> str:
    """Which of ``settings`` were shown to be better than which in ``measure``, in one sentence.

    By tests of queries and seeds (``compare_runs``), corrected (Holm) over the pairs.
    """
    pairs = tested(settings, measure)
    if not pairs:
        why = "measured on the same queries" if len(settings) > 1 else "to compare"
        return f"{measure}: no two settings {why}."
    p = holm(np.array([test.p for _, _, test, _ in pairs]))
    shown: dict[str, list[str]] = defaultdict(list)
    for (worse, better, test, _), corrected in zip(pairs, p, strict=True):
        if corrected < ALPHA:
            shown[setting_name(swept, better)].append(
                f"{setting_name(swept, worse)} by {test.difference:.4f} (95 % interval {test.low:.4f} to "
                f"{test.high:.4f}, {probability(float(corrected))})"
            )
    queries = sorted({test.n for _, _, test, _ in pairs})
    measured = f"{' or '.join(f'{n:,}' for n in queries)} queries"
    every = len(pairs) == len(settings) * (len(settings) - 1) // 2
    if not any(differences.any() for *_, differences in pairs):
        which = "all settings" if every else "settings measured on the same queries"
        return f"{measure} on {measured}: {which} are equal on every query."
    total = sum(map(len, shown.values()))
    if not total:
        tests = "one pair" if len(pairs) == 1 else f"{len(pairs):,} pairs"
        tests += "" if every else " measured on the same queries"
        return (
            f"{measure} on {measured}: no setting was shown to differ from another ({tests}, least "
            f"{probability(float(p.min()))}), which does not show that they are equal."
        )
    parts, left = [], TOLD
    for winner, losers in shown.items():
        if left > 0:
            parts.append(f"{winner} was shown to be better than {listed(losers[:left])}")
            left -= len(losers)
    more = f" and {total - TOLD:,} more differences (pairs.csv)" if total > TOLD else ""
    others = len(pairs) - total
    rest = f"; no difference was shown in the other {count(others, 'pair').removeprefix('1 ')}"
    return f"{measure} on {measured}: {'; '.join(parts)}{more}{rest if others else ''}."


def equal_everywhere(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Those of ``settings``, two or more each, that have the same value of every measure for every query."""
    alike: dict[tuple, list[Setting]] = defaultdict(list)
    for setting in settings:
        values = ((m, tuple(sorted(per_query.items()))) for m, per_query in setting.per_query.items())
        alike[tuple(values)].append(setting)
    return [group for group in alike.values() if len(group) > 1]


def batched_alike(settings: Sequence[Setting], swept: Sequence[str]) -> bool:
    """Whether ``settings`` differ in nothing but how processes and steps share batches that are equal."""
    differ = [
        name.rpartition(".")[2]
        for i, name in enumerate(swept)
        if len({setting.values[i] for setting in settings}) > 1
    ]
    return set(differ) <= SHARES and bool(settings[0].batches) and len({s.batches for s in settings}) == 1


def setting_name(swept: Sequence[str], setting: Setting) -> str:
    """What ``setting`` sets of the fields that were ``swept``; those that it has not go unsaid."""
    values = zip(swept, setting.names, strict=True)
    parts = [value_name(name, value) for name, value in values if value != "-"]
    return " ".join(parts) or ("defaults" if swept else "all runs")


def value_name(field: str, value: str) -> str:
    """What a ``value`` of ``field`` is called in a sentence."""
    return value if "." not in field else f"{field.rpartition('.')[2]}={value}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = names or [""]
    return f"{', '.join(first)} and {last}" if first else last


def told(names: Sequence[str]) -> str:
    """``listed``, of more than ``TOLD`` the first ones alone."""
    some = list(names)
    if len(some) > TOLD:
        some[TOLD - 1 :] = [f"{len(some) - TOLD + 1} more"]
    return listed(some)


def uneven_starts(settings: Sequence[Setting], swept: Sequence[str], measure: str) -> str:
    """Where each of ``settings`` began and ended in ``measure``; "" if those of the same queries began alike.

    Or where a run does not say.
    """
    begun: dict[tuple, set[str]] = defaultdict(set)
    for one in settings:
        if measure in one.before:
            begun[one.queries(measure)].add(f"{one.before[measure]:.4f}")
    uneven = [s for s in settings if measure in s.before and len(begun[s.queries(measure)]) > 1]
    return told(
        [
            f"{setting_name(swept, one)} began at {one.before[measure]:.4f} and ended at "
            f"{np.mean(one.by_seed[measure]):.4f}"
            for one in uneven
        ]
    )


def count(n: int, noun: str) -> str:
    """``1 query``, ``2 queries``: ``n`` and ``noun`` in its number."""
    many = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{n:,} {noun if n == 1 else many}"


def probability(p: float) -> str:
    """``p = 0.012``; below what is told apart, ``p < 1e-300``."""
    return f"p {number}" if (number := p_value(p)).startswith("<") else f"p = {number}"


def p_value(p: float) -> str:
    """``0.012``, for a column of such; below what is told apart, ``< 1e-300``."""
    return f"{p:.2g}" if p > LEAST else f"< {LEAST:g}"
