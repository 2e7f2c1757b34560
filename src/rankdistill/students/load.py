"""Loading a student, making it smaller, adapting it."""

import dataclasses
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Module
from tokenizers import Tokenizer
from torch import nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rankdistill.errors import InputError, check_counts, shorten
from rankdistill.runtime.cache import fingerprint
from rankdistill.runtime.checked import checked
from rankdistill.runtime.reach import asking_hub
from rankdistill.students.fast.tokens import tokenizer_rules
from rankdistill.students.kinds import check_fit, check_kind, check_reads, check_tokenizer, kind_of, refusal
from rankdistill.students.lengths import check_prompt, limit_length
from rankdistill.students.matryoshka import cut_to
from rankdistill.students.prompts import prompt_of, warn_of_unused
from rankdistill.students.settings import check_settings, check_tokenizers
from rankdistill.students.sides import encoders, sides, transformer_of
from rankdistill.students.there import ModelName, cannot_be_loaded, name_of, place_of
from rankdistill.students.weights import check_floats, check_not_zero

log = logging.getLogger(__name__)
NUMBERED = r"\.\d"  # what follows a list's name, as in layer.0
STUDENTS = {kind.__name__: kind for kind in (SentenceTransformer, SparseEncoder, MultiVectorEncoder)}
ASIDE = {"transformers_version", "architectures", "dtype", "torch_dtype", "use_cache"}  # scores stay the same


@checked
def load_student(
    model: ModelName | os.PathLike[str] = "minilm",
    layers: int | None = None,
    max_length: int | None = 256,
    dropout: float | None = 0.0,
    prompts: dict[str, str] | None = None,
    lora: dict[str, Any] | None = None,
    dimensions: Sequence[int] = (),
    device: str | torch.device | None = None,
    trust_remote_code: bool = False,
) -> BaseModel:
    """A sentence-transformers model: a folder, a hub name, or ``minilm`` (all-MiniLM-L6-v2).

    ``layers`` keeps the first that many; ``max_length`` is in tokens, at most those that
    the model itself is set to (its ``max_seq_length``) and has positions for; ``dropout`` replaces every
    dropout probability of the model, None keeps them (on a CPU they double the time of a step);
    ``prompts`` has the keys ``query`` and ``document``, None keeps the model's own; ``lora`` holds
    fields of ``peft.LoraConfig`` (every linear layer unless ``target_modules`` says otherwise).
    A plain transformer gets masked mean pooling; a PEFT adapter is merged into its model.
    ``dimensions`` are what its vectors are cut to in training and measures as well (Matryoshka): the loss is
    the mean over these. What a folder holds decides its class (``STUDENTS``).

    A model without a transformer (static embeddings) is loaded too; ``layers``, ``dropout`` and ``lora``
    don't apply to it. So is one with an encoder of its own for queries and for documents (Router);
    ``layers`` and ``lora`` don't apply to it.

    Raises ``InputError`` if the model can't be had, is of another kind, isn't in safetensors, or has fewer
    layers, or if ``max_length`` or a prompt leaves no word of a text.
    """
    model = name_of(model)
    check_counts(max_length=max_length)
    if set(prompts or {}) - {"query", "document"}:
        raise InputError(f"prompts={prompts}: its keys are query and document")
    for kind, prompt in (prompts or {}).items():
        if not isinstance(prompt, str):
            raise InputError(f"student.prompts.{kind}={prompt!r}: it must be a text; leave it out for none")
    student = load_weights(
        class_of(model), model, device=device, prompts=prompts, trust_remote_code=trust_remote_code
    )
    if prompts is None:
        warn_of_unused(student, model)
    for side in encoders(student):
        limit_length(side, max_length, model)
    if dimensions and isinstance(student, SparseEncoder):
        raise InputError(
            f"student.dimensions: {model} is sparse, and its first dimensions are words like others"
        )
    if dimensions and isinstance(student, MultiVectorEncoder):
        raise InputError(f"student.dimensions: {model} is of late interaction, and its vectors are not cut")
    cut_to(student, dimensions)
    for kind, side in sides(student).items():
        check_prompt(side, prompt_of(side, kind), f"student.prompts.{kind}")
    if len(encoders(student)) > 1:
        if layers is not None or lora is not None:
            raise InputError(f"student.layers, student.lora: {model} has two encoders (Router), and not one")
        for side in encoders(student):
            if dropout is not None and side.transformers_model is not None:
                set_dropout(side.transformers_model, dropout)
        return student
    if student.transformers_model is None:
        if layers is not None or lora is not None:
            raise InputError(f"student.layers, student.lora: {model} has no transformer that they apply to")
        return student
    if layers is not None:
        keep_layers(student.transformers_model, layers)
    if dropout is not None:
        set_dropout(student.transformers_model, dropout)
    if lora is not None:
        add_lora(student, lora)
    return student


