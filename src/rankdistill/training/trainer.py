"""The distillation step, on transformers' Trainer."""

import copy
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, cast

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Subset
from transformers import Trainer, TrainerCallback, TrainingArguments

from rankdistill.data.candidates import Candidates
from rankdistill.data.collection import Qrels
from rankdistill.errors import InputError, check_counts, shorten
from rankdistill.evaluation import Evaluator
from rankdistill.losses.base import check_columns, columns_of, reads, reads_of_teacher
from rankdistill.losses.in_batch import joined
from rankdistill.losses.shapes import is_number
from rankdistill.runtime import processes
from rankdistill.runtime.checked import checked
from rankdistill.runtime.folders import naming, read_json, write_json
from rankdistill.runtime.hardware import kept_memory
from rankdistill.scores.columns import check_weights
from rankdistill.scores.relabel import check_relabel, relabelled
from rankdistill.scores.table import ScoreTable
from rankdistill.students.base import Encoder, Ranker
from rankdistill.students.lengths import cut_inputs
from rankdistill.students.models import Model
from rankdistill.students.rankers import compare_by, ranker_of, similarity_of
from rankdistill.training.arguments import (
    batch_of,
    check_arguments,
    check_batches,
    steps_of,
    training_arguments,
)
from rankdistill.training.collator import GroupCollator, Preparer
from rankdistill.training.dev import HOW, DevCallback, dev_collection, with_measure
from rankdistill.training.groups import (
    TrainingGroups,
    check_split,
    check_teacher_scores,
    default_split,
    group_size,
)
from rankdistill.training.orders import ClusteredOrder, EpochSampler, sampler_of
from rankdistill.training.refresh import Refresh, Rounds, RoundSampler
from rankdistill.training.rows import RowAdamW, clip_gradients
from rankdistill.training.step import Step
from rankdistill.training.step_teacher import StepTeacher
from rankdistill.vocabulary import Batch, Embeddings, Outputs

log = logging.getLogger(__name__)
SPREAD_GROUPS = 64  # groups that the two spreads are estimated on
ADAMW = ("adamw_torch", "adamw_torch_fused")
SUMS = "sums.json"  # of a checkpoint: what the row of the log that comes next is of, so far
FAR_APART = 2.0  # spreads whose ratio is beyond this are warned of
STRETCHED = 50.0  # a match factor beyond this is warned of
LARGEST_SCALE = 1e6  # of the student's scores; float32 leaves few differences between larger ones
ONE_HOT = 0.99  # a probability beyond this leaves the group's other documents nothing


def check_scores(
    similarity: str | None,
    scale: float | None,
    teacher_scores: str,
    teacher_scale: float | str,
    teacher_weights: Mapping[str, float] | None,
    relabel: str | None,
    relabel_margin: float,
    chunk_tokens: int | None,
) -> None:
    """Raises ``InputError`` unless student and teacher scores can be made so."""
    check_teacher_scores(teacher_scores)
    if teacher_weights is not None:
        check_weights(teacher_weights)
    check_relabel(relabel, relabel_margin)
    check_counts(chunk_tokens=chunk_tokens)
    if scale is not None and not (is_number(scale) and 0 < scale <= LARGEST_SCALE):
        raise InputError(f"scale={scale!r}: it must be a number above 0, at most {LARGEST_SCALE:g}")
    if similarity not in (None, "cosine", "dot"):
        raise InputError(f"similarity={similarity!r}: it must be cosine or dot, or null for the model's own")
    numeric = not isinstance(teacher_scale, str) and is_number(teacher_scale)
    if teacher_scale != "match" and not (numeric and 0 < float(teacher_scale) <= 1e38):
        raise InputError(f"teacher_scale={teacher_scale!r}: it must be a number above 0, or 'match'")


class _TellEpoch(TrainerCallback):
    """Tells the sampler which epoch begins, however deep a resumed or sharded loader hides it."""

    def __init__(self, sampler: EpochSampler | RoundSampler):
        self.sampler = sampler

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.sampler.set_epoch(int((state.epoch or 0) + 1e-6))


