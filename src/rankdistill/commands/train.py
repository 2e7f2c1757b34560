"""The main job: collection, candidates, teacher scores, groups, student, measured runs.

rankdistill train +experiment=stratified
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import DictConfig, OmegaConf
from transformers import set_seed

from rankdistill import analysis
from rankdistill.analysis.plots import save_group_plots, save_run_plots
from rankdistill.commands.cards import model_card
from rankdistill.commands.forecast import MEASURING, TABLES, forecast
from rankdistill.commands.launch import check_names, command, compose, make
from rankdistill.commands.measuring import (
    agreement_of,
    asked_queries,
    cut_in_the_step,
    evaluated,
    evaluations,
    measured_how,
    measured_scores,
    reranked_pools,
    retrieved,
    summed,
    task_of,
    truncated_inputs,
    warn_of,
    watched_pools,
)
from rankdistill.commands.named_models import check_models
from rankdistill.commands.plan import check_dev, check_scores_of, makes, plan
from rankdistill.commands.summary import (
    check_split,
    evaluation_queries,
    means,
    measured_queries,
    read_measures,
    significance,
    summary,
    used_queries,
    write_conditions,
    write_judgments,
    write_measures,
)
from rankdistill.commands.tables import (
    Source,
    check_files,
    measured_and_trained,
    sources_of,
    training_tables,
)
from rankdistill.data import Collection
from rankdistill.errors import InputError, check_counts, check_seed, fields_of, shorten
from rankdistill.evaluation import Evaluation, Evaluator, compare
from rankdistill.retrieval import passing_index, stored_index
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.fields import check_fields
from rankdistill.runtime.folders import RunFolder, plain, write_json, write_text
from rankdistill.runtime.hardware import has_bf16, tell_threads
from rankdistill.runtime.stopwatch import Stopwatch
from rankdistill.students import merge_adapter, start_of
from rankdistill.students.base import Ranker
from rankdistill.students.lengths import said_of
from rankdistill.students.matryoshka import cuts_of
from rankdistill.students.models import Model
from rankdistill.students.rankers import (
    check_trainable,
    compare_by,
    has_transformer,
    ranker_of,
    reranks,
    similarity_of,
)
from rankdistill.teachers import NoTeacher
from rankdistill.training.arguments import batch_in_words, batch_of
from rankdistill.training.dev import check_apart
from rankdistill.training.rates import AUTO, kept_rates
from rankdistill.training.refresh import check_refresh
from rankdistill.training.stages import Stage, lone_documents, resumed_at, shown_queries, train_stage
from rankdistill.training.step import check_offers

__all__ = ["compose", "distil", "run"]
log = logging.getLogger(__name__)
BF16 = "It was measured in bf16; in float32 scores differ in the third digit, and figures may a little."
CUT = "`:{}` is measured with the first {} dimensions of its vectors alone (`truncate_dim`)."
FIELDS = {
    "seed": int,
    "plots": bool,
    "scores.similarity": str | None,
    "scores.scale": float | None,
    "scores.teacher_scores": str,
    "scores.teacher_scale": float | str,
    "scores.teacher_weights": dict | None,
    "scores.relabel": str | None,
    "scores.relabel_margin": float,
    "scores.chunk_tokens": int | None,
    "scores.grad_cache": bool,
    "evaluation.split": str,
    "evaluation.teacher": bool | int,
    "evaluation.dev_split": str | None,
    "evaluation.dev_queries": int | None,
    "evaluation.patience": int | None,
}


def distil(config: DictConfig | Mapping[str, Any], folder: str | Path) -> float:
    """The main job from Python: leaves in ``folder`` what the command does, but for the log.

    ``config`` is a whole one, as ``compose`` makes it, or a dict of the same. Returns the main measure after
    training; resumes, or reads the results, if the same job was interrupted or has finished there. Raises
    ``InputError`` for what the command ends with status 2 for.
    """
    config = OmegaConf.create(cast(dict, config))
    check_names(config, "config")
    if lacking := sorted(OmegaConf.missing_keys(config)):
        raise InputError(f"{lacking[0]}: must be given")
    if Path(folder).is_file():
        raise InputError(f"folder={str(folder)!r}: it is a file; name a folder for the run")
    with RunFolder(folder, config) as place:
        return run(config, place)


def run(config: DictConfig, folder: RunFolder) -> float:
    """Composes the library as ``config`` says and leaves the results in ``folder``.

    All processes of a job go through it; what is in ``folder`` the main one writes. Returns the main measure
    after training.
    """
    with Stopwatch() as watch:
        return _run(config, folder, watch)


def _run(config: DictConfig, folder: RunFolder, watch: Stopwatch) -> float:
    main = processes.is_main()
    check_fields(config, FIELDS)
    check_seed(config.seed)
    set_seed(config.seed)
    evaluator = make(config.evaluator, Evaluator)
    sampler = make(config.sampler)
    check_scores_of("scores", config.scores)
    check_models(*makes(config))
    stages = plan(config, folder.checkpoints)
    check_dev(config.evaluation, stages)
    if not isinstance(config.evaluation.teacher, bool):
        check_counts(**{"evaluation.teacher": config.evaluation.teacher})
    if main:
        tell_threads()
    check_files(config, [stage.name for stage in stages])
    collection = make(config.data, Collection)
    log.info("%s", collection)
    test = config.evaluation.split
    check_split(collection, test, "evaluation.split")
    check_split(collection, config.candidates.split, "candidates.split")
    evaluator.check(collection, test)  # what is wrong with the splits shows now
    if (dev := config.evaluation.dev_split) is not None:
        check_dev_queries(collection, dev, test, config.candidates.split)
        evaluator.check(collection, dev)
    set_seed(config.seed)  # of a new scoring head, whatever was drawn before
    student = make(config.student, Model)
    check_student(student, config, stages)
    evaluator.check_index(student)
    sources = sources_of(config, [stage.name for stage in stages])
    stages = [with_scorer(stage, sources, student) for stage in stages]
    inputs = inputs_of(collection, student, sources, stages)
    if folder.finished(**inputs):
        metrics = read_measures(folder.path)
        if main:
            print(f"\n{summary(metrics, '', None)}\n\nResults in {folder.path}")
        return next(iter(metrics["after"].values()))
    watch.lap("reading")
    watch.expect(forecast(collection, student, sources, stages, evaluator, test, config.evaluation.teacher))
    tables, trained, held = training_tables(
        sources, collection, stages, config.evaluation.dev_queries, evaluator.seed
    )
    watch.lap(TABLES)
    dev = dev if held is None else held
    for source, table in zip(sources, tables, strict=True):
        inputs[source.key("candidates")] = table.candidates.fingerprint
        inputs[source.key("teacher")] = table.teacher
    # the last stage's: who is measured as the teacher, and what is shown
    teacher, retrievers, table = sources[-1].teacher, sources[-1].retrievers, tables[-1]
    of_stage = {name: i for i, source in enumerate(sources) for name in source.stages}
    batches = {stage.name: batch_of(stage.arguments) for stage in stages}
    jobs = next(iter(batches.values()))["processes"]
    identity = folder.begin(**inputs, **{"number of processes": str(jobs)})  # others have other batches
    if main:
        if (where := resumed_at(stages)) is not None:
            log.info("resumed: %s", where)
            folder.note_resumed(where)
    processes.wait()
    of_source = [source.name for source in sources]
    names = [source.key("training") for source in sources]
    queries = dict(zip(names, trained, strict=True))
    documents = stored_index(student, collection)
    pools = reranked_pools(student, teacher, retrievers, collection, test, evaluator)
    results = evaluations("before", evaluator, student, collection, test, documents, pools)
    if reranks(student):
        results |= retrieved(evaluator, retrievers, collection, test)
    log.info("before: %s", " ".join(f"{name} {value:.4f}" for name, value in results["before"].mean.items()))
    teacher_table, agreements, pairs, asked = None, {}, {}, np.empty(0, np.int64)
    if config.evaluation.teacher:
        asked = asked_queries(config.evaluation.teacher, collection, test, evaluator)
        teacher_table = measured_scores(teacher, retrievers, collection, test, evaluator, asked)
    if main and teacher_table is not None:
        pairs["before"] = analysis.student_scores(student, teacher_table, documents)
        agreements["before"] = agreement_of(teacher_table, pairs["before"], "before")
    active = {"before": results["before"].active}
    measured = len(results["before"].per_query[evaluator.main])
    log.info("measured: %s", measured_queries(collection, test, measured))
    queries["evaluation"] = evaluation_queries(collection, test, measured, evaluator.limit)
    shared, alike = measured_and_trained(tables, test, evaluator)
    queries["evaluation"]["trained on"] = shared
    seen = f"{shared:,} of the {measured:,} measured queries are training queries too, by id or by text"
    if alike:
        queries["evaluation"]["trained on but for case or white space"] = alike
        seen += f", {alike:,} of them but for case or white space"
    if shared:
        log.warning("%s: evaluation.split=%s, candidates.split=%s", seen, test, config.candidates.split)
    unscored = 0
    if teacher_table is not None:
        unscored = int((~np.isin(asked, teacher_table.candidates.query_rows)).sum())
        queries["evaluation"]["used of the teacher"] = len(asked)
    if unscored:
        queries["evaluation"]["without teacher scores of relevant documents"] = unscored
    truncated = truncated_inputs(student, dict(zip(names, tables, strict=True)), pools, evaluator, test)
    truncated |= cut_in_the_step(student, stages, [tables[of_stage[stage.name]] for stage in stages])
    watched = watched_pools(student, teacher, retrievers, collection, dev, evaluator)
    taught = not isinstance(teacher, NoTeacher)
    del teacher, retrievers, sources  # their memory is needed, where no stage refreshes

    watch.lap(MEASURING)
    plots = folder.path / "plots" if main and config.plots else None
    if plots is not None:
        plots.mkdir(exist_ok=True)
    if plots is not None and taught:
        name = folder.choices.get("sampler") or type(sampler).__name__
        encoder = None if reranks(student) else student
        vectors = documents.vectors
        model = None if vectors is None else encoder
        save_group_plots(plots, table, {name: sampler}, model, vectors, config.seed)
        watch.lap("plots")
    processes.wait()
    history: list[dict] = []
    steps: dict[str, int] = {}
    best: dict[str, dict[str, int]] = {}
    rates: dict[str, dict[float, float]] = {}
    watching = {"eval_dataset": dev, "evaluator": evaluator, "patience": config.evaluation.patience}
    watching["eval_candidates"] = watched
    for stage in stages:
        more = {**stage.scores, "split": config.candidates.split}
        before = history[-1]["step"] if history else 0
        shown = tables[of_stage[stage.name]]
        history += train_stage(student, shown, stage, more, watching, history, identity)
        watch.lap(stage.name)
        if stage.searches_rate:
            rates[stage.name] = kept_rates(stage.folder)
        steps[stage.name], last = (history[-1][name] - before for name in ("kept_step", "step"))
        if steps[stage.name] != last:
            best[stage.name] = {"step": steps[stage.name], "of": last}
    for i, counted in enumerate(trained):
        own = [stage for stage in stages if of_stage[stage.name] == i]
        counted["shown"] = shown_queries(own, steps, tables[i], counted["used"])
        if lone := lone_documents(own, tables[i]):
            counted["one document alone"] = lone
    truncated |= summed([row["cut"] for row in history if "cut" in row])
    merge_adapter(student)

    documents = passing_index(student, collection)
    results |= evaluations("after", evaluator, student, collection, test, documents, pools)
    active["after"] = results["after"].active
    if main and teacher_table is not None:
        pairs["after"] = analysis.student_scores(student, teacher_table, documents)
        agreements["after"] = agreement_of(teacher_table, pairs["after"], "after")
    if teacher_table is not None:
        asked_ids = [collection.query_ids[row] for row in asked]
        results["teacher"] = evaluator.rerank(teacher_table, test).of(asked_ids)
        warn_of(results["teacher"].mean, results["before"].of(asked_ids).mean, evaluator.main)
    watch.lap(MEASURING)
    if main:
        notes = [
            f"{f'In {source}, trained' if source else 'Trained'} on {used_queries(counted)}."
            for source, counted in zip(of_source, trained, strict=True)
        ]
        notes += [f"{x}." for x in said_of(truncated)]
        for name, kept in best.items():
            where = "{step} of {of}".format(**kept)
            notes.append(f"Of {name}, the weights of step {where} are kept, the best on the dev queries.")
        notes += [
            f"Learning rate of {stage.name}: {stage.arguments.learning_rate:g}"
            + (f", the best of {len(rates[stage.name])} on the dev queries." if stage.searches_rate else ".")
            for stage in stages
        ]
        notes += [f"Batch of {name}: {batch_in_words(batch)}." for name, batch in batches.items()]
        notes += [f"{seen}."] if shared else []
        notes += [
            f"In {stage.name}, the student's own finds joined the pools every {stage.refresh.steps} steps."
            for stage in stages
            if stage.refresh is not None and steps[stage.name] > stage.refresh.steps
        ]
        if unscored:
            notes.append(
                f"Of {unscored:,} of {len(asked):,} measured queries the teacher scored no relevant "
                "document, or one document alone; they count 0 for it."
            )
        if pools is None:
            notes += measured_how(evaluator, len(collection.documents))
        notes += [BF16] if has_bf16() and has_transformer(student) else []
        notes += [CUT.format(n, n) for n in cuts_of(student)]
        if plots is not None:
            compared = teacher_table, agreements, pairs
            save_run_plots(plots, results, evaluator.main, history, len(table), *compared)
            watch.lap("plots")
        report(results, student, table, history, evaluator.main, config, folder, notes)
        write_conditions(  # last: it says that the run is finished
            folder.path,
            settings=folder.settings,
            **inputs,
            evaluated=evaluated(collection, test),
            task=task_of(student, pools, evaluator, collection, test),
            queries=queries,
            batches=batches,
            truncated=truncated,
            kept=best,
            **({"learning rates": rates} if rates else {}),
            resumed=folder.resumed,
            seconds={name: round(value, 1) for name, value in watch.seconds.items()},
            **({"active dimensions": active} if active["before"] else {}),
        )
        folder.clear()
        log.info("time: %s%s", watch, "; the earlier part of it not counted" if folder.resumed else "")
    return results["after"].mean[evaluator.main]


def check_student(student: Model, config: DictConfig, stages: Sequence[Stage]) -> None:
    """Raises ``InputError`` if ``student`` can't be trained as the settings say; makes it compare so."""
    check_trainable(student)
    with fields_of("scores"):
        similarity = similarity_of(student, config.scores.similarity)
    for stage in stages:
        with fields_of("scores"):
            ranker = ranker_of(student, similarity, stage.scores["scale"], half=False, grad_cache=False)
        inside = stage.step_teacher and stage.step_teacher.ranker(student, half=False, grad_cache=False)
        check_offers(ranker, stage.loss, inside or None)
        set_learning_rate(stage, ranker, config)
    if reranks(student):
        log.info("the student's scores are its logits; scores.scale is 1")
    compare_by(student, similarity)  # before it is measured


