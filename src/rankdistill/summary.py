"""A run in words: the closing table and the model card."""

from collections.abc import Mapping
from typing import Any

from rankdistill import __version__
from rankdistill.data.scores import ScoreTable
from rankdistill.evaluation import Comparison


def table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table, a row per system and a column per measure."""
    measures = list(next(iter(metrics.values())))
    width = max(map(len, metrics))
    lines = ["| " + " " * width + " | " + " | ".join(f"{m:>8}" for m in measures) + " |"]
    lines.append("|-" + "-" * width + "-|" + "|".join("-" * max(9, len(m) + 1) + ":" for m in measures) + "|")
    for name, values in metrics.items():
        cells = (f"{values[m]:>{max(8, len(m))}.4f}" for m in measures)
        lines.append(f"| {name:<{width}} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def significance(measure: str, gain: Comparison) -> str:
    """One line: the mean difference, its interval, and the paired t-test."""
    return (
        f"{measure} after - before: {gain.difference:+.4f}, 95 % interval [{gain.low:+.4f}, {gain.high:+.4f}], "
        f"paired t = {gain.t:.2f}, p = {gain.p:.2g}, {gain.n} queries"
    )


def summary(metrics: Mapping[str, Mapping[str, float]], measure: str, gain: Comparison) -> str:
    return f"{table(metrics)}\n\n{significance(measure, gain)}"


def brief(value: Any) -> str:
    """Nested settings on one line; what is unset is left out."""
    if not isinstance(value, Mapping):
        return str(value)
    inner = [
        f"{k.removeprefix('_target_')}={brief(v)}".lstrip("=") for k, v in value.items() if v is not None
    ]
    return f"({', '.join(inner)})" if inner else ""


def model_card(config: Mapping[str, Any], scores: ScoreTable, results: str) -> str:
    """The README of a saved student: how it was made and how good it is."""
    collection = scores.collection

    def named(part: str) -> str:
        values = config.get(part) or {}
        settings = brief({key: value for key, value in values.items() if key != "_target_"})
        return f"`{str(values.get('_target_', part)).rpartition('.')[2]}` {settings}".strip()

    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, feature-extraction, ranking-distillation, rankdistill]
---
# A bi-encoder distilled with rankdistill {__version__}

| | |
|---|---|
| student | {named("student")} |
| teacher | {named("teacher")}, fingerprint `{scores.teacher}` |
| sampler | {named("sampler")} |
| loss | {named("loss")} |
| collection | {collection.name}, {len(collection.documents):,} documents, `{collection.fingerprint}` |
| training queries | {len(scores):,}, {len(scores.scores):,} candidates, `{scores.candidates.fingerprint}` |
| seed | {config["seed"]} |

{results}

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("path/to/this/folder")
```
"""
