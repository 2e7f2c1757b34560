"""The main job: collection, candidates, teacher scores, groups, student, measured runs.

rankdistill train +experiment=stratified
"""

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from rankdistill.analysis import label_auc
from rankdistill.analysis.plots import save_group_plots, save_run_plots
from rankdistill.commands.cards import model_card
from rankdistill.commands.forecast import MEASURING, TABLES, forecast
from rankdistill.commands.job import Job, job_of
from rankdistill.commands.launch import check_names, command, compose
from rankdistill.commands.measuring import (
    Measured,
    cut_in_the_step,
    evaluated,
    measured_how,
    summed,
    task_of,
    truncated_inputs,
    watched_pools,
)
from rankdistill.commands.summary import (
    means,
    measured_queries,
    read_measures,
    shared_queries,
    significance,
    summary,
    used_queries,
    write_conditions,
    write_judgments,
    write_measures,
)
from rankdistill.commands.tables import training_tables
from rankdistill.errors import InputError
from rankdistill.evaluation import Evaluation, compare
from rankdistill.retrieval import passing_index, stored_index
from rankdistill.runtime import processes
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.environment import precision
from rankdistill.runtime.folders import RunFolder, plain, write_json, write_text
from rankdistill.runtime.hardware import has_bf16
from rankdistill.runtime.stopwatch import Stopwatch
from rankdistill.scores import ScoreTable
from rankdistill.students import merge_adapter
from rankdistill.students.lengths import Counts, said_of
from rankdistill.students.matryoshka import cuts_of
from rankdistill.students.models import BiEncoderModel
from rankdistill.students.rankers import has_transformer, reranks
from rankdistill.teachers import NoTeacher
from rankdistill.training.arguments import batch_in_words, batch_of
from rankdistill.training.rates import Rates, kept_rates
from rankdistill.training.stages import lone_documents, resumed_at, shown_queries, train_stage

__all__ = ["compose", "distil", "run"]
log = logging.getLogger(__name__)
BF16 = "It was measured in bf16; in float32 scores differ in the third digit, and figures may a little."
LITTLE = 0.6  # of the pairs: KL gained nothing where it was 0.51, and much from 0.92 on (docs/studies.md)
CUT = "`:{}` is measured with the first {} dimensions of its vectors alone (`truncate_dim`)."


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
    if (file := next((x for x in (Path(folder), *Path(folder).parents) if x.is_file()), None)) is not None:
        raise InputError(f"folder={str(folder)!r}: {file} is a file; name a folder for the run")
    with RunFolder(folder, config) as place:
        return run(config, place)


