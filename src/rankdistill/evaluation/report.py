"""Every run under a folder as one table: what was swept, means over seeds, which settings differ."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, nan
from pathlib import Path

import numpy as np

from rankdistill.errors import InputError
from rankdistill.evaluation.conclusions import (
    ALPHA,
    batched_alike,
    conclusion,
    count,
    equal_everywhere,
    listed,
    p_value,
    setting_name,
    tested,
    told,
    uneven_starts,
)
from rankdistill.evaluation.conditions import confounded, unequal
from rankdistill.evaluation.interactions import (
    Interaction,
    interaction_rows,
    interaction_sentence,
    interactions,
)
from rankdistill.evaluation.names import shown
from rankdistill.evaluation.settings import Setting, averaged_settings, settings_of
from rankdistill.evaluation.significance import (
    DRAWS,
    LEVELS,
    Comparison,
    effect_size,
    equivalence,
    holm,
    letters,
    randomisation,
)
from rankdistill.evaluation.training_runs import (
    PROCESSES,
    RERANKING,
    SEARCH,
    SEARCHED,
    TrainingRun,
    read_runs,
)
from rankdistill.runtime.checked import checked


@dataclass(frozen=True)
class Pair:
    """Two settings held against each other: ``second`` - ``first``, of the report's main measure.

    Every p is corrected by Holm's method over all pairs of the report. ``p_equivalence`` is NaN where the
    two are equal on every query: that is no test's finding.
    """

    first: Setting
    second: Setting
    difference: Comparison
    effect_size: float
    p_t: float
    p_randomisation: float
    p_equivalence: float


@dataclass(frozen=True)
class Report:
    """``settings`` from the best to the worst in ``measure``; ``letters`` belong to them.

    ``unfinished``: the runs that are not in the table, and why; ``unequal``: conditions that were
    not the same in all runs, in words; ``others``: system (``before``, ``teacher``, ``teacher:search``),
    which says of which queries it is where not of those of all settings, -> measure -> lowest and highest
    mean over the runs; ``samples``: how those of fewer queries compare with the settings, a sentence each;
    ``margin`` is the equivalence tests'; ``interactions`` are of two swept fields, see there.
    """

    swept: tuple[str, ...]
    averaged: Mapping[str, Sequence[str]]
    measures: tuple[str, ...]
    measure: str
    margin: float
    settings: list[Setting]
    letters: list[str]
    pairs: list[Pair]
    others: Mapping[str, Mapping[str, tuple[float, float]]]
    samples: Sequence[str]
    unfinished: Mapping[str, str]
    unequal: Mapping[str, str]
    interactions: Sequence[Interaction]

    def rows(self) -> list[list[str]]:
        """The table, its head first: a row per setting, then the student before and the teacher."""
        head = [*(self.swept or ("setting",)), "seeds", *self.measures, "letters"]
        body = [
            [
                *(setting.names or ("all runs",)),
                str(len(setting.seeds)),
                *(spread(setting.by_seed[measure]) for measure in self.measures),
                letter,
            ]
            for setting, letter in zip(self.settings, self.letters, strict=True)
        ]
        blank = [""] * (len(head) - len(self.measures) - 2)
        for system, values in self.others.items():
            cells = (between(*values[m]) if m in values else "" for m in self.measures)
            body.append([system, *blank, *cells, ""])
        return [head, *body]

    def pair_rows(self) -> list[list[str]]:
        """The tests, their head first: a row per pair of settings."""
        head = [
            "better",
            "worse",
            "difference",
            "95 % interval",
            "d",
            "p (t)",
            "p (randomisation)",
            "p (TOST)",
        ]
        return [head] + [
            [
                " ".join(pair.second.names),
                " ".join(pair.first.names),
                f"{pair.difference.difference:+.4f}",
                f"[{pair.difference.low:+.4f}, {pair.difference.high:+.4f}]",
                f"{pair.effect_size:+.2f}",
                p_value(pair.p_t),
                p_value(pair.p_randomisation),
                "equal" if isnan(pair.p_equivalence) else p_value(pair.p_equivalence),
            ]
            for pair in self.pairs
        ]

    def numbers(self) -> list[list]:
        """``rows`` for other programs: each measure's mean, and its deviation over the seeds, in full."""
        head = [*(self.swept or ("setting",)), "seeds"]
        head += [column for m in self.measures for column in (m, f"{m} sd")] + ["letters"]
        body = [
            [
                *(setting.values or ("all runs",)),
                len(setting.seeds),
                *(value for m in self.measures for value in mean_and_deviation(setting.by_seed[m])),
                letter,
            ]
            for setting, letter in zip(self.settings, self.letters, strict=True)
        ]
        return [head, *body]

    def pair_numbers(self) -> list[list]:
        """``pair_rows`` for other programs, in full: a column for each swept field of either setting."""
        fields = self.swept or ("setting",)
        head = [f"{side} {name}" for side in ("better", "worse") for name in fields]
        head += ["difference", "low", "high", "d", "p_t", "p_randomisation", "p_tost"]
        return [head] + [
            [
                *(pair.second.values or ("all runs",)),
                *(pair.first.values or ("all runs",)),
                pair.difference.difference,
                pair.difference.low,
                pair.difference.high,
                pair.effect_size,
                pair.p_t,
                pair.p_randomisation,
                pair.p_equivalence,
            ]
            for pair in self.pairs
        ]

    def notes(self) -> list[str]:
        """What must be known to read the table, a sentence each."""
        several = any(len(setting.seeds) > 1 for setting in self.settings)
        seeds = "mean ± standard deviation over the seeds; " if several else ""
        notes = [f"each is the mean over {name}: {', '.join(v)}" for name, v in self.averaged.items()]
        letters = (
            f"settings that share a letter were not shown to differ in {self.measure} (paired t-tests, "
            f"{'queries and seeds' if several else 'queries'} as random, Holm's correction, {ALPHA})"
        )
        if len(self.settings) > 1 or several:
            notes.append(seeds + letters)
        if len({s.queries(self.measure) for s in self.settings}) > 1:
            notes.append("settings with another number before the letters have other queries: not compared")
        notes += self.samples
        if starts := uneven_starts(self.settings, self.swept, self.measure):
            notes.append(
                f"the students did not begin alike, and a difference may be that of their starts: in "
                f"{self.measure} {starts}"
            )
        notes += self.tasks()
        if (least := len(self.pairs) / (1 + DRAWS)) > ALPHA:
            notes.append(
                f"of {len(self.pairs):,} pairs no corrected p (randomisation) can be below "
                f"{min(least, 1):.2g}: each test draws {DRAWS:,} times"
            )
        with_seeds = Counter(frozenset(s.seeds) for s in self.settings)
        if len(with_seeds) > 1:
            untested = ", and differences of differences are not tested" if len(self.swept) == 2 else ""
            notes.append(
                "not all settings have the same seeds: of two that differ in these, seeds are averaged and "
                "queries alone are random, so that intervals do not hold what another seed would change"
                + untested
            )
        elif not several and self.pairs:
            notes.append("of one seed: intervals do not hold what another seed would change")
        few = min((len(seeds) for seeds, n in with_seeds.items() if n > 1), default=0)
        if self.pairs and (level := LEVELS.get(few)):
            notes.append(
                f"of {few} seeds: where these matter as much as queries, up to {100 * level:.0f} % of equal "
                "settings come out at p < 0.05; of five seeds that is nearer to 5 %"
            )
        for alike in equal_everywhere(self.settings):
            names = told([setting_name(self.swept, setting) for setting in alike])
            why = "is the setting used at all?"
            if batched_alike(alike, self.swept):
                why = "as it must be, since their batches are equal too"
            notes.append(f"{names} are equal on every query: {why}")
        if any(setting.names != setting.values for setting in self.settings):
            notes.append("paths are shown by their ends; the .csv files have them whole")
        notes += [f"not in the table: {run}: {why}" for run, why in self.unfinished.items()]
        notes += [f"not equal in all runs: {name}: {words}" for name, words in self.unequal.items()]
        return notes

    def tasks(self) -> list[str]:
        """That figures are of two tasks, or of reranking different candidates, where they are."""
        of = {id(s): {task.partition(" ")[0] for task in s.tasks} for s in self.settings}
        rerank = [s for s in self.settings if RERANKING in of[id(s)]]
        names = told(sorted(setting_name(self.swept, s) for s in rerank))
        sentences = []
        if rerank and any(SEARCH in of[id(s)] for s in self.settings):
            sentences.append(
                f"two tasks: {names} {'reranks' if len(rerank) == 1 else 'rerank'} given candidates, "
                "and cannot find what these lack; what else is here searches all documents. A difference "
                "between the two is one of whole pipelines, not of students"
            )
        if len({task for s in rerank for task in s.tasks if task.startswith(RERANKING)}) > 1:
            sentences.append(f"{names}: not all reranked the same candidates")
        return sentences

    def conclusions(self) -> list[str]:
        """What was shown, a sentence per measure; p are corrected over the pairs of each measure alone."""
        order = sorted(self.measures, key=lambda name: name != self.measure)
        sentences = [conclusion(self.settings, self.swept, m) + self.caution(m) for m in order]
        if self.interactions:
            sentences.insert(1, interaction_sentence(self.interactions, self.swept, self.measure))
        return sentences

    def caution(self, measure: str) -> str:
        """What else than what was swept may be behind a difference in ``measure``; "" if nothing is known."""
        reasons = []
        if uneven_starts(self.settings, self.swept, measure):
            reasons.append("did not begin alike")
        if conditions := confounded(self.unequal, self.swept):
            reasons.append(f"differ in {listed(conditions)} too")
        if not reasons or not tested(self.settings, measure):
            return ""
        return f" But the settings {listed(reasons)} (see the notes): a difference may be due to that alone."

    def markdown(self) -> str:
        """Table and notes, the tests of every pair, and a sentence per measure."""
        text = f"{as_markdown(self.rows())}\n\n" + "\n".join(f"* {note}" for note in self.notes())
        if self.pairs:
            text += f"\n\n{self.pairs_markdown()}"
        if self.interactions:
            text += f"\n\n{self.interactions_markdown()}"
        return f"{text}\n\n" + "\n".join(f"* {sentence}" for sentence in self.conclusions()) + "\n"

    def pairs_markdown(self) -> str:
        """The tests of every pair, and how to read them."""
        return f"{self.how_pairs_are_tested()}\n\n{as_markdown(self.pair_rows())}"

    def how_pairs_are_tested(self) -> str:
        """The text above their table."""
        return (
            f"Differences in {self.measure}, better - worse. Intervals are each pair's own, every p is "
            f"corrected (Holm). Equivalence (TOST): small p, the two are within {self.margin} of each other. "
            "d: the difference in its own standard deviations over the queries; randomisation is over the "
            "queries alone."
        )

    def interactions_markdown(self) -> str:
        """Whether the differences of one field depend on the other, and how to read that."""
        first, second = self.swept
        return (
            f"Does a difference in {self.measure} between values of {first} depend on {second}? "
            "Differences of differences; intervals are each one's own, every p is corrected (Holm)."
            f"\n\n{as_markdown(interaction_rows(self.interactions))}"
        )

    def latex(self) -> str:
        """The table for a paper (booktabs)."""
        head, *body = ([tex(cell) for cell in row] for row in self.rows())
        lines = [" & ".join(row) + r" \\" for row in (head, *body)]
        kinds = "l" * (len(head) - len(self.measures) - 2) + "r" * (len(self.measures) + 1) + "l"
        inner = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        return "\n".join([rf"\begin{{tabular}}{{{kinds}}}", *inner, r"\end{tabular}"]) + "\n"