def add_lora(model: BaseModel, lora: Mapping[str, Any], head: nn.Module | None = None) -> None:
    """Freezes all of ``model``, but for ``head``, and adds an adapter that is trained, until it is merged.

    ``lora`` are fields of ``peft.LoraConfig`` (Hu et al. 2021, arXiv 2106.09685). Raises ``InputError`` for
    one that it lacks.
    """
    from peft import LoraConfig

    known = [field.name for field in dataclasses.fields(LoraConfig)]
    if unknown := [name for name in lora if name not in known]:
        raise InputError(f"lora.{unknown[0]}: no such field of peft.LoraConfig; r, lora_alpha, ... are")
    model.add_adapter(LoraConfig(**{"target_modules": "all-linear", **lora}))
    if head is not None:
        head.requires_grad_(True)
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    trained, whole = sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
    log.info("LoRA: %s of %s parameters train", f"{trained:,}", f"{whole:,}")


def check_class(model: str | os.PathLike[str], *wanted: type) -> None:
    """Raises ``InputError`` unless one of the ``wanted`` classes, the first above all, loads ``model``."""
    if (kind := class_of(model)) not in wanted:
        raise refusal(name_of(model), kind.__name__, wanted[0].__name__)


def class_of(model: str | os.PathLike[str]) -> type:
    """Which of ``STUDENTS`` loads ``model``; the first for what is none of them."""
    name = place_of(name_of(model))
    with nullcontext() if not name or Path(name).is_dir() else asking_hub():
        try:
            kind = kind_of(name, fetch=True) if name else ""
        except (OSError, ValueError, RuntimeError):  # which loading it will say
            kind = ""
    return STUDENTS.get(kind, SentenceTransformer)


def load_weights(
    kind: type, model: str | os.PathLike[str], others: tuple[str, ...] = (), vectors: bool = False, **options
):
    """``kind(model)`` in float32, from safetensors only, with one clear line if that fails.

    It must be a model of this kind, or of the ``others``: sentence-transformers would make one of any. It
    reads texts, or ``vectors``: such as ``vectors_student`` saves.
    """
    model = name_of(model)
    name = place_of(model)
    local, wanted = Path(name).is_dir(), (kind.__name__, *others)
    if not local:
        log.info("%s: no such folder, looking on the model hub and among what came from there before", name)
    try:
        if local:
            check_settings(Path(name))
            check_floats(Path(name))
            check_kind(name, model, wanted)
        with nullcontext() if local else asking_hub(), weights_apart(quiet=bool(others)) as (missing, unused):
            loaded = kind(name, model_kwargs={"use_safetensors": True, "dtype": torch.float32}, **options)
            if not local:
                check_kind(name, model, wanted)
        if missing:
            raise InputError(
                f"model {model!r} lacks weights that its config.json names ({shorten(missing)}), and "
                "random ones would be in their place; get the files again"
            )
        if dropped := [name for name in unused if _is_of_a_list(name, loaded)]:
            raise InputError(
                f"model {model!r} has weights that its config.json does not name ({shorten(dropped)}), "
                "and they would be dropped; get the files again"
            )
        if damaged := [name for name, weight in loaded.named_parameters() if weight.isnan().any()]:
            raise InputError(
                f"model {model!r}: its weights are damaged ({shorten(damaged, 1)} has nan); get the files "
                "again"
            )
        check_reads(loaded, model, vectors)
        if not vectors:
            check_not_zero(loaded, model)
            merge_loaded_adapter(loaded, model)
            check_tokenizer(loaded, model)
            if kind is SentenceTransformer:
                check_fit(loaded, model)
        return loaded
    except InputError:
        raise
    except Exception as error:  # of whatever reads a file of a model: each library has its own
        if local:
            check_tokenizers(Path(name))
        reason = " ".join((str(error) or type(error).__name__).split())[:300]
        if isinstance(error, KeyError) and error.args == ("sentence_embedding",):
            reason = "it has no pooling, and gives no vector of a text (modules.json)"
        if "Unrecognized processing class" in reason:
            reason = "its tokenizer's files are missing (tokenizer.json, tokenizer_config.json)"
        if "ignore_mismatched_sizes" in str(error):
            reason = "weights have other sizes than its config.json says"
            if "num_labels" in options:
                reason += ", or its scoring head has several labels, and a teacher's has one"
        if absent := [folder for folder in module_folders(name) if not (Path(name) / folder).is_dir()]:
            reason = f"it names a folder {absent[0]} in modules.json, which is missing"
        if (Path(name) / "adapter_config.json").exists() and not (Path(name) / "config.json").exists():
            reason += "; it is a PEFT adapter alone, which PeftModel.merge_and_unload makes a whole model of"
        raise cannot_be_loaded(model, reason) from None


