"""Every field of transformers' TrainingArguments works, or is refused before anything else is done."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from rankdistill.candidates import Random
from rankdistill.errors import InputError, check_seed
from rankdistill.evaluation import Evaluator
from rankdistill.losses import KLDivergence
from rankdistill.samplers import RandomSampler
from rankdistill.students import load_student
from rankdistill.training import DistillationTrainer, training_arguments
from rankdistill.training.arguments import batch_in_words, batch_of

# one training a line, of 16 groups: fields, steps, and what shows their effect (or nothing but the steps)
WORKING = {
    "sizes": (
        {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "num_train_epochs": 2},
        6,
        lambda t: t.args.train_batch_size == 3,
    ),
    "max_steps": ({"max_steps": 2}, 2, None),
    "rate": (
        {"learning_rate": 0.5, "warmup_steps": 0, "lr_scheduler_type": "polynomial", "weight_decay": 0.1}
        | {"lr_scheduler_kwargs": {"power": 2.0, "lr_end": 0.1}, "logging_steps": 1, "max_steps": 2}
        | {"per_device_train_batch_size": 16},
        2,
        lambda t: [row["learning_rate"] for row in t.state.log_history[:2]] == pytest.approx([0.5, 0.2]),
    ),
    "optimiser": (
        {"optim": "adamw_torch", "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-6},
        4,
        lambda t: (
            t.optimizer.defaults["betas"] == (0.8, 0.9)
            and t.optimizer.defaults["eps"] == 1e-6
            and not t.optimizer.defaults["fused"]
        ),
    ),
    "optim_args": (
        {"optim": "rmsprop", "optim_args": "momentum=0.5"},
        4,
        lambda t: t.optimizer.defaults["momentum"],
    ),
    "clipping": (
        {"max_grad_norm": 0.0, "bf16": True, "use_cpu": True},
        4,
        lambda t: t.model.student.bf16 and t.args.device.type == "cpu",
    ),
    "log": (
        {"logging_strategy": "steps", "logging_steps": 3, "logging_first_step": True, "disable_tqdm": True}
        | {"logging_nan_inf_filter": False, "log_on_each_node": False, "log_level": "error"}
        | {"log_level_replica": "error", "report_to": "none", "run_name": "a", "project": "b"}
        | {"trackio_space_id": None, "trackio_bucket_id": None, "trackio_static_space_id": None},
        4,
        lambda t: (
            [row["step"] for row in t.state.log_history] == [1, 3, 4]
            and any(isinstance(c, PrinterCallback) for c in t.callback_handler.callbacks)
        ),
    ),
    "bar": (
        {"disable_tqdm": False},
        4,
        lambda t: any(isinstance(c, ProgressCallback) for c in t.callback_handler.callbacks),
    ),
    "saving": (
        {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 2, "save_on_each_node": True}
        | {"restore_callback_states_from_checkpoint": True, "output_dir": None},
        4,
        lambda t: sorted(p.name for p in t.folder.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"],
    ),
    "evaluation": (
        {"eval_strategy": "steps", "eval_steps": 2, "eval_delay": 3, "eval_on_start": True, "do_eval": True}
        | {"load_best_model_at_end": True, "metric_for_best_model": "RR@10", "greater_is_better": True},
        4,
        lambda t: (
            [row["step"] for row in t.state.log_history if "eval_RR@10" in row] == [0, 4]
            and t.state.best_global_step == 4
        ),
    ),
    "seed": ({"seed": 2**32 - 1}, 4, lambda t: t.train_dataset.seed == 2**32 - 1),
    "loader": (
        {"dataloader_num_workers": 1, "dataloader_persistent_workers": True, "dataloader_prefetch_factor": 2}
        | {"dataloader_multiprocessing_context": "fork", "dataloader_in_order": True, "max_steps": 1}
        | {"dataloader_pin_memory": False},
        1,
        lambda t: t.get_train_dataloader().num_workers == 1,
    ),
    "drop_last": ({"dataloader_drop_last": True, "per_device_train_batch_size": 5}, 3, None),
    "of several processes": (
        {"ddp_find_unused_parameters": True, "ddp_bucket_cap_mb": 25, "ddp_broadcast_buffers": True}
        | {"ddp_static_graph": False, "ddp_backend": None, "ddp_timeout": 60, "local_rank": -1},
        4,
        None,
    ),
    "harmless": (
        {
            "average_tokens_across_devices": False,
            "remove_unused_columns": True,
            "do_train": True,
            "tf32": False,
        }
        | {"torch_empty_cache_steps": 2, "skip_memory_metrics": True},
        4,
        None,
    ),
    "deterministic": ({"full_determinism": True}, 4, lambda t: torch.are_deterministic_algorithms_enabled()),
}
REFUSED = {
    "fp16": (True, "bf16=true or in float32"),
    "bf16_full_eval": (True, "evaluation is in bf16"),
    "fp16_full_eval": (True, "evaluation is in bf16"),
    "activation_checkpointing": (True, "scores.grad_cache=true"),
    "activation_checkpointing_kwargs": ({"use_reentrant": False}, "scores.grad_cache=true"),
    "gradient_checkpointing": (True, "scores.grad_cache=true"),
    "gradient_checkpointing_kwargs": ({"use_reentrant": False}, "scores.grad_cache=true"),
    "auto_find_batch_size": (True, "scores.grad_cache=true"),
    "torch_compile": (True, "shapes differ"),
    "torch_compile_backend": ("inductor", "shapes differ"),
    "torch_compile_mode": ("default", "shapes differ"),
    "use_liger_kernel": (True, "language models"),
    "liger_kernel_config": ({"rope": True}, "language models"),
    "use_cache": (True, "nothing is generated"),
    "neftune_noise_alpha": (5.0, "student.dropout"),
    "label_smoothing_factor": (0.1, "no column of labels"),
    "label_names": (["labels"], "no column of labels"),
    "length_column_name": ("words", "drawn from seed"),
    "train_sampling_strategy": ("group_by_length", "drawn from seed"),
    "data_seed": (3, "drawn from seed"),
    "include_num_input_tokens_seen": (True, "tokens_per_second"),
    "optim_target_modules": ("all-linear", "student.lora"),
    "debug": ("underflow_overflow", "named with its queries"),
    "per_device_eval_batch_size": (16, "measured by the evaluator"),
    "prediction_loss_only": (True, "measured by the evaluator"),
    "eval_do_concat_batches": (False, "measured by the evaluator"),
    "eval_use_gather_object": (True, "measured by the evaluator"),
    "eval_accumulation_steps": (2, "measured by the evaluator"),
    "include_for_metrics": (["inputs"], "measured by the evaluator"),
    "batch_eval_metrics": (True, "measured by the evaluator"),
    "do_predict": (True, "after training"),
    "save_only_model": (True, "optimizer's state"),
    "enable_jit_checkpoint": (True, "save_steps"),
    "ignore_data_skip": (True, "other groups"),
    "resume_from_checkpoint": ("x", "hydra.run.dir resumes"),
    "push_to_hub": (True, "folder model"),
    "hub_model_id": ("me/model", "folder model"),
    "hub_token": ("secret", "folder model"),
    "hub_private_repo": (True, "folder model"),
    "hub_strategy": ("end", "folder model"),
    "hub_always_push": (True, "folder model"),
    "hub_revision": ("main", "folder model"),
    "fsdp": ("full_shard", "on one device"),
    "fsdp_config": ({"xla": False, "version": 2}, "on one device"),
    "deepspeed": ("zero3.json", "on one device"),
    "parallelism_config": (object(), "on one device"),
    "warmup_ratio": (0.1, "trainer.warmup_steps takes a share"),
    "logging_dir": ("logs", "TENSORBOARD_LOGGING_DIR"),
    "accelerator_config": ({"split_batches": True}, "as the groups need it"),
}


def test_every_field_of_the_installed_transformers_is_in_one_of_the_lists():
    """A new one is to be tried, and to be put where it belongs."""
    working = {name for fields, _, _ in WORKING.values() for name in fields}
    assert not working & set(REFUSED)
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert fields - working - set(REFUSED) == set(), "fields that nobody has tried"


@pytest.mark.parametrize(("fields", "steps", "seen"), WORKING.values(), ids=WORKING)
def test_a_field_that_works_has_its_effect(student_folder, table, tmp_path, fields, steps, seen):
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    given = {name: value for name, value in fields.items() if name in known and name != "output_dir"}
    defaults = {"per_device_train_batch_size": 4, "bf16": False, "disable_tqdm": True}
    more = {"eval_dataset": "test"} if "eval_strategy" in given else {}
    arguments = training_arguments(str(tmp_path / "made"), **(defaults | given))
    determinism = torch.are_deterministic_algorithms_enabled()
    try:
        trainer = DistillationTrainer(
            load_student(student_folder), table, RandomSampler(1, 3), KLDivergence(), arguments, **more
        )
        trainer.folder = tmp_path / "made"
        trainer.train()
        assert trainer.state.global_step == steps
        assert seen is None or seen(trainer)
    finally:
        torch.use_deterministic_algorithms(determinism)


@pytest.mark.parametrize("bf16", [False, True])
def test_where_no_gpu_is_use_cpu_false_trains_on_the_cpu_and_says_so(bf16, tmp_path, monkeypatch, caplog):
    """Of bf16, transformers said that use_cpu has to be set; of float32, nothing was said."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    arguments = training_arguments(str(tmp_path), use_cpu=False, bf16=bf16)
    assert arguments.device.type == "cpu" and arguments.bf16 == bf16
    assert caplog.messages == ["trainer.use_cpu=false: there is no GPU here; it trains on the CPU"]