@checked
def report(
    folder: str | Path, measure: str | None = None, margin: float = 0.01, by: Sequence[str] | None = None
) -> Report:
    """What the runs under ``folder`` show.

    Settings are compared pairwise by ``measure`` (the runs' main one by default) where they were
    measured on the same queries: t-test, randomisation test and, for ``|difference|`` < ``margin``, the
    equivalence test. Queries and seeds are both taken as drawn at random (``compare_runs``): a second seed
    on the same query is no second query, and other seeds would give other means.

    ``by`` names the swept fields to compare; over the others each of its settings is averaged first, per
    query and per seed (a main effect). None: all of them.

    Raises ``InputError`` if there is no finished run, no such measure or field, or a run is missing from
    what is averaged.
    """
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    if not 0 < margin < inf:
        raise InputError(f"margin={margin}: it must be a difference of the measure, above 0")
    all_runs = read_runs(Path(folder))
    runs = [run for run in all_runs if not run.missing]
    reasons = "".join(f"; {run.folder}: {run.missing}" for run in [x for x in all_runs if x.missing][:3])
    if not runs:
        raise InputError(f"{folder}: no finished run of rankdistill train{reasons}")
    measures = tuple(runs[0].per_query["after"])
    measure = measure or measures[0]
    for run in runs:
        if measure not in run.per_query["after"]:
            raise InputError(f"measure {measure!r}: {run.folder} has {', '.join(run.per_query['after'])}")
    measures = tuple(m for m in measures if all(m in run.per_query["after"] for run in runs))
    names = dict.fromkeys(name for run in runs for name in run.overrides)
    swept = tuple(name for name in names if len({run.value(name) for run in runs}) > 1)
    if len(set().union(*(run.processes for run in runs))) > 1:
        swept += (PROCESSES,)  # of equal fields, they have other batches
    called = {name: shown([run.value(name) for run in runs]) for name in swept}
    settings = settings_of(runs, swept, measures)
    averaged = {}
    if by is not None:
        others = [name for name in swept if name not in by]
        averaged = {
            name: [called[name][v] for v in in_order({run.value(name) for run in runs})] for name in others
        }
        try:
            settings = averaged_settings(settings, swept, tuple(by))
        except InputError as error:
            raise InputError(f"{error}{reasons}") from None
        swept = tuple(by)
    settings = [
        replace(one, names=tuple(called[name][v] for name, v in zip(swept, one.values, strict=True)))
        for one in settings
    ]
    settings = sorted(settings, key=lambda s: np.mean(s.by_seed[measure]), reverse=True)
    pairs = _pairs(settings, measure, margin)
    of = {setting.values: setting_name(swept, setting) for setting in settings}
    return Report(
        swept,
        averaged,
        measures,
        measure,
        margin,
        settings,
        _letters(settings, pairs, measure),
        pairs,
        *_others(runs, settings, measures, measure),
        {str(run.folder): run.missing for run in all_runs if run.missing},
        unequal(runs, [of[tuple(run.value(name) for name in swept)] for run in runs]),
        interactions(settings, swept, measure),
    )


