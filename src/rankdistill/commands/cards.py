"""Model cards: what a saved model is, how good it is and how it was made, fit for a hub.

They name no folder of this machine, and do not depend on the run's folder.
"""

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, try_to_load_from_cache

from rankdistill import __version__
from rankdistill.commands.overruled import without_overruled
from rankdistill.commands.summary import PACKAGES
from rankdistill.data.collection import Collection
from rankdistill.evaluation.conclusions import count
from rankdistill.scores.hub import is_hub_name
from rankdistill.scores.table import ScoreTable
from rankdistill.students.described import said_of_kind
from rankdistill.students.made import made_of
from rankdistill.students.minilm import HUB_NAME, minilm_path
from rankdistill.students.models import Model
from rankdistill.students.vectors import Vectors

NO_TEACHER = "labels"  # the fingerprint of ``teachers.NoTeacher``
PAPERS = """Ranking distillation as this library does it is studied in
*Beyond Hard Negatives* ([arXiv 2604.04734](https://arxiv.org/abs/2604.04734)) and
*Disentangling Locality and Entropy in Ranking Distillation* ([arXiv 2505.21058](https://arxiv.org/abs/2505.21058))."""


def model_card(
    config: Mapping[str, Any],
    scores: ScoreTable,
    student: Model,
    measures: Mapping[str, float],
    results: str,
    notes: Sequence[str] = (),
    active: Mapping[str, float] | None = None,
) -> str:
    """The README of a saved student.

    ``config`` is the run's, plain; ``scores`` what it was trained on; ``measures`` the saved student's means
    on ``evaluation.split``; ``results`` a table of them in Markdown; ``notes`` say what was left out;
    ``active`` is ``Evaluation.active``.
    """
    collection, fields = scores.collection, config.get("student") or {}
    inside = step_teachers(config)
    taught = scores.teacher != NO_TEACHER or bool(inside)
    base, distilled = Base(fields.get("model"), student), taught and is_distilled(config)
    if isinstance(student[0], Vectors):
        base.name = "a map of vectors"
    (short, made), layers = made_of(student), fields.get("layers")
    subject = base.name + (f" of {count(layers, 'layer')}" if layers else "")
    subject = f"{short} from {subject}" if made else subject
    title = f"{subject} {'distilled' if distilled else 'trained'} on {collection.name}"
    filtered = "no teacher's scores were in the loss"
    if is_filtered(config):
        filtered = "a teacher's scores did no more than leave out negatives that come close to these"
    kind = said_of_kind(student, fields)
    data = metadata(
        base,
        title,
        config,
        collection,
        measures,
        config["evaluation"]["split"],
        pipeline_tag=kind.pipeline_tag,
        task=kind.task,
        tags=[*kind.tags, *(["ranking-distillation"] if distilled else []), "rankdistill"],
    )
    rows = {
        "made from" if made else "started from": base.said
        + (f", its first {count(layers, 'layer')}" if layers else "")
        + (f": {made}" if made else ""),
        **kind.rows,
    }
    if active:
        counts = (f"{active['queries']:,.1f} of a query", f"{active['documents']:,.1f} of a document")
        rows["active dimensions"] = f"{', '.join(counts)}, on average"
    trained = {
        "collection": described(collection),
        "candidates": f"{count(len(scores.scores), 'candidate')} of {count(len(scores), 'query')}, "
        f"fingerprint `{scores.candidates.fingerprint}`",
        "teacher": "none, labels alone"
        if scores.teacher == NO_TEACHER
        else f"fingerprint `{scores.teacher}`",
        "seed": str(config["seed"]),
    }
    if inside:
        trained["teacher inside the step"] = "; ".join(
            f"{description} (`{stage}`)" for stage, description in inside.items()
        )
    settings = without_overruled(config)
    before = "the model it started from"
    if made or layers:
        before = f"what was made from {base.name}, as above, before it was trained, not {base.name} itself"
    parts = (
        *("data", "candidates", "cut", "teacher", "step_teacher", "student", "sampler", "loss"),
        *config["stages"],
    )
    return card(
        data,
        title,
        f"{kind.what}, trained by ranking distillation with rankdistill {__version__}: it was\n"
        f"taught to order the candidates of each query as {kind.teacher} scores them."
        if distilled
        else f"{kind.what}, trained by a contrastive loss with rankdistill {__version__}: it\n"
        f"was taught to put relevant documents first; {filtered}.",
        kind.snippet,
        rows,
        f"{results}\n\n`before` is {before}, `after` this one; {kind.ranks},\n"
        "and what they lack counts as not found.",
        trained,
        notes,
        {name: settings[name] for name in (*parts, "trainer", "scores") if settings.get(name)},
        base,
    )