def set_learning_rate(stage: Stage, ranker: Ranker, config: DictConfig) -> None:
    """Gives ``stage`` the rate that suits ``ranker``, unless one is set; the log says which it is."""
    rate = (config[stage.name].get("trainer") or {}).get("learning_rate", config.trainer.learning_rate)
    if rate is None:
        stage.arguments.learning_rate = ranker.learning_rate
        whose = f"the default of a {type(ranker).__name__}"
    elif rate == AUTO:
        stage.arguments.learning_rate = ranker.learning_rate
        whose = "from which it is searched"
    else:
        whose = "as it was set"
    log.info("%s: learning rate %g, %s", stage.name, stage.arguments.learning_rate, whose)


def with_scorer(stage: Stage, sources: Sequence[Source], student: Model) -> Stage:
    """``stage`` with its teacher to score what a refresh finds; raises ``InputError`` if it can't."""
    if stage.refresh is None:
        return stage
    refresh = replace(stage.refresh, teacher=next(x.teacher for x in sources if stage.name in x.stages))
    check_refresh(refresh, student, stage.arguments)
    return replace(stage, refresh=refresh)


def inputs_of(
    collection: Collection, student: Model, sources: Sequence[Source], stages: Sequence[Stage]
) -> dict[str, str]:
    """The fingerprints of what may change in place under the same settings, before anything is computed."""
    inputs = {"collection": collection.fingerprint, "student": start_of(student)}
    for source in sources:
        inputs |= source.inputs(collection)
    inside = [stage.step_teacher for stage in stages if stage.step_teacher is not None]
    if inside:
        inputs["step_teacher"] = fingerprint(*(one.fingerprint for one in inside))
    orders = [stage.order for stage in stages if stage.order is not None]
    if orders:
        inputs["order"] = fingerprint(*(order.fingerprint for order in orders))
    return inputs