def _pairs(settings: Sequence[Setting], measure: str, margin: float) -> list[Pair]:
    """Every two settings with the same queries; the better one is ``second``."""
    pairs = tested(settings, measure)
    p_t = holm(np.array([test.p for _, _, test, _ in pairs]))
    p_random = np.empty(len(pairs))
    by_query = [d.mean(axis=0) for *_, d in pairs]
    for n in {len(d) for d in by_query}:  # as many queries, the same draws
        alike = [i for i, d in enumerate(by_query) if len(d) == n]
        p_random[alike] = randomisation(np.stack([by_query[i] for i in alike]))
    p_tost = holm(np.array([equivalence(d, margin) for *_, d in pairs]))
    corrected = zip(pairs, p_t, holm(p_random), p_tost, strict=True)
    return [
        Pair(
            *(worse, better, test, effect_size(d.mean(axis=0))),
            *(float(t), float(r), float(e) if d.any() else nan),
        )
        for (worse, better, test, d), t, r, e in corrected
    ]


def _letters(settings: Sequence[Setting], pairs: Sequence[Pair], measure: str) -> list[str]:
    """Those of each setting; with a number before them where not all have the same queries."""
    place = {id(setting): i for i, setting in enumerate(settings)}
    different = np.zeros((len(settings), len(settings)), dtype=bool)
    for pair in pairs:
        at = place[id(pair.first)], place[id(pair.second)]
        different[at] = different[at[::-1]] = pair.p_t < ALPHA
    measured = [setting.queries(measure) for setting in settings]
    letters_of = [""] * len(settings)
    several = len(set(measured)) > 1
    for number, queries in enumerate(dict.fromkeys(measured), 1):
        rows = [i for i, one in enumerate(measured) if one == queries]
        for i, letter in zip(rows, letters(different[np.ix_(rows, rows)]), strict=True):
            letters_of[i] = f"{number}{letter}" if several else letter
    return letters_of


