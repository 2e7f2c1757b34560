"""What was not the same in all runs of a report, in words: which settings have which, and what to set."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from rankdistill.evaluation.conclusions import TOLD, told
from rankdistill.evaluation.training_runs import TrainingRun

# The parts of a configuration that a fingerprint depends on; all others are of the part of their name.
MADE_OF = {
    "candidates": ("candidates", "cut", "data", "evaluation.dev_queries", "evaluation.dev_split"),
    "collection": ("data",),
    "scores": ("teacher",),
}
SWEPT_AS = {"candidates": ("cut", "data", "negatives_from")}  # what is swept to have others, beside the part


def unequal(runs: Sequence[TrainingRun], names: Sequence[str]) -> dict[str, str]:
    """Condition -> which runs have which, and the fields of the configuration that differ with it.

    ``names`` are the settings of ``runs``; where one has several values, its seeds are named.
    """
    conditions = dict.fromkeys(name for run in runs for name in run.conditions if name != "settings")
    found = {}
    for condition in conditions:
        groups: dict[str, list[int]] = defaultdict(list)
        for i, run in enumerate(runs):
            groups[run.conditions.get(condition, "?")].append(i)
        if condition == "code":  # of one's own, which the library's settings have none of
            groups.pop("?", None)
        if len(groups) > 1:
            found[condition] = _in_words(condition, groups, runs, names)
    return found


def _in_words(
    condition: str, groups: Mapping[str, list[int]], runs: Sequence[TrainingRun], names: Sequence[str]
) -> str:
    """``groups``: value of ``condition`` -> places in ``runs``."""
    several = {name for name in names if sum(any(names[i] == name for i in g) for g in groups.values()) > 1}
    of = {
        value: list(
            dict.fromkeys(
                f"{names[i]} with seed {runs[i].seed}" if names[i] in several else names[i] for i in places
            )
        )
        for value, places in sorted(groups.items())
    }
    fields = _deciding(condition, groups, runs)
    parts = []
    for value, who in of.items():
        own = [f"{field} {values[value]}" for field, values in fields.items()]
        parts.append(f"{value!r} of {told(who)}" + (f" ({told(own)})" if own else ""))
    text = "; ".join(parts[:TOLD]) + (f"; {len(parts) - TOLD} more" if len(parts) > TOLD else "")
    return text + (f". To compare the rest alone set {told(list(fields))} alike" if fields else "")


def _deciding(
    condition: str, groups: Mapping[str, list[int]], runs: Sequence[TrainingRun]
) -> dict[str, dict[str, str]]:
    """Field -> value of ``condition`` -> the field's, of those that differ between, not within ``groups``."""
    stage, _, part = condition.rpartition(".")
    parts = [
        prefix
        for name in MADE_OF.get(part, (part,))
        for prefix in (name, f"{stage}.{name}" if stage else name)
    ]
    configured = {i: run.fields() for i, run in enumerate(runs)}
    fields = dict.fromkeys(
        field
        for own in configured.values()
        for field in own
        if any(field == prefix or field.startswith(f"{prefix}.") for prefix in parts)
    )
    found = {}
    for field in fields:
        values = {v: {configured[i].get(field, "-") for i in places} for v, places in groups.items()}
        if all(len(each) == 1 for each in values.values()) and len(set.union(*values.values())) > 1:
            found[field] = {value: next(iter(each)) for value, each in values.items()}
    return found


def confounded(unequal: Mapping[str, str], swept: Sequence[str]) -> list[str]:
    """Those of ``unequal`` that may make a difference in place of what was ``swept``, and are not that."""
    asked = {name.partition(".")[0] for name in swept}
    return [
        condition
        for condition in unequal
        if (part := condition.rpartition(".")[2]) in ("candidates", "student")
        and not asked & {part, *SWEPT_AS.get(part, ())}
    ]