@pytest.mark.parametrize("field", REFUSED)
def test_a_field_without_use_is_refused_in_one_line(student_folder, table, tmp_path, field):
    """As a keyword, and in arguments that were made without this library, where they can be."""
    if field not in {known.name for known in dataclasses.fields(TrainingArguments)}:
        pytest.skip("this version of transformers has no such field")
    value, message = REFUSED[field]
    with pytest.raises(InputError, match=message) as caught:
        training_arguments(str(tmp_path), **{field: value})
    assert str(caught.value).startswith(f"trainer.{field}: ") and "\n" not in str(caught.value)
    try:
        arguments = TrainingArguments(str(tmp_path), use_cpu=True, **{field: value})
    except Exception:
        return  # transformers' own refusal
    student = load_student(student_folder, device="cpu")
    with pytest.raises(InputError, match=message):
        DistillationTrainer(student, table, RandomSampler(1, 3), KLDivergence(), arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adam_beta1": 1.0}, "trainer.adam_beta1=1.0: it must be below 1"),
        ({"adam_beta2": -0.1}, "trainer.adam_beta2=-0.1: it must be 0 or more"),
        ({"adam_epsilon": -1e-8}, "trainer.adam_epsilon=-1e-08: it must be 0 or more"),
        ({"weight_decay": -1}, "trainer.weight_decay=-1: it must be 0 or more"),
        ({"max_grad_norm": -1}, "trainer.max_grad_norm=-1: it must be 0 or more"),
        ({"learning_rate": float("inf")}, "trainer.learning_rate=inf: it must be 0 or more"),
        ({"learning_rate": float("nan")}, "trainer.learning_rate=nan: it must be a number"),
        ({"learning_rate": "1e-3"}, "trainer.learning_rate='1e-3': it must be a number"),
        ({"learning_rate": True}, "trainer.learning_rate=True: it must be a number"),
        ({"per_device_train_batch_size": 2.5}, "train_batch_size=2.5: it must be an integer"),
        ({"save_steps": float("inf")}, "trainer.save_steps=inf: it must be 0 or more"),
        ({"logging_steps": float("nan")}, "trainer.logging_steps=nan: it must be a number"),
        ({"max_steps": 0}, "trainer.max_steps=0: it must be 1 or more"),
        ({"save_total_limit": 0}, "trainer.save_total_limit=0: it must be 1 or more"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"logging_steps": 0}, "logging_steps"),
        ({"seed": 2**32}, "trainer.seed=4294967296: it must be an integer, 0 or more and below"),
        ({"seed": -1}, "trainer.seed=-1"),
        (
            {"lr_scheduler_type": "nonsense"},
            "trainer.lr_scheduler_type='nonsense': it must be one of linear, cosine",
        ),
        ({"lr_scheduler_type": None}, "trainer.lr_scheduler_type=None: it must be one of"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "lr_scheduler_type=cosine_with_min_lr: .*min_lr"),
        ({"lr_scheduler_kwargs": {"nonsense": 1}}, "trainer.lr_scheduler_kwargs=.*nonsense"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "requires an eval strategy"),
        ({"optim": "nonsense"}, "nonsense is not a valid OptimizerNames"),
        ({"optim": "adamw_8bit"}, "trainer.optim=adamw_8bit: .*bitsandbytes"),
        ({"optim": "galore_adamw"}, "trainer.optim=galore_adamw: not used"),
        (
            {"optim_args": "momentum=0.5"},
            "trainer.optim_args=momentum=0.5: optim=adamw_torch_fused takes none",
        ),
        ({"report_to": "nonsense"}, "nonsense is not supported"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor"),
        ({"dataloader_persistent_workers": True}, "trainer.dataloader.*num_workers"),
        ({"log_level": "loud"}, "trainer.log_level=loud"),
        ({"load_best_model_at_end": True}, "trainer.load_best_model_at_end: nothing is measured"),
        ({"save_strategy": "best"}, "trainer.save_strategy: nothing is measured"),
        ({"eval_on_start": True}, "trainer.eval_on_start: nothing is measured"),
        ({"metric_for_best_model": "nDCG@10"}, "trainer.metric_for_best_model: nothing is measured"),
        ({"warmup_ratio_": 0.1}, "warmup_ratio_"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_a_value_that_would_fail_later_is_named_now(tmp_path, fields, message):
    with pytest.raises(InputError, match=message) as caught:
        training_arguments(str(tmp_path), **fields)
    assert "\n" not in str(caught.value)


def test_trackers_that_are_not_installed_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    with pytest.raises(InputError, match="trainer.report_to=.*wandb to be installed"):
        training_arguments(str(tmp_path), report_to="wandb")
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: [])
    with pytest.raises(InputError, match="trainer.report_to=all: no tracker is installed"):
        training_arguments(str(tmp_path), report_to="all")


def test_numbers_of_numpy_are_numbers(tmp_path):
    arguments = training_arguments(str(tmp_path), learning_rate=np.float32(0.5), max_steps=np.int64(3))
    assert arguments.learning_rate == 0.5 and arguments.max_steps == 3


def test_fewer_groups_than_a_batch_are_not_all_dropped(table, student_folder, tmp_path):
    arguments = training_arguments(str(tmp_path), per_device_train_batch_size=32, dataloader_drop_last=True)
    with pytest.raises(InputError, match="trainer.dataloader_drop_last: 16 groups do not fill a batch of 32"):
        DistillationTrainer(
            load_student(student_folder), table, RandomSampler(1, 3), KLDivergence(), arguments
        )


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True])
@pytest.mark.parametrize(
    "make", [check_seed, lambda seed: Random(seed=seed), lambda seed: Evaluator(seed=seed)]
)
def test_a_seed_that_some_generator_refuses_is_named_everywhere(make, seed):
    with pytest.raises(InputError, match=f"seed={seed}: it must be an integer"):
        make(seed)


def test_a_beta_may_be_an_integer():
    """Which torch does not take."""
    assert type(training_arguments("x", adam_beta2=0, use_cpu=True).adam_beta2) is float


@pytest.mark.parametrize(
    ("processes", "accumulated", "each", "words"),
    [
        (1, 1, 16, "16 queries"),
        (2, 1, 5, "10 queries (2 processes x 5)"),
        (1, 4, 300, "1,200 queries (4 accumulated x 300)"),
        (2, 3, 4, "24 queries (2 processes x 3 accumulated x 4)"),
        (1, 1, 1, "1 query"),
    ],
)
def test_a_batch_is_of_all_processes_and_parts(processes, accumulated, each, words, tmp_path):
    class Several(TrainingArguments):
        world_size = processes

    fields = {"gradient_accumulation_steps": accumulated, "per_device_train_batch_size": each}
    batch = batch_of(training_arguments(str(tmp_path), Several, **fields))
    assert batch["queries"] == processes * accumulated * each
    assert batch_in_words(batch) == words