def _others(
    runs: Sequence[TrainingRun], settings: Sequence[Setting], measures: tuple[str, ...], measure: str
) -> tuple[dict[str, dict[str, tuple[float, float]]], list[str]]:
    """``Report.others``, a row for each set of queries that a system was measured on; ``Report.samples``."""
    wholes = list(dict.fromkeys(setting.queries(measure) for setting in settings))
    others: dict[str, dict[str, tuple[float, float]]] = {}
    samples = []
    for system in ("before", "teacher", SEARCHED):
        measured: dict[tuple[str, frozenset[str]], list[TrainingRun]] = defaultdict(list)
        for run in runs:
            if measure in (values := run.per_query.get(system, {})):
                measured[run.evaluated, frozenset(values[measure])].append(run)
        named = [_row_name(system, queries, wholes) for queries in measured]
        for i, (queries, of) in enumerate(measured.items()):
            alike = [j for j, name in enumerate(named) if name == named[i]]
            name = named[i] if len(alike) == 1 else f"{named[i][:-1]}, sample {alike.index(i) + 1})"
            others[name] = {}
            for m in measures:
                means = [
                    np.mean(list(values[m].values())) for run in of if m in (values := run.per_query[system])
                ]
                if means:
                    others[name][m] = float(min(means)), float(max(means))
            if queries not in wholes:
                samples.append(_sample(name, queries, between(*others[name][measure]), settings, measure))
    return others, samples