def _a_step_later(rate: Callable[[int], float], step: int) -> float:
    return rate(step + 1)


@checked
class DistillationTrainer(Trainer):
    """Trains ``student`` on the groups that ``sampler`` shows of ``table``, by ``loss``.

    The table's queries must be of ``split``, by default ``train`` where the collection has one, or
    judged in no split: those of another are what is measured; ``table.of_split("train")`` leaves them out.

    ``student`` is trained in place; until then it is only moved to the device. Its scores are ``scale``
    (20 by default, 1 of a sparse student's dot product and of MaxSim) times the similarity of the embeddings:
    its own, or ``similarity``, which it keeps once it is trained. Those of a cross-encoder are its logits,
    and those of a ``Ranker`` of your own what it says; neither takes the two, and the latter is not measured
    while it trains.
    The teacher's are those of ``table``, or of a ``step_teacher`` that scores each batch. With
    ``teacher_weights``, such as ``{"cross_encoder": 1.0, "dense": 0.5}`` of an ensemble's table, they are the
    sum of these columns, for the sampler too. With ``relabel`` ("add" or "replace") documents that it puts
    more than ``relabel_margin`` above a query's positives are positives, too or instead
    (``scores.relabel``). They are taken ``raw``, ``minmax`` or ``zscore``
    (``teacher_scores``, over the query's pool) and multiplied by ``teacher_scale``: a number, or ``match``,
    which makes the mean deviation within a group (of positives alone, over the batch) equal to the
    student's at the first step; where both are a multiple of a cosine, a ``step_teacher``'s being one, it
    gives the two the same scale. A listwise or
    margin loss compares the two, so both must be on like scales; the log shows both spreads and warns when
    they are far apart.

    ``loss`` is a ``Loss``, or a plain module that is called with ``student``, ``teacher``, ``positive``,
    ``mask`` (B, G) and what else its ``forward`` names (``losses.base.value_of``). Its own parameters are
    trained, clipped and saved with the student's; those of a single number are in the log, as ``loss.`` and
    their name.

    A loss that leaves out some of a batch's queries or pairs averages over those of each micro-batch: with
    gradient accumulation or several processes, queries beside unlabelled ones weigh more. Of several GPUs
    a process takes one; torchrun starts a process for each.

    Documents are encoded in chunks of like length, ``chunk_tokens`` tokens each with padding, by default
    4,096 on a CPU and 16,384 on a GPU; ``grad_cache`` keeps the activations of one chunk at a time, for
    large groups in little memory, at about a third more compute.

    With ``refresh`` its pools are renewed every so many steps by what the student finds then.
    Queries come in an order drawn from ``args.seed``, or in the ``order`` of their topics.
    A ``step_teacher`` that is trained is in the checkpoints, and in ``trainer.model.teacher``.

    ``args`` and everything else are transformers' own. Every logging step reports, besides loss
    and learning rate, of the groups shown: ``teacher_entropy`` (nats, of the softmax of the scaled
    scores), ``teacher_std``, ``student_std`` (within a group), ``agreement`` (share of the pairs of
    a group that student and teacher order alike), ``repeated_documents`` (share of a batch's
    places whose document is in it already; of each process's own batch) and ``tokens_per_second``
    (without padding).

    ``args.eval_strategy`` measures the student while it trains, by ``evaluator``, on the queries of
    ``eval_dataset``: the name of a split of the table's collection, or judgments (query id -> document id ->
    grade), none of whose queries may be in ``table``; see ``hold_out``. With ``args.load_best_model_at_end``
    the best weights so far are kept and loaded at the end; training stops after ``patience`` evaluations
    without better ones. All of this is resumed with the rest. A cross-encoder reranks ``eval_candidates``, as
    ``Evaluator.evaluate`` has it.

    Raises ``InputError`` if the loss isn't finite, with the step, the queries and the score range.
    """

    model: Step
    train_dataset: TrainingGroups

    def __init__(
        self,
        student: Model | Ranker,
        table: ScoreTable,
        sampler,
        loss: nn.Module,
        args: TrainingArguments | None = None,
        *,
        step_teacher: StepTeacher | None = None,
        order: ClusteredOrder | None = None,
        refresh: Refresh | None = None,
        split: str | None = None,
        similarity: Literal["cosine", "dot"] | None = None,
        scale: float | None = None,
        teacher_scores: Literal["raw", "minmax", "zscore"] = "raw",
        teacher_scale: float | Literal["match"] = "match",
        teacher_weights: Mapping[str, float] | None = None,
        relabel: Literal["add", "replace"] | None = None,
        relabel_margin: float = 0.0,
        chunk_tokens: int | None = None,
        grad_cache: bool = False,
        eval_dataset: str | Qrels | None = None,
        evaluator: Evaluator | None = None,
        eval_candidates: Candidates | None = None,
        patience: int | None = None,
        **kwargs,
    ):
        args = copy.copy(args) if args else training_arguments("checkpoints")
        check_arguments(args)
        made_so = similarity, scale, teacher_scores, teacher_scale, teacher_weights
        check_scores(*made_so, relabel, relabel_margin, chunk_tokens)
        check_split(table, split)
        if step_teacher is not None and teacher_scores != "raw":
            raise InputError(
                f"teacher_scores={teacher_scores!r}: it is of whole pools, and a teacher inside the step "
                "scores groups; leave it raw"
            )
        if teacher_weights is not None:
            table = table.weighted(teacher_weights)
        if relabel is not None:
            if refresh is not None:
                raise InputError(
                    "relabel: pools that are renewed have the qrels' positives; leave one of the two out"
                )
            table = relabelled(table, relabel, relabel_margin)
        if "grades" in columns_of(loss):
            table = table.with_grades(split or ("train" if "train" in table.collection.qrels else None))
        check_columns(loss, table.offers)
        if isinstance(student, Ranker):
            if not (similarity is scale is None):
                raise InputError("similarity, scale: a Ranker of your own scores as it does; leave them null")
            self.similarity, ranker = None, student
        else:
            self.similarity = similarity_of(student, similarity)
            ranker = ranker_of(student, self.similarity, scale, args.bf16, grad_cache)
        args.remove_unused_columns = False  # groups are no columns
        if args.n_gpu > 1:  # DataParallel would split chunks, and so mix up whose document is whose
            log.warning("one of %d GPUs is used: torchrun starts a process for each", args.n_gpu)
            args._n_gpu = 1
        ranker.sparse = ranker.sparse and args.optim in ADAMW  # others take no sparse gradient
        if group_size(sampler) == 1 and not reads(loss):
            raise InputError(
                f"sampler: groups of one document teach {type(loss).__name__} nothing, which compares within "
                "a group; take a loss over the batch, such as InfoNCE, or negatives"
            )
        groups = TrainingGroups(table, sampler, args.seed, teacher_scores, columns_of(loss))
        groups.say_what_is_few()
        check_batches(args, len(groups))
        epochs = sampler_of(groups, args, order)
        self.rounds: Rounds | None = None
        self._order: EpochSampler | RoundSampler = epochs
        if refresh is not None:
            self.rounds = Rounds(refresh, student, groups, args, split or default_split(table))
            self._order = self.rounds.sampler(epochs)
        self.evaluator, self.dev, self.eval_candidates = evaluator or Evaluator(), None, eval_candidates
        check_counts(patience=patience)
        if (args.eval_strategy == "no") != (eval_dataset is None) or (eval_dataset is None and patience):
            raise InputError(
                "trainer.eval_strategy (steps or epoch) says when a dev split is measured, eval_dataset "
                f"which; one is missing: {HOW}, and in Python eval_dataset='dev'"
            )
        callbacks = list(kwargs.pop("callbacks", None) or [])
        if eval_dataset is not None:
            self.dev = dev_collection(table, eval_dataset)
            with_measure(args, self.evaluator)
            if self.dev[1] == "test" and (patience or args.load_best_model_at_end):
                log.warning("eval_dataset='test': its queries choose the model: figures of them are too good")
            self._progress = DevCallback(patience)
            callbacks.append(self._progress)
        self._starts_measured = args.eval_on_start
        args.eval_on_start = False  # which would measure where a resumed run begins, too
        student.to(args.device)  # whether texts are packed depends on it
        teacher, own_inputs = None, None
        if step_teacher is not None:
            read = table.collection if step_teacher.view is None else step_teacher.view.of(table.collection)
            shown = steps_of(args, len(groups)) * batch_of(args)["queries"] * (1 + group_size(sampler))
            fewer = step_teacher.of_pools or len(read.documents) + len(read.queries) < shown
            stored = fewer and "layers" not in reads_of_teacher(loss)
            teacher = step_teacher.ranker(student, args.bf16, grad_cache, stored)
            own_inputs = Preparer(teacher, read, chunk_tokens)
        super().__init__(
            model=Step(ranker, loss, teacher),
            args=args,
            train_dataset=groups,
            data_collator=GroupCollator(
                table.collection,
                Preparer(ranker, table.collection, chunk_tokens),
                own_inputs,
                in_batch="in_batch" in reads(loss),
            ),
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            **kwargs,
        )
        if processes.is_main() and not isinstance(student, Ranker):
            cut_inputs(student, table.candidates, "training pairs")  # says how many
        self.student, self.teacher_scale = student, teacher_scale
        self.add_callback(_TellEpoch(self._order))
        self.can_return_loss = True
        self.model_accepts_loss_kwargs = False
        self._sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))  # what was seen, of how many
        self._tokens, self._since = 0, perf_counter()

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """As the Trainer's; first makes the scales match, unless a checkpoint says how they did."""
        if isinstance(resume_from_checkpoint, str) and not Path(resume_from_checkpoint).is_dir():
            raise InputError(f"resume_from_checkpoint={resume_from_checkpoint!r}: there is no such folder")
        if not isinstance(self.student, Ranker):
            compare_by(self.student, self.similarity)  # what is evaluated and saved is what was trained
        try:
            teacher = self.model.teacher
            with (
                kept_memory(),
                self.model.student.training_pass(),
                nullcontext() if teacher is None else teacher.training_pass(),
            ):
                if not resume_from_checkpoint:
                    self._match_scales()
                self._sums.clear()
                self._tokens, self._since = 0, perf_counter()
                output = super().train(resume_from_checkpoint, *args, **kwargs)
                if self.args.load_best_model_at_end:
                    self._say_best()
                return output
        finally:
            self.student.eval()

    @property
    def loss(self) -> nn.Module:
        return self.model.loss

    @property
    def kept_step(self) -> int:
        """The step whose weights the student has: the best on dev where that was asked for, else the last."""
        best = self.state.best_global_step if self.args.load_best_model_at_end else None
        return best or self.state.global_step

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of one batch of ``GroupCollator``."""
        loss, student, teacher = model(**inputs, step=self.state.global_step)
        if not torch.isfinite(loss):
            ids = [
                self.train_dataset.table.collection.query_ids[row] for row in inputs["query_rows"].tolist()
            ]
            diverged = self.state.global_step or not torch.isfinite(student).all()  # in an earlier stage
            ranges = [f"{x.min():.3g} to {x.max():.3g}" for x in (student, teacher)]
            raise InputError(
                f"training stopped at step {self.state.global_step + 1}: the loss is {loss.item()}; queries "
                f"{shorten(ids)}; student scores {ranges[0]}, teacher's {ranges[1]}; "
                f"{'lower trainer.learning_rate or ' if diverged else ''}look at these scores"
            )
        if model.training and not loss.requires_grad:
            raise InputError(
                f"{type(self.loss).__name__}: its value has no gradient; it must follow the scores"
            )
        if model.training:
            self._observe(student.detach(), teacher.detach(), inputs["mask"], inputs)
        return (loss, {"scores": student}) if return_outputs else loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Adds the means over the groups (pairs, places) seen since the last time, by all processes."""
        if "loss" in logs and self._sums:
            own = ((name, weight) for name, weight in self.loss.named_parameters() if weight.requires_grad)
            logs |= {f"loss.{name}": weight.item() for name, weight in own if weight.numel() == 1}
            everyone = processes.gathered(dict(self._sums))
            for name in self._sums:
                seen, of = sum(x[name] for x in everyone)
                if of:  # positives alone have no pairs that could agree
                    logs[name] = round(float(seen / of), 4)
            tokens = sum(processes.gathered(self._tokens))
            logs["tokens_per_second"] = round(tokens / (perf_counter() - self._since))
            self._sums.clear()
            self._tokens, self._since = 0, perf_counter()
        epoch = self.state.epoch
        if self.rounds is not None:
            self.state.epoch = self.rounds.epoch(self.state.global_step)  # transformers' are rounds
        super().log(logs, *args, **kwargs)
        self.state.epoch = epoch

    def evaluate(  # type: ignore[override]  # of queries and judgments, no dataset
        self,
        eval_dataset: str | Qrels | None = None,
        ignore_keys=None,
        metric_key_prefix: str = "eval",
    ) -> dict:
        """Measures the student; logs and returns the means as ``eval_nDCG@10`` and so on."""
        begun = perf_counter()
        dev = self.dev if eval_dataset is None else dev_collection(self.train_dataset.table, eval_dataset)
        if dev is None:
            raise InputError("eval_dataset: name a split, or give judgments")
        training = self.model.training
        candidates = self.eval_candidates if eval_dataset is None else None
        student = cast(Model, self.student.eval())  # a Ranker is not measured
        means = self.evaluator.evaluate(student, *dev, candidates=candidates).mean
        self.model.train(training)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in means.items()}
        metrics[f"{metric_key_prefix}_runtime"] = round(perf_counter() - begun, 4)
        self._since += perf_counter() - begun  # of the time that training took
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _run_epoch(self, *args, **kwargs):
        """As the Trainer's; none where a resumed run had stopped already."""
        checkpoint, first = kwargs["resume_from_checkpoint"], kwargs["epoch"] == kwargs["epochs_trained"]
        if checkpoint is not None and first:
            self._take_up_sums(checkpoint)
        if self.rounds is not None and (cut := self.rounds.begin(self.state.global_step)):
            position: dict[str, Any] = {"step": self.state.global_step, "cut": cut}
            self.state.log_history.append(position)
        if self.dev is not None:
            if self._starts_measured and self.state.global_step == 0:
                self.evaluate()
            if self._progress.ran_out(self.args, self.state):
                self.control.should_training_stop = True
                return
        super()._run_epoch(*args, **kwargs)

    def _say_best(self) -> None:
        if self.state.best_model_checkpoint is None:
            log.warning("no dev measure was taken: the last step's weights are kept")
            return
        measure = str(self.args.metric_for_best_model).removeprefix("eval_")
        log.info(
            "kept: the weights of step %d, with %s %.4f on %s",
            self.state.best_global_step,
            measure,
            self.state.best_metric,
            self.dev[1] if self.dev and isinstance(self.eval_dataset, str) else "the queries held out",
        )
        key, sign = f"eval_{measure}", 1 if self.args.greater_is_better else -1
        first = next((row for row in self.state.log_history if key in row), {})
        best = cast(float, self.state.best_metric)
        if first.get("step") == 0 and sign * first[key] >= sign * best:
            log.warning(
                "no step was better than the start (%.4f), whose weights are not kept: leave this stage out, "
                "or try another trainer.learning_rate, loss or teacher",
                first[key],
            )

    def _save_checkpoint(self, model, trial) -> None:
        """As the Trainer's, with what was summed of each process since the last row of the log."""
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        with naming(folder):
            super()._save_checkpoint(model, trial)
        sums = {name: seen.tolist() for name, seen in self._sums.items()}
        own = {"since": self._globalstep_last_logged, "loss": self._tr_loss.item(), "sums": sums}
        own |= {"tokens": self._tokens, "seconds": perf_counter() - self._since}
        everyone = processes.gathered(own)
        if processes.is_main():
            write_json(folder / SUMS, everyone)

    def _take_up_sums(self, checkpoint: str) -> None:
        """The next row of the log is of the steps before ``checkpoint`` too, as without an interruption."""
        file = Path(checkpoint) / SUMS
        everyone = read_json(file, list, f"delete {checkpoint}") if file.exists() else []
        if len(everyone) == processes.count():  # else of an earlier version, or of others' batches
            own = everyone[processes.rank()]
            self._globalstep_last_logged = own["since"]
            self._tr_loss += own["loss"]
            self._total_loss_scalar -= own["loss"]  # transformers' train_loss is of the steps from here on
            self._sums.update({name: np.array(seen) for name, seen in own["sums"].items()})
            self._tokens, self._since = own["tokens"], perf_counter() - own["seconds"]

    def get_decay_parameter_names(self, model) -> list[str]:
        """As the Trainer's, without a loss's single numbers: a temperature is not to shrink."""
        single = {f"loss.{name}" for name, weight in self.loss.named_parameters() if weight.numel() == 1}
        return [name for name in super().get_decay_parameter_names(model) if name not in single]

    def create_optimizer(self, model=None):
        """As the Trainer's; ``RowAdamW`` in AdamW's place where gradients are sparse."""
        if self.optimizer is None and self.model.student.sparse:
            self.optimizer_cls_and_kwargs = (
                RowAdamW,
                {
                    "lr": self.args.learning_rate,
                    "betas": (self.args.adam_beta1, self.args.adam_beta2),
                    "eps": self.args.adam_epsilon,
                },
            )
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        """As the Trainer's; with a warm-up, of one step more and begun at its second.

        Its first step has a rate of 0, in which nothing is learnt; of a single step that is all of them.
        """
        new, warms_up = self.lr_scheduler is None, self.args.get_warmup_steps(num_training_steps) > 0
        scheduler = super().create_scheduler(num_training_steps + warms_up, optimizer)
        if new and warms_up and isinstance(scheduler, LambdaLR):
            scheduler.lr_lambdas = [partial(_a_step_later, rate) for rate in scheduler.lr_lambdas]
            for group, base, rate in zip(
                scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
            ):
                group["lr"] = base * rate(0)
            scheduler._last_lr = [group["lr"] for group in scheduler.optimizer.param_groups]
        return scheduler

    def _clip_grad_norm(self, model):
        if self.model.student.sparse:
            return clip_gradients(model.parameters(), self.args.max_grad_norm)
        return super()._clip_grad_norm(model)

    def _get_grad_norm(self, model, grad_norm=None):
        if grad_norm is None and self.model.student.sparse:
            grad_norm = clip_gradients(model.parameters(), math.inf)  # trainer.max_grad_norm=0
        return super()._get_grad_norm(model, grad_norm)

    def _get_train_sampler(self, train_dataset=None):
        return self._order

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        """As the Trainer's, which would leave weights that the checkpoint lacks as they are."""
        file = Path(resume_from_checkpoint) / "model.safetensors"
        if file.exists():
            with safe_open(file, "pt") as stored:
                own = self.model.state_dict()
                differ = set(stored.keys()) ^ set(own)
                others = (
                    "frozen" in own
                    and not differ
                    and not torch.equal(stored.get_tensor("frozen"), own["frozen"].cpu())
                )
            if differ:
                raise InputError(
                    f"{file}: weights of another model or loss ({shorten(sorted(differ))}); delete "
                    f"{resume_from_checkpoint} to train without it"
                )
            if others:
                raise InputError(
                    f"{file}: it was trained on other frozen weights than the student's; give the student "
                    f"that it began with, or delete {resume_from_checkpoint}"
                )
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _observe(self, student: Tensor, teacher: Tensor, mask: Tensor, inputs: Mapping[str, Any]) -> None:
        pairs = mask.unsqueeze(1) & mask.unsqueeze(2) & (teacher.unsqueeze(2) > teacher.unsqueeze(1))
        alike = (student.unsqueeze(2) > student.unsqueeze(1)) & pairs
        log_p = teacher.masked_fill(~mask, -1e9).log_softmax(dim=1)
        groups, places = len(mask), mask.sum()
        for name, value, of in (
            ("teacher_entropy", -(log_p.exp() * log_p).sum(), groups),
            ("teacher_std", spread(teacher, mask) * groups, groups),
            ("student_std", spread(student, mask) * groups, groups),
            ("agreement", alike.sum(), pairs.sum()),
            ("repeated_documents", places - len(inputs["document_rows"]), places),
        ):
            self._sums[name] += float(value), float(of)
        self._tokens += self.model.student.tokens(inputs["inputs"]["student"])

    @torch.no_grad()
    def _match_scales(self) -> None:
        """Sets ``teacher_factor``; logs both spreads, and warns if they stay far apart."""
        groups = self.train_dataset
        sample = Subset(groups, list(self._order)[:SPREAD_GROUPS])
        few = DataLoader(
            sample,
            batch_size=self.args.per_device_train_batch_size,
            collate_fn=self.data_collator,
        )
        model = self.model.to(self.args.device).eval()
        model.teacher_factor.fill_(1.0)
        trial = _copied(model.loss)  # the loss itself sees the steps of training alone
        spreads, sizes, moves, teachers, heeded = [], [], [], [], trial is None
        shown: list[int] = []  # documents of each group
        for batch in few:
            prepared: dict[str, Any] = self._prepare_inputs(batch)
            outputs = student, teacher, batch = model.outputs(Batch(**prepared))
            spreads.append(spreads_of(student, teacher, batch))
            sizes.append(len(batch.mask))
            shown += batch.mask.sum(dim=1).tolist()
            teachers.append(teacher.scores.masked_fill(~batch.mask, -torch.inf))
            if trial is not None:
                moves.append(_moves(model, trial, *outputs))
                heeded = heeded or _heeds_teacher(model, trial, *outputs)
        moved, count = int(torch.cat(moves).sum()) if moves else len(sample), len(sample)
        if moved < count / 2:
            message = (
                f"{type(self.loss).__name__}: of {count} groups only {moved} move the student's scores"
                + (f"; {alone} show one document alone" if (alone := shown.count(1)) else "")
                + "; a loss needs two documents in a group, a contrastive or margin loss a positive and a "
                "negative (sampler.positives, sampler.negatives; a margin of the sampler leaves some out)"
            )
            if moved == 0:
                raise InputError(message)
            log.warning("%s", message)
        student, teacher = np.average(spreads, axis=0, weights=sizes)
        unit = None
        if self.teacher_scale != "match":
            factor = float(self.teacher_scale)
        elif (unit := _unit(model)) is not None:
            factor = unit
        else:
            factor = float(student / teacher) if teacher > 0 and student > 0 else 1.0
        model.teacher_factor.fill_(factor)
        log.info(
            "spread of scores within a group: student %.3f, teacher %.3f x %.3g = %.3f",
            student,
            teacher,
            factor,
            teacher * factor,
        )
        if not heeded:
            return
        self._warn_of_one_hot(teachers, factor)
        if self.teacher_scale == "match" and factor > STRETCHED:
            log.warning(
                "the teacher's scores hardly differ within a group, and are stretched %.2g times to match "
                "the student's spread: what it knows may be noise (was it trained?)",
                factor,
            )
        if self.teacher_scale == "match" and factor < 1 / STRETCHED:
            log.warning(
                "the student's scores hardly differ within a group, and the teacher's are multiplied by %.2g "
                "to match that, which teaches little (is its scoring head new?): give teacher_scale=1",
                factor,
            )
        if self.similarity is None or unit is not None:  # a scoring head learns any scale
            return
        ratio = teacher * factor / student if student > 0 else np.inf
        if not 1 / FAR_APART <= ratio <= FAR_APART:
            log.warning(
                "the teacher's scores spread %.2g times as far as the student's: a listwise or margin loss "
                "will first of all rescale the student; %s",
                ratio,
                "teacher_scale=match avoids that"
                if self.teacher_scale != "match"
                else "no scale changes that: within a group "
                f"{'the teacher' if student > 0 else 'the student'} scores all documents alike",
            )

    def _warn_of_one_hot(self, teachers: Sequence[Tensor], factor: float) -> None:
        """Of a temperature that makes the teacher's distribution one document; scores (B, G) a batch."""
        for part in self.loss.modules():
            temperature = getattr(part, "teacher_temperature", None)
            if not isinstance(temperature, (int, float)):
                continue
            several = [x[(x > -torch.inf).sum(dim=1) > 1] * (factor / temperature) for x in teachers]
            highest = torch.cat([x.softmax(dim=1).amax(dim=1) for x in several])
            share = (highest > ONE_HOT).float().mean().item() if len(highest) else 0.0
            if share >= 0.5:
                log.warning(
                    "%s: at teacher_temperature=%g one document has more than %g of the teacher's "
                    "distribution in %.0f %% of the groups of several, which then says no more than a label; "
                    "raise it",
                    type(part).__name__,
                    temperature,
                    ONE_HOT,
                    100 * share,
                )