def run(config: DictConfig, folder: RunFolder) -> float:
    """Composes the library as ``config`` says and leaves the results in ``folder``.

    All processes of a job go through it; what is in ``folder`` the main one writes. Returns the main measure
    after training.
    """
    with Stopwatch() as watch:
        job = job_of(config, folder.checkpoints)
        if folder.finished(**job.inputs):
            return finished(folder)
        evaluator, collection, student = job.evaluator, job.collection, job.student
        watch.lap("reading")
        asked, held = config.evaluation.teacher, config.evaluation.dev_queries
        watch.expect(forecast(collection, student, job.sources, job.stages, evaluator, job.split, asked))
        tables, trained, judged = training_tables(job.sources, collection, job.stages, held, evaluator.seed)
        watch.lap(TABLES)
        for source, table in zip(job.sources, tables, strict=True):
            if processes.is_main() and not isinstance(source.teacher, NoTeacher):
                tell_agreement(table, source.key("training"))
        identity = begin(job, tables, folder)
        last = job.sources[-1]  # the last stage's: who is measured as the teacher, and what is shown
        documents = stored_index(student, collection)
        measured = Measured(evaluator, student, collection, job.split, last)
        measured.before(documents, last, asked)
        names = [source.key("training") for source in job.sources]
        queries = {**dict(zip(names, trained, strict=True)), "evaluation": measured.counted(tables)}
        if seen := shared_queries(queries["evaluation"]):
            log.warning(
                "%s: evaluation.split=%s, candidates.split=%s", seen, job.split, last.candidates.split
            )
        truncated = truncated_inputs(
            student, dict(zip(names, tables, strict=True)), measured.pools, evaluator, job.split
        )
        truncated |= cut_in_the_step(student, job.stages, [tables[job.table_of[x.name]] for x in job.stages])
        dev = config.evaluation.dev_split if judged is None else judged
        watching = {"eval_dataset": dev, "evaluator": evaluator, "patience": config.evaluation.patience}
        watching["eval_candidates"] = watched_pools(
            student, last.teacher, last.retrievers, collection, dev, evaluator
        )
        taught = not isinstance(last.teacher, NoTeacher)
        del last
        job.sources.clear()  # their memory is needed, where no stage refreshes
        watch.lap(MEASURING)
        if processes.is_main() and config.plots:
            plots = folder.path / "plots"
            plots.mkdir(exist_ok=True)
            if taught:
                name = folder.choices.get("sampler") or type(job.sampler).__name__
                vectors = documents.vectors
                encoder = None if vectors is None or reranks(student) else cast(BiEncoderModel, student)
                save_group_plots(plots, tables[-1], {name: job.sampler}, encoder, vectors, config.seed)
                watch.lap("plots")
        processes.wait()
        setting = fingerprint({**folder.plain, "seed": None, "plots": None}, *precision(), job.inputs)
        course = train_stages(job, tables, watching, identity, setting, watch)
        for i, counts in enumerate(trained):
            own = [stage for stage in job.stages if job.table_of[stage.name] == i]
            counts["shown"] = shown_queries(own, course.steps, tables[i], counts["used"])
            if lone := lone_documents(own, tables[i]):
                counts["one document alone"] = lone
        truncated |= summed([row["cut"] for row in course.history if "cut" in row])
        merge_adapter(student)
        measured.after(passing_index(student, collection))
        watch.lap(MEASURING)
        if processes.is_main():
            leave(job, folder, watch, tables[-1], measured, course, queries, truncated)
    return measured.results["after"].mean[evaluator.main]


@dataclass
class Course:
    """How the training went: what was logged, and by stage the steps of the weights that were kept.

    ``kept`` has those stages whose last step's were not, ``rates`` those whose learning rate was searched.
    """

    history: list[dict] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    kept: dict[str, dict[str, int]] = field(default_factory=dict)
    rates: dict[str, Rates] = field(default_factory=dict)


def tell_agreement(table: ScoreTable, name: str) -> None:
    """Logs how far the teacher agrees with the labels of ``table``, and warns where it does not."""
    auc = float(label_auc(table).mean())
    if math.isnan(auc):
        return
    log.info("%s: the teacher scores relevant documents above others in %.0f %% of pairs", name, 100 * auc)
    if auc < LITTLE:
        log.warning(
            "%s: that is hardly more than half: what the teacher thinks of these documents is not what the "
            "labels say, and a loss that follows it alone may make the student worse; keep InfoNCE beside it "
            "(loss=kl_infonce), or take another teacher",
            name,
        )


def train_stages(
    job: Job,
    tables: Sequence[ScoreTable],
    watching: dict[str, Any],
    identity: str,
    setting: str,
    watch: Stopwatch,
) -> Course:
    """Trains the student in place; ``watching`` is for the stages that are measured meanwhile."""
    course = Course()
    for stage in job.stages:
        more = {**stage.scores, "split": job.config.candidates.split}
        before = course.history[-1]["step"] if course.history else 0
        shown = tables[job.table_of[stage.name]]
        course.history += train_stage(
            job.student, shown, stage, more, watching, course.history, identity, setting
        )
        watch.lap(stage.name)
        if stage.searches_rate and (rates := kept_rates(stage.folder)) is not None:
            course.rates[stage.name] = rates
        steps, last = (course.history[-1][name] - before for name in ("kept_step", "step"))
        course.steps[stage.name] = steps
        if steps != last:
            course.kept[stage.name] = {"step": steps, "of": last}
    return course


def finished(folder: RunFolder) -> float:
    """Prints what the run had found; returns its main measure after training."""
    metrics = read_measures(folder.path)
    if processes.is_main():
        print(f"\n{summary(metrics, '', None)}\n\nResults in {folder.path}")
    return next(iter(metrics["after"].values()))