def _row_name(
    system: str, queries: tuple[str, frozenset[str]], wholes: Sequence[tuple[str, frozenset[str]]]
) -> str:
    """``system``, with the number of its ``queries`` where they are not those of all settings, ``wholes``.

    With several of ``wholes`` their place among these, as before the settings' letters.
    """
    evaluated, ids = queries
    number = next((i for i, (of, whole) in enumerate(wholes, 1) if of == evaluated and ids <= whole), None)
    place = f"{number}" if number and len(wholes) > 1 else ""
    if queries in wholes:
        return f"{system} ({place})" if place else system
    return f"{system} ({count(len(ids), 'query')}{place and f' of {place}'})"


def _sample(
    name: str, queries: tuple[str, frozenset[str]], mean: str, settings: Sequence[Setting], measure: str
) -> str:
    """That the row ``name`` is of other ``queries`` than those of ``settings``, and how these do on them."""
    evaluated, ids = queries
    alike = [s for s in settings if s.evaluated == evaluated and ids <= set(s.per_query[measure])]
    note = f"{name}: these figures are not of the settings' queries; do not compare its row with theirs"
    if not alike:
        return note
    whole = len(alike[0].per_query[measure])
    note = (
        f"{name}: these figures are of a sample, {len(ids):,} of the {whole:,} queries of the settings; do "
        f"not compare its row with theirs. On the same {len(ids):,}, the mean of {measure} is {mean}, and"
    )
    means = [float(np.mean([s.per_query[measure][q] for q in ids])) for s in alike]
    if len(alike) == 1:
        return f"{note} {means[0]:.4f} after training"
    return f"{note} {between(min(means), max(means))} of the settings"


def in_order(values: Iterable[str]) -> list[str]:
    """Numbers by their size, else as text."""
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The deviation with n - 1, NaN of one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation; the mean alone of one value."""
    mean, deviation = mean_and_deviation(values)
    return f"{mean:.4f}" if np.isnan(deviation) else f"{mean:.4f} ± {deviation:.4f}"


def between(low: float, high: float) -> str:
    return f"{low:.4f}" if f"{low:.4f}" == f"{high:.4f}" else f"{low:.4f} to {high:.4f}"


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """``rows``, the first one the head, as an aligned Markdown table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def tex(cell: str) -> str:
    for plain in "&%_#":
        cell = cell.replace(plain, f"\\{plain}")
    return cell.replace("±", r"$\pm$")
