"""The main job: collection, candidates, teacher scores, groups, student, measured runs.

python -m rankdistill.train +experiment=stratified
"""

import csv
import json
import logging
import shutil
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from rankdistill import analysis
from rankdistill.analysis.plots import save
from rankdistill.candidates import mine
from rankdistill.command import command, make, plain
from rankdistill.evaluation import Evaluation, compare
from rankdistill.students import load_weights_from, merge_adapter
from rankdistill.summary import model_card, summary
from rankdistill.teachers import score_candidates
from rankdistill.training import DistillationTrainer, training_arguments

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """One run, in Hydra's run folder; returns the main measure after training."""
    return distil(config, Path(HydraConfig.get().runtime.output_dir))


def distil(config: DictConfig, folder: Path) -> float:
    """Composes the library as ``config`` says and leaves the results in ``folder``."""
    set_seed(config.seed)
    evaluator = make(config.evaluator)
    sampler = make(config.sampler)
    collection = make(config.data)
    log.info("%s", collection)
    student = make(config.student)
    retrievers = list(make(config.candidates.retrievers).values())

    split, test = config.candidates.split, config.evaluation.split
    candidates = mine(collection, retrievers, split, config.candidates.limit)
    teacher = make(config.teacher)
    table = score_candidates(teacher, candidates)
    results = {"before": evaluator.evaluate(student, collection, test, reuse=True)}
    log.info("before: %s", results["before"].mean)
    if config.evaluation.teacher:
        pools = mine(collection, retrievers, test, evaluator.limit)
        teacher_table = score_candidates(teacher, pools)
    del teacher

    (folder / "plots").mkdir(exist_ok=True)
    save(
        analysis.plot_score_distribution(
            table, {str(config.sampler._target_).rpartition(".")[2]: sampler}, config.seed
        ),
        folder / "plots" / "score_distribution.png",
    )
    history = []
    for stage in ("warmup", "distillation"):
        settings = config.get(stage)
        if settings:
            history += train_stage(
                student, table, settings, config, folder / "checkpoints" / stage, stage, history
            )
    merge_adapter(student)

    results["after"] = evaluator.evaluate(student, collection, test)
    if config.evaluation.teacher:
        results["teacher"] = evaluator.rerank(teacher_table, test)
    report(results, student, table, history, evaluator.main, config, folder)
    return results["after"].mean[evaluator.main]


def train_stage(
    student, table, settings: DictConfig, config: DictConfig, folder: Path, stage: str, history: list
) -> list:
    """Trains ``student`` in place, or takes up where an earlier start left; returns what it logged."""
    finished = folder / "finished"
    if finished.exists():
        log.info("%s is finished: reusing %s", stage, finished)
        load_weights_from(student, finished / "model.safetensors")
        return json.loads((finished / "history.json").read_text())
    arguments = training_arguments(
        str(folder),
        seed=config.seed,
        **plain(config.trainer) | plain(settings.get("trainer") or OmegaConf.create({})),
    )
    trainer = DistillationTrainer(
        student,
        table,
        make(settings.get("sampler") or config.sampler),
        make(settings.get("loss") or config.loss),
        arguments,
        **plain(config.scores),
    )
    log.info("%s: %d groups, %s", stage, len(trainer.train_dataset), folder)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)) if folder.exists() else None)
    before = history[-1]["step"] if history else 0
    logged = [row | {"step": row["step"] + before, "stage": stage} for row in trainer.state.log_history]
    finish(trainer, logged, finished)
    return logged


def finish(trainer, logged: list, finished: Path) -> None:
    """Leaves weights and history in ``finished``, all of it or nothing, and drops the checkpoints."""
    draft = finished.with_name("unfinished")
    shutil.rmtree(draft, ignore_errors=True)
    trainer.save_model(str(draft))
    (draft / "history.json").write_text(json.dumps(logged))
    draft.rename(finished)
    for checkpoint in finished.parent.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def report(
    results: dict[str, Evaluation], student, table, history, main: str, config: DictConfig, folder: Path
) -> None:
    """Writes the run's files and prints the table before / after / teacher."""
    before, after = results["before"], results["after"]
    metrics = {name: dict(evaluation.mean) for name, evaluation in results.items()}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    with open(folder / "per_query.csv", "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["query_id", *(f"{m} {name}" for m in before.mean for name in results)])
        for query in before.per_query[main]:
            writer.writerow(
                [query, *(results[name].per_query[m][query] for m in before.mean for name in results)]
            )
    after.run.write(folder / "run.trec.gz")
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    (folder / "history.json").write_text(json.dumps(history, indent=1))
    save(analysis.plot_learning_curve(history), folder / "plots" / "learning_curve.png")
    save(
        analysis.plot_gains(before.per_query[main], after.per_query[main], main),
        folder / "plots" / "gains.png",
    )

    gain = compare(before.per_query[main], after.per_query[main])
    text = summary(metrics, main, gain)
    student.save_pretrained(str(folder / "model"), create_model_card=False)
    (folder / "model" / "README.md").write_text(model_card(plain(config), table, text), encoding="utf-8")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    print(f"\n{text}\n\nResults in {folder}")


if __name__ == "__main__":
    command(run, "config")