def begin(job: Job, tables: Sequence[ScoreTable], folder: RunFolder) -> str:
    """Lets ``folder`` be this run's, or resumes what is there; returns the run's identity."""
    for source, table in zip(job.sources, tables, strict=True):
        job.inputs[source.key("candidates")] = table.candidates.fingerprint
        job.inputs[source.key("teacher")] = table.teacher
    count = batch_of(job.stages[0].arguments)["processes"]
    identity = folder.begin(**job.inputs, **{"number of processes": str(count)})  # others have other batches
    if processes.is_main() and (where := resumed_at(job.stages)) is not None:
        log.info("resumed: %s", where)
        folder.note_resumed(where)
    processes.wait()
    return identity


def leave(
    job: Job,
    folder: RunFolder,
    watch: Stopwatch,
    table: ScoreTable,
    measured: Measured,
    course: Course,
    queries: dict[str, Any],
    truncated: Counts,
) -> None:
    """Writes what the run leaves; ``queries`` and ``truncated`` are counts of what it read."""
    batches = {stage.name: batch_of(stage.arguments) for stage in job.stages}
    notes = run_notes(job, measured, course, queries, truncated, batches)
    if job.config.plots:
        results, main = measured.results, job.evaluator.main
        compared = measured.table, measured.agreements, measured.pairs
        save_run_plots(folder.path / "plots", results, main, course.history, len(table), *compared)
        watch.lap("plots")
    report(
        measured.results, job.student, table, course.history, job.evaluator.main, job.config, folder, notes
    )
    active = {"active dimensions": measured.active} if measured.active else {}
    write_conditions(  # last: it says that the run is finished
        folder.path,
        settings=folder.settings,
        **job.inputs,
        evaluated=evaluated(job.collection, job.split),
        task=task_of(job.student, measured.pools, job.evaluator, job.collection, job.split),
        queries=queries,
        batches=batches,
        truncated=truncated,
        kept=course.kept,
        **(
            {"learning rates": {name: rates.said() for name, rates in course.rates.items()}}
            if course.rates
            else {}
        ),
        resumed=folder.resumed,
        seconds={name: round(value, 1) for name, value in watch.seconds.items()},
        **active,
    )
    folder.clear()
    log.info("time: %s%s", watch, "; the earlier part of it not counted" if folder.resumed else "")


def run_notes(
    job: Job,
    measured: Measured,
    course: Course,
    queries: Mapping[str, Any],
    truncated: Counts,
    batches: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """What a reader of the model's card must know of the run, a sentence each."""
    evaluation, notes = queries["evaluation"], []
    for name in [name for name in queries if name != "evaluation"]:
        where = name.removesuffix("training").rstrip(".")
        notes.append(f"{f'In {where}, trained' if where else 'Trained'} on {used_queries(queries[name])}.")
    notes += [f"{x}." for x in said_of(truncated)]
    for name, kept in course.kept.items():
        where = "{step} of {of}".format(**kept)
        notes.append(f"Of {name}, the weights of step {where} are kept, the best on the dev queries.")
    for stage in job.stages:
        tried = ""
        if (rates := course.rates.get(stage.name)) is not None:
            tried = f", the best of {len(rates.of)} on the dev queries"
            tried += f" with seed {rates.seed}" if rates.seed != job.config.seed else ""
        notes.append(f"Learning rate of {stage.name}: {stage.arguments.learning_rate:g}{tried}.")
    notes += [f"Batch of {name}: {batch_in_words(batch)}." for name, batch in batches.items()]
    if seen := shared_queries(evaluation):
        notes.append(f"{seen}.")
    notes += [
        f"In {stage.name}, the student's own finds joined the pools every {stage.refresh.steps} steps."
        for stage in job.stages
        if stage.refresh is not None and course.steps[stage.name] > stage.refresh.steps
    ]
    if unscored := evaluation.get("without teacher scores of relevant documents"):
        notes.append(
            f"Of {unscored:,} of {evaluation['used of the teacher']:,} measured queries the teacher scored "
            "no relevant document, or one document alone; they count 0 for it."
        )
    if measured.pools is None:
        notes += measured_how(job.evaluator, len(job.collection.documents))
    notes += [BF16] if has_bf16() and has_transformer(job.student) else []
    return notes + [CUT.format(n, n) for n in cuts_of(job.student)]


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