@contextmanager
def weights_apart(quiet: bool = False) -> Iterator[tuple[list[str], list[str]]]:
    """Names of weights in no file of a model that is loaded in here, and of those in a file that it lacks.

    Of the encoder the former, of numbered layers the latter. transformers makes random ones in place of the
    former; it is asked which, whatever its log shows. A new head, and a pooler that nobody uses, are none of
    these. Its table of them is shown unless an error says the same, or a head is new and ``quiet``.
    """
    missing: list[str] = []
    unused: list[str] = []
    held: list[logging.LogRecord] = []
    models: Any = PreTrainedModel
    whole = vars(models)["from_pretrained"]

    def asked(kind: type, *given, **options):
        return whole.__get__(None, kind)(*given, output_loading_info=True, **options)

    def loaded(kind: type, *given, output_loading_info: bool = False, **options):
        model, info = asked(kind, *given, **options)
        absent = set(info["missing_keys"])
        if adapters := getattr(model, "peft_config", None):  # what was told is of the adapter alone
            base, options = next(iter(adapters.values())).base_model_name_or_path, dict(options)
            options["adapter_kwargs"] = None
            absent |= set(asked(kind, base, *given[1:], **options)[1]["missing_keys"])
        lost = sorted(name for name in absent if _is_of_the_encoder(name, model))
        missing.extend(lost)
        unused.extend(sorted(name for name in info["unexpected_keys"] if re.search(NUMBERED, name)))
        if lost or (quiet and absent):
            held.clear()
        return (model, info) if output_loading_info else model

    def hold(record: logging.LogRecord) -> bool:
        table = "LOAD REPORT" in record.getMessage()
        if table:
            held.append(record)
        return not table

    reports = logging.getLogger("transformers.modeling_utils")
    reports.addFilter(hold)
    models.from_pretrained = classmethod(loaded)
    try:
        yield missing, unused
    except BaseException:
        held.clear()  # the error says it
        raise
    finally:
        models.from_pretrained = whole
        reports.removeFilter(hold)
        for record in held:
            reports.handle(record)


def _is_of_the_encoder(name: str, model: PreTrainedModel) -> bool:
    """Whether the weight ``name`` of ``model`` is of what makes token states, not of a head or a pooler."""
    base = model.base_model is model or name.startswith(f"{model.base_model_prefix}.")
    return bool(re.search(NUMBERED + "|embed", name)) or (base and "pooler" not in name)