def _unit(step: Step) -> float | None:
    """What makes the scores of a teacher in the step the student's, if both are multiples of a cosine."""
    student, teacher = step.student, step.teacher
    if not (isinstance(student, Encoder) and isinstance(teacher, Encoder)):
        return None
    return student.scale / teacher.scale if student.cosine and teacher.cosine else None


def _copied(loss: nn.Module) -> nn.Module | None:
    try:
        return copy.deepcopy(loss)
    except Exception as error:  # of whatever a loss of one's own may hold: a lock, a tensor with a gradient
        log.debug("%s cannot be copied, and is not tried before training: %s", type(loss).__name__, error)
        return None


def _moves(step: Step, loss: nn.Module, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
    """bool (B,): whether ``loss`` has a gradient on a query's scores (True if it doesn't read them)."""
    with torch.enable_grad():
        scores = {
            name: x.detach().requires_grad_()
            for name in ("scores", "in_batch")
            if (x := getattr(student, name)) is not None
        }
        others: dict[str, Any] = {
            name: _with_gradient(getattr(student, name)) for name in ("queries", "documents")
        }
        value = step.compare(replace(student, **scores, **others), teacher, batch, loss)
        if not value.requires_grad:
            return torch.zeros(len(batch.mask), dtype=torch.bool)
        gradients = torch.autograd.grad(value, list(scores.values()), allow_unused=True)
    moved = [gradient.any(dim=1).cpu() for gradient in gradients if gradient is not None]
    return torch.stack(moved).any(dim=0) if moved else torch.ones(len(batch.mask), dtype=torch.bool)


def _with_gradient(embeddings: Embeddings | None) -> Embeddings | None:
    """The same numbers, of which a loss's value has a gradient."""
    if embeddings is None:
        return None
    vectors, *layers = (x.detach().requires_grad_() for x in (embeddings.vectors, *embeddings.layers))
    return replace(embeddings, vectors=vectors, layers=tuple(layers))


@torch.no_grad()
def _heeds_teacher(step: Step, loss: nn.Module, student: Outputs, teacher: Outputs, batch: Batch) -> bool:
    """Whether ``loss`` has another value where the teacher's scores are others."""
    others = torch.arange(teacher.scores.shape[1]).to(teacher.scores).expand_as(teacher.scores).clone()
    values = [step.compare(student, x, batch, loss) for x in (teacher, replace(teacher, scores=others))]
    return not torch.equal(*values)


def spreads_of(student: Outputs, teacher: Outputs, batch: Batch) -> list[float]:
    """``spread`` of both within the groups or, where none shows two documents, over the batch's.

    Of these the ones that may serve as negatives and whose teacher's score is known count.
    """
    if batch.mask.shape[1] > 1 or batch.negatives is None or teacher.in_batch is None:
        return [spread(x.scores, batch.mask).item() for x in (student, teacher)]
    known = batch.negatives & ~teacher.in_batch.isnan()
    pairs = [joined(x.scores, batch.mask, x.in_batch, known) for x in (student, teacher)]
    return [spread(scores, mask).item() for scores, mask in pairs]


def spread(scores: Tensor, mask: Tensor) -> Tensor:
    """Mean over the groups of the standard deviation of the scores (B, G) where ``mask``; a scalar."""
    count = mask.sum(dim=1).clamp(min=1)
    mean = (scores * mask).sum(dim=1) / count
    variance = (((scores - mean.unsqueeze(1)) * mask).square().sum(dim=1)) / count
    return variance.sqrt().mean()