def losses_of(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Every loss of the run ``config`` that has a weight."""

    def parts(loss: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        if "losses" not in loss:
            yield loss
            return
        weights = loss.get("weights") or {}
        for name, part in loss["losses"].items():
            if weights.get(name, 1):
                yield from parts(part)

    stages = {name: (config[name] or {}).get("loss") for name in config["stages"]}
    if stages.get("warmup", True) is None:  # warmup=none
        del stages["warmup"]
    return [loss for stage in stages.values() for loss in parts(stage or config["loss"])]


def step_teachers(config: Mapping[str, Any]) -> dict[str, str]:
    """Of each stage of the run ``config`` that has a teacher inside its step, who that is."""
    teachers = {}
    for stage in config["stages"]:
        own = config[stage] or {}
        teacher = own["step_teacher"] if "step_teacher" in own else config.get("step_teacher")
        if teacher and (stage != "warmup" or own.get("loss")):
            model = teacher.get("model", "student")
            name = model.get("model", model.get("_target_")) if isinstance(model, Mapping) else model
            description = (
                "a copy of the student as the stage began" if name == "student" else Path(str(name)).name
            )
            teachers[stage] = f"{description}, trained too" if teacher.get("trained") else description
    return teachers


def is_distilled(config: Mapping[str, Any]) -> bool:
    """Whether a loss of the run ``config`` holds the student's scores against the teacher's."""
    return any(not loss["_target_"].endswith(".InfoNCE") for loss in losses_of(config))


def is_filtered(config: Mapping[str, Any]) -> bool:
    """Whether the teacher's scores decide which documents a contrastive loss takes for negatives."""
    return any(loss.get("false_negative_margin") is not None for loss in losses_of(config))


class Base:
    """What a model started from: ``hub`` is its name there, if known; the rest is what its own card says."""

    def __init__(self, model: str | None, loaded: Model):
        own = {}
        try:
            own = ModelCard(card_of(str(model), loaded), ignore_metadata_errors=True).data.to_dict()
        except (ValueError, yaml.YAMLError):  # a card that others wrote
            pass
        model = HUB_NAME if model == "minilm" else str(model or "a model")
        self.local = bool(private(model)) or Path(model).is_dir()
        self.name = Path(model).name
        self.hub = model if is_hub_name(model) and not self.local else own.get("base_model")
        self.licence, self.language = own.get("license"), own.get("language")
        self.more = {name: own[name] for name in ("license_name", "license_link") if name in own}

    @property
    def said(self) -> str:
        if not self.local:
            return f"`{self.hub or self.name}`"
        return f"`{self.name}`, a local folder" + (f" (its own base model: `{self.hub}`)" if self.hub else "")


def card_of(model: str, loaded: Model) -> str:
    """The text of the card of ``model``, a folder or a hub name; of a model of vectors that of ``loaded``.

    ``loaded`` has none where it was made of the model's parts.
    """
    model = minilm_path() if model in ("minilm", HUB_NAME) else model
    file: Any = Path(model) / "README.md"
    if not Path(model).is_dir():
        file = try_to_load_from_cache(model, "README.md") if is_hub_name(model) else None
    if isinstance(file, (str, Path)) and Path(file).is_file():
        return Path(file).read_text("utf-8", errors="replace")
    return getattr(loaded, "_model_card_text", None) or ""  # kept by sentence-transformers, no public name


def metadata(
    base: Base,
    title: str,
    config: Mapping[str, Any],
    collection: Collection,
    measures: Mapping[str, float],
    split: str | None,
    pipeline_tag: str,
    task: tuple[str, str],
    tags: list[str],
) -> ModelCardData:
    """The card's head, as a hub reads it; what is not known is left out."""
    dataset = (config.get("data") or {}).get("name")
    dataset = dataset if dataset and is_hub_name(dataset) else None
    results = [
        EvalResult(
            task_type=task[0],
            task_name=task[1],
            dataset_type=dataset
            or re.sub(r"[^a-z0-9]+", "-", collection.name.lower()).strip("-")
            or "collection",
            dataset_name=collection.name,
            dataset_split=split,
            metric_type=re.sub(r"[^a-z0-9]+", "_", name.replace("@", "_at_").lower()).strip("_"),
            metric_name=name,
            metric_value=float(value),
        )
        for name, value in measures.items()
    ]
    return ModelCardData(
        base_model=base.hub,
        license=base.licence,
        **base.more,
        language=base.language,
        datasets=[dataset] if dataset else None,
        library_name="sentence-transformers",
        pipeline_tag=pipeline_tag,
        tags=tags,
        model_name=title,
        eval_results=results or None,
    )


def card(
    data: ModelCardData,
    title: str,
    intro: str,
    snippet: str,
    rows: Mapping[str, str],
    results: str,
    trained: Mapping[str, str],
    notes: Sequence[str],
    fields: Mapping[str, Any],
    base: Base,
) -> str:
    """The whole text; ``fields`` are the configuration's, without folders of this machine."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    licence = (
        f"{base.licence}, which is the base model's"
        if base.licence
        else "unknown: the base model's card names none"
    )
    language = (
        f"{listing(base.language)}, which is the base model's; the collection was not looked at"
        if base.language
        else "unknown: the base model's card names none"
    )
    settings = yaml.safe_dump(public(fields), sort_keys=False, allow_unicode=True, width=100)
    left = "".join(f"\n* {note}" for note in notes)
    return f"""---
{data.to_yaml()}
---
# {title}

{intro}

```python
{snippet}
```

{facts(rows)}

## How good it is

{results}

## How it was trained

{facts(trained)}
{left}
```yaml
{settings}```

rankdistill {__version__}, Python {platform.python_version()}, {versions}.

## Licence and language

Licence: {licence}. Language: {language}.

## Papers

{PAPERS}
"""


def described(collection: Collection) -> str:
    documents = count(len(collection.documents), "document")
    return f"{collection.name}, {documents}, fingerprint `{collection.fingerprint}`"


def facts(rows: Mapping[str, str]) -> str:
    """A table of two columns."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def listing(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


def public(value: Any) -> Any:
    """``value`` of a configuration without private parts: of paths the name, no access tokens."""
    if isinstance(value, Mapping):
        return {
            key: public(part)
            for key, part in value.items()
            if part is not None and not (str(key).endswith("token") and isinstance(part, str))
        }
    if isinstance(value, (list, tuple)):
        return [public(part) for part in value]
    return Path(value).name if isinstance(value, str) and private(value) else value


def private(text: str) -> bool:
    """Whether ``text`` is a place on this machine."""
    return (
        Path(text).is_absolute()
        or text.startswith(("~", "./", "../"))
        or ("/" in text and Path(text).exists())
    )