def _is_of_a_list(name: str, model: nn.Module) -> bool:
    """Whether ``model`` has the list of layers that the weight ``name`` of a layer would be in."""
    layers = ".".join(re.split(NUMBERED, name)[0].split(".")[-2:])
    return any(f".{layers}." in f".{known}" for known, _ in model.named_parameters())


def module_folders(name: str) -> list[str]:
    """The folders that modules.json of the folder ``name`` lists and that hold files."""
    try:
        modules = json.loads((Path(name) / "modules.json").read_text(encoding="utf-8"))
        return [m["path"] for m in modules if m["path"] and not m["type"].endswith("Normalize")]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def keep_layers(model: PreTrainedModel, layers: int) -> None:
    """Drops all but the first ``layers`` transformer layers of ``model``, in place."""
    depth = model.config.num_hidden_layers
    if not 1 <= layers <= depth:
        raise InputError(f"student.layers={layers}: the model has {depth} layers")
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == depth:
                setattr(module, name, child[:layers])
    for name, value in model.config.to_dict().items():
        if isinstance(value, list) and len(value) == depth:  # such as layer_types; else it can't be saved
            setattr(model.config, name, value[:layers])
    model.config.num_hidden_layers = layers


def set_dropout(model: PreTrainedModel, dropout: float) -> None:
    """Sets every dropout probability of ``model``, in its configuration and in its layers.

    Raises ``InputError`` unless it is 0 or more and below 1.
    """
    if not 0 <= dropout < 1:
        raise InputError(f"dropout={dropout}: it must be 0 or more and below 1")
    for name in [
        name for name in model.config.to_dict() if name.endswith(("dropout", "dropout_prob", "dropout_p"))
    ]:
        if isinstance(getattr(model.config, name), (int, float)):
            setattr(model.config, name, dropout)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        for name in ("dropout_prob", "attention_dropout"):  # attention layers that call the function
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, dropout)


