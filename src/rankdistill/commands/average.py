"""Writes the mean of the weights of models that began alike, a soup.

rankdistill average model=[path/to/a,path/to/b]
rankdistill average model=[path/to/a,path/to/b] greedy=true data=beir data.path=path/to/collection
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from rankdistill.commands.evaluate import listed_names
from rankdistill.commands.launch import command, make
from rankdistill.commands.named_models import check_model
from rankdistill.commands.summary import check_split, table, write_conditions
from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluator
from rankdistill.evaluation.systems import short_names
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.fields import check_fields
from rankdistill.runtime.folders import RunFolder, read_json, write_json, write_text
from rankdistill.students import averaged, fingerprint_of, load_model
from rankdistill.students.fast.tokens import read_limit
from rankdistill.students.models import Model
from rankdistill.students.sides import sides

log = logging.getLogger(__name__)
FIELDS = {"weights": list | None, "greedy": bool, "split": str}


def run(config: DictConfig, folder: RunFolder) -> str:
    """Averages what ``config.model`` names; returns where the mean is."""
    check_fields(config, FIELDS)
    paths, weights = listed_names("model", config.model), config.weights
    if len(paths) < 2:
        raise InputError("model: give two folders or more, as model=[a,b]")
    if config.greedy and weights is not None:
        raise InputError("weights: greedy=true gives all that it keeps the same weight; leave them out")
    if config.greedy and config.split == "test":
        raise InputError(
            "split=test: greedy=true chooses models on it, and they are measured on another; give dev"
        )
    for path in paths:
        check_model(path, "model")
    check_starts(paths)
    models = [load_model(path) for path in paths]
    averaged(models, weights)  # raises for models that are unlike
    names = short_names(paths)
    inputs = {"model": fingerprint(*map(fingerprint_of, models))}
    collection, evaluator = None, None
    if config.greedy:
        evaluator, collection = make(config.evaluator, Evaluator), make(config.data, Collection)
        check_split(collection, config.split, "split")
        evaluator.check(collection, config.split)
        inputs["collection"] = collection.fingerprint
    if folder.ended and folder.finished(**inputs):
        return str(folder.path / "model")
    if processes.is_main():
        folder.check_model()
    folder.begin(**inputs)  # from here on a model in the folder is this run's
    text, members = f"the mean of {', '.join(names)}", names
    if evaluator is None or collection is None:
        model = averaged(models, weights)
    else:
        model, members, metrics = greedy_soup(models, names, evaluator, collection, config.split)
        text = f"{table(metrics)}\n\nKept, of {config.split}: {', '.join(members)}"
    if not processes.is_main():
        return str(folder.path / "model")
    say_lengths(models, names, members[0])
    with folder.drafted("model") as draft:
        model.save_pretrained(str(draft), create_model_card=False)
        write_text(draft / "README.md", card(members, weights))
    if config.greedy:
        write_json(folder.path / "metrics.json", metrics)
    write_conditions(folder.path, settings=folder.settings, **inputs)
    folder.clear()
    print(f"\n{text}\n\nModel in {folder.path / 'model'}")
    return str(folder.path / "model")


def greedy_soup(
    models: Sequence[Model], names: Sequence[str], evaluator: Evaluator, collection: Collection, split: str
) -> tuple[Model, list[str], dict[str, dict[str, float]]]:
    """The mean of those that do not lower the main measure on ``split``, the best model first.

    With their names, and the measures of all models and of the mean: never below those of the best model.
    """
    metrics = {}
    for name, model in zip(names, models, strict=True):
        log.info("measuring %s on %s", name, split)
        metrics[name] = dict(evaluator.evaluate(model, collection, split).mean)
    by_name, main = dict(zip(names, models, strict=True)), evaluator.main
    first, *others = sorted(names, key=lambda name: -metrics[name][main])
    members, soup, best = [first], by_name[first], metrics[first]
    for name in others:
        candidate = averaged([by_name[member] for member in (*members, name)])
        measures = dict(evaluator.evaluate(candidate, collection, split).mean)
        log.info("with %s: %s %.4f, without %.4f", name, main, measures[main], best[main])
        if measures[main] >= best[main]:
            members, soup, best = [*members, name], candidate, measures
    return soup, members, metrics | {"mean": best}


def say_lengths(models: Sequence[Model], names: Sequence[str], first: str) -> None:
    """Warns of models that read more or less of a text than ``first``, which the mean reads as."""
    lengths = {name: lengths_of(model) for name, model in zip(names, models, strict=True)}
    if others := [name for name, length in lengths.items() if length != lengths[first]]:
        said = ", ".join(f"{name} {lengths[name]}" for name in others)
        log.warning("the mean reads %s tokens of a text, as does %s; %s", lengths[first], first, said)


def lengths_of(model: Model) -> str:
    """How many tokens ``model`` reads of a text, a query's and a document's if they differ."""
    limits = [read_limit(side, kind) or "all" for kind, side in sides(model).items()]
    return " and ".join(map(str, dict.fromkeys(limits)))


def check_starts(paths: Sequence[str]) -> None:
    """Raises ``InputError`` if the runs that left the models say that these began as different ones."""
    starts = {}
    for path in paths:
        conditions = Path(path).parent / "conditions.json"
        if conditions.is_file():
            facts = read_json(conditions, dict, "delete it if it is not of the model beside it")
            if "student" in facts:
                starts[path] = facts["student"]
    (first, *others) = [*starts.items()] or [("", "")]
    for path, start in others:
        if start != first[1]:
            raise InputError(
                f"model: {path} began as another model than {first[0]} (conditions.json), and the mean of "
                "weights that began apart is not a useful model"
            )


def card(names: Sequence[str], weights: Sequence[float] | None) -> str:
    """The README of a mean."""
    shares = "in equal shares" if weights is None else f"by the weights {', '.join(map(str, weights))}"
    listed = "\n".join(f"* {name}" for name in names)
    title = f"# A mean of {len(names)} models"
    return f"---\ntags: [rankdistill]\n---\n{title}\n\nTheir weights, {shares}:\n\n{listed}\n"


if __name__ == "__main__":
    command(run, "average")