def check_dev_queries(collection: Collection, dev: str, test: str, train: str) -> None:
    """Raises ``InputError`` unless ``dev`` is a split that shares no query with ``test`` and ``train``."""
    if dev not in collection.qrels:
        raise InputError(
            f"evaluation.dev_split={dev}: {collection.name} has {shorten(collection.qrels, 9)}; "
            "evaluation.dev_queries=100 holds out training queries instead"
        )
    for split in (test, train):
        check_apart(collection, dev, collection.query_rows(dev), collection.query_rows(split), split)


def report(
    results: dict[str, Evaluation],
    student,
    table,
    history: list,
    main: str,
    config: DictConfig,
    folder: RunFolder,
    notes: Sequence[str],
) -> None:
    """Writes the run's files and prints the table before / after / teacher.

    ``notes`` are for the model card: what was left out, and what was cut.
    """
    before, after = results["before"], results["after"]
    text = summary(
        means(results),
        main,
        compare(before.per_query[main], after.per_query[main]) if len(before.per_query[main]) > 1 else None,
    )
    asked = results["teacher"].per_query[main] if "teacher" in results else {}
    if 1 < len(asked) < len(after.per_query[main]):
        behind = compare(asked, after.of(asked).per_query[main])
        text += f"\n\nThe teacher was asked of {len(asked):,} of these queries, drawn at random; of them\n"
        text += significance(main, behind, "after - teacher")
    split, path = config.evaluation.split, folder.path
    if after.active:
        said = ", ".join(
            f"{when} {active['queries']:,.1f} a query, {active['documents']:,.1f} a document"
            for when, active in (("before", before.active), ("after", after.active))
        )
        text += f"\n\nActive dimensions, on average: {said}."
    text += f"\n\nMeasured: {measured_queries(table.collection, split, len(after.per_query[main]))}."
    card = model_card(plain(config), table, student, after.mean, text, notes, after.active)
    for name, teacher in trained_teachers(folder.checkpoints, config.stages).items():
        with folder.drafted(name) as draft:
            shutil.copytree(teacher, draft)
    with folder.drafted("model") as draft:
        student.save_pretrained(str(draft), create_model_card=False)
        write_text(draft / "README.md", card)
    after.run.write(path / "run.trec.gz")
    check = write_judgments(path, table.collection, split, after)
    write_json(path / "history.json", history)
    write_measures(results, path)
    check = f"; the same figures of its run: {check}" if check else ""
    log.info("the results\n\n%s\n\nResults in %s%s", text, path, check)


def trained_teachers(checkpoints: Path, stages: Sequence[str]) -> dict[str, Path]:
    """What the teachers that were trained inside the steps of ``stages`` are saved as, and where they are."""
    folders = {name: checkpoints / name / "finished" / "teacher" for name in stages}
    folders = {f"teacher_{name}": path for name, path in folders.items() if path.is_dir()}
    return folders


def main() -> None:
    command(run, "config")


if __name__ == "__main__":
    main()