def merge_adapter(student: BaseModel) -> None:
    """Adds a LoRA adapter's weights to the model's own, in place, so that it loads without peft.

    Likewise those of a map of low rank (``adapter_student``).
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in student.modules():
        if is_parametrized(module, "weight"):
            remove_parametrizations(module, "weight")
            module.weight.requires_grad_(True)
    if len(encoders(student)) > 1:
        for side in encoders(student):
            merge_adapter(side)
        return
    model = student.transformers_model
    if model is None:
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    if getattr(model, "_hf_peft_config_loaded", False):
        model._hf_peft_config_loaded = False
        del model.peft_config
        vars(model).pop("_weight_conversions", None)  # to the names in the adapter's file


def merge_loaded_adapter(student: BaseModel, model: str) -> None:
    """Merges the PEFT adapter that the folder ``model`` came with, if any: all weights are trained then.

    transformers freezes them. Raises ``InputError`` for an adapter that replaces parts.
    """
    from peft.utils.other import AuxiliaryTrainingWrapper

    transformers = [side.transformers_model for side in encoders(student)]
    adapted = [one for one in transformers if one is not None and getattr(one, "peft_config", None)]
    if not adapted:
        return
    merge_adapter(student)
    for transformer in adapted:
        if any(isinstance(module, AuxiliaryTrainingWrapper) for module in transformer.modules()):
            raise InputError(
                f"model {model!r} is a PEFT adapter that replaces parts of its model (modules_to_save, "
                "trainable_token_indices); merge the two (PeftModel.merge_and_unload), save that, and give it"
            )
        transformer.requires_grad_(True)
    log.info("%s: its PEFT adapter is merged into its weights", model)


def load_weights_from(student: BaseModel, file: Path, prefix: str = "student.model.") -> None:
    """Puts the weights that a checkpoint of the Trainer holds into ``student``, in place.

    Their names begin with ``prefix`` there; frozen ones are not there, and stay. Raises ``InputError`` if
    they are another model's.
    """
    weights = {k.removeprefix(prefix): v for k, v in load_file(file).items() if k.startswith(prefix)}
    own = student.state_dict()
    loaded_pointers = {own[name].data_ptr() for name in weights if name in own}
    missing, unexpected = student.load_state_dict(weights, strict=False)
    frozen = {name for name, weight in student.named_parameters() if not weight.requires_grad}
    missing = [
        name for name in missing if own[name].data_ptr() not in loaded_pointers
    ]  # tied weights are there once
    missing = [name for name in missing if name not in frozen]
    if missing or unexpected:
        raise InputError(f"{file}: weights of another model ({shorten([*missing, *unexpected])})")


def fingerprint_of(model: BaseModel) -> str:
    """Changes with any weight, and with all that turns texts into comparable embeddings."""
    if len(both := encoders(model)) > 1:
        return fingerprint(*map(fingerprint_of, both))
    return hash_weights(model, _compares(model))


def settings_of(model: BaseModel) -> str:
    """``fingerprint_of`` but for weights and lengths: of models that differ in what they learnt alone, and in
    how much of a text they read, it is equal."""
    if len(both := encoders(model)) > 1:
        return fingerprint(*map(settings_of, both))
    _, *compares = _compares(model, ("query_length", "document_length"))
    return hash_weights(model, compares, ("",), cut=False)


def start_of(model: BaseModel) -> str:
    """``fingerprint_of`` before training: of an adapter its settings, not the weights that a seed draws."""
    from peft import PeftConfig
    from peft.tuners.tuners_utils import BaseTunerLayer

    if len(both := encoders(model)) > 1:
        return fingerprint(*map(start_of, both))
    drawn = tuple(
        f"{name}.{part}."
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
        for part in module.adapter_layer_names
    )
    if not drawn:
        return fingerprint_of(model)
    configs = cast(Mapping[str, PeftConfig], transformer_of(model).peft_config)
    adapters = {name: config.to_dict() for name, config in configs.items()}
    for settings in adapters.values():
        for name in ("base_model_name_or_path", "peft_version"):
            settings.pop(name, None)
        settings |= {name: sorted(value) for name, value in settings.items() if isinstance(value, set)}
    return hash_weights(model, [*_compares(model), adapters], drawn)


def _compares(model: BaseModel, but: tuple[str, ...] = ()) -> list:
    """All but weights that turns texts into comparable embeddings, first how many tokens are read.

    Settings of modules that are called one of ``but`` are left out.
    """
    parts = model if not isinstance(model, SparseEncoder) else model.modules()  # those of each route
    configured = [cast(Module, module) for module in parts if hasattr(module, "get_config_dict")]
    modules = [(type(module).__name__, module.get_config_dict()) for module in configured]
    for name, settings in modules:
        if name == "SpladePooling":
            del settings["embedding_dimension"]  # which it finds out in its first pass
        for left_out in but:
            settings.pop(left_out, None)
    compared = getattr(model, "similarity_fn_name", None), getattr(model, "truncate_dim", None)
    default = [model.default_prompt_name] if model.default_prompt_name else []
    most = getattr(model, "max_active_dims", None)  # of a sparse one
    active = [] if most is None else [f"{most} active"]
    return [model.max_seq_length, model.prompts, *compared, modules, *default, *active]


def hash_weights(model: nn.Module, settings: list, but: tuple[str, ...] = (), cut: bool = True) -> str:
    """Sixteen hexadecimal digits that change with any weight of ``model`` or with ``settings``.

    And with its tokenizer and the configuration of its transformer: equal weights compute otherwise with
    other heads or rotations. Weights whose names begin with one of ``but`` are left out, and unless ``cut``
    where the tokenizer of a static model cuts a text.
    """
    transformer, tokenizer = (getattr(model, name, None) for name in ("transformers_model", "tokenizer"))
    config = {} if transformer is None else transformer.config.to_dict()
    computes = {k: v for k, v in config.items() if k not in ASIDE and "dropout" not in k and k[0] != "_"}
    uncut = PreTrainedTokenizerBase if cut else (PreTrainedTokenizerBase, Tokenizer)
    rules = tokenizer_rules(tokenizer) if isinstance(tokenizer, uncut) else str(tokenizer)
    digest = hashlib.sha256(json.dumps([settings, computes, rules], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(but):
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
