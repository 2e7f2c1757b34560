"""Where the time of a training step goes: by part of the step, and by the operations that take most.

    python scripts/profile_step.py --data my_collection --max-length 512 --batch 16

Parts are timed on their own thread, without the profiler; the operations come from a second run with it.
"""

import argparse
import logging
import tempfile
from collections import defaultdict
from time import perf_counter

import torch
from bench import collection_of, minilm, table_of
from torch.profiler import ProfilerActivity, profile

import rankdistill as rd
from rankdistill.students.fast.packing import tokens_in

UNMEASURED = 3  # steps until every shape has been seen


def timed(owner, name: str, spent: dict[str, float], label: str) -> None:
    """Replaces ``owner.name`` by a function that adds its seconds to ``spent[label]``."""
    function = getattr(owner, name)

    def measured(*args, **kwargs):
        start = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            spent[label] += perf_counter() - start

    setattr(owner, name, measured)


class Parts(rd.DistillationTrainer):
    """Counts the seconds of the step's parts from step ``UNMEASURED`` on."""

    spent: dict[str, float]
    tokens = 0

    def training_step(self, *args, **kwargs):
        if self.state.global_step == UNMEASURED:
            self.spent.clear()
            self.tokens, self.since = 0, perf_counter()
        return super().training_step(*args, **kwargs)

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.tokens += sum(tokens_in(part) for part in (inputs["queries"], *inputs["documents"]))
        return super().compute_loss(model, inputs, *args, **kwargs)

    def create_optimizer(self):
        optimizer = super().create_optimizer()
        timed(optimizer, "step", self.spent, "optimiser")
        return optimizer


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="python_functions", help="or a folder in BEIR layout")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4, help="queries, each with 8 documents")
    parser.add_argument("--steps", type=int, default=16)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    collection = collection_of(given.data)
    table = table_of(collection, given.batch * (given.steps + UNMEASURED))
    steps = given.steps + UNMEASURED

    def trainer_of(kind, folder):
        return kind(
            minilm(given.max_length),
            table,
            rd.StratifiedSampler(),
            rd.KLDivergence(),
            rd.training_arguments(
                folder, per_device_train_batch_size=given.batch, max_steps=steps, disable_tqdm=True
            ),
            teacher_scale=1.0,
        )

    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(Parts, folder)
        trainer.spent = spent = defaultdict(float)
        timed(trainer, "data_collator", spent, "collate")
        timed(trainer.model, "forward", spent, "forward")
        timed(trainer, "_compare", spent, "loss")
        timed(trainer.accelerator, "backward", spent, "backward")
        timed(trainer, "_clip_grad_norm", spent, "clip")
        timed(trainer, "_observe", spent, "observe")
        trainer.train()
        whole = perf_counter() - trainer.since
        spent["rest"] = whole - sum(spent.values())
        print(
            f"\n{collection.name}, {given.batch} x 8 documents, at most {given.max_length} tokens, ", end=""
        )
        print(f"{torch.get_num_threads()} threads, {given.steps} steps\n")
        print("| part | ms a step | share |\n|---|---|---|")
        for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
            print(f"| {name} | {1000 * seconds / given.steps:.1f} | {seconds / whole:.1%} |")
        print(f"| all | {1000 * whole / given.steps:.1f} | {trainer.tokens / whole:,.0f} tokens/s |\n")

        gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        with profile(activities=[ProfilerActivity.CPU, *gpu]) as found:
            trainer_of(rd.DistillationTrainer, folder).train()
        print(
            found.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=40)
        )


if __name__ == "__main__":
    main()
