"""What kind of model a folder or a hub's repository holds, by its own files."""

import re
from pathlib import Path
from typing import Any

from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.util import load_file_path
from torch import nn
from transformers import PreTrainedTokenizerBase

from rankdistill.errors import InputError
from rankdistill.students.language import logit_score
from rankdistill.students.settings import read_settings
from rankdistill.students.sides import transformer_of

NAMES = {
    "SentenceTransformer": "a bi-encoder",
    "CrossEncoder": "a cross-encoder",
    "MultiVectorEncoder": "a late-interaction model (ColBERT)",
    "SparseEncoder": "a sparse encoder (SPLADE)",
}
USES = {
    "SentenceTransformer": "it may be the student, the teacher of teacher=dense, or be given a scoring head: "
    "rankdistill finetune_teacher model=...",
    "CrossEncoder": "it may be the student of student=cross_encoder, or the teacher of teacher=cross_encoder",
    "MultiVectorEncoder": "it may be the student, or the teacher of teacher=late_interaction",
    "SparseEncoder": "it may be the student",
}


def kind_of(name: str, fetch: bool = False) -> str:
    """The class of sentence-transformers that loads the folder, or the repository fetched already, ``name``.

    It says so itself in config_sentence_transformers.json; older ones, and other libraries', by the types
    of their modules or the architecture of their transformer. A plain transformer becomes a bi-encoder, a
    language model whose chat template shows a query and a document a cross-encoder.
    ``fetch`` asks the hub for these files.
    """
    model_type = _read(name, "config_sentence_transformers.json", {}, fetch).get("model_type")
    if model_type is not None:
        return "MultiVectorEncoder" if model_type == "ColBERT" else model_type  # PyLate's
    modules = _read(name, "modules.json", None, fetch, list)
    if modules is not None:
        types = " ".join(str(module.get("type")) for module in modules if isinstance(module, dict)).lower()
        marks = {"sparse_encoder": "SparseEncoder", "splade": "SparseEncoder", "pylate": "MultiVectorEncoder"}
        marks |= {"multi_vector": "MultiVectorEncoder", "cross_encoder": "CrossEncoder"}
        return next((kind for mark, kind in marks.items() if mark in types), "SentenceTransformer")
    architectures = " ".join(_read(name, "config.json", {}, fetch).get("architectures") or [])
    if "ColBERT" in architectures:
        return "MultiVectorEncoder"
    if "ForCausalLM" in architectures and _shows_pairs(name, fetch):
        return "CrossEncoder"
    return "CrossEncoder" if "ForSequenceClassification" in architectures else "SentenceTransformer"


def _shows_pairs(name: str, fetch: bool) -> bool:
    """Whether a language model's chat template has places for a query and a document."""
    path = load_file_path(name, "chat_template.jinja", local_files_only=not fetch)
    template = path and Path(path).read_text(encoding="utf-8", errors="replace")
    template = template or str(_read(name, "tokenizer_config.json", {}, fetch).get("chat_template"))
    return all(re.search(rf"""["']{role}["']""", template) for role in ("query", "document"))


def _read(name: str, file: str, missing: Any, fetch: bool = False, kind: type = dict) -> Any:
    path = load_file_path(name, file, local_files_only=not fetch)
    return missing if path is None else read_settings(Path(path), kind)


def check_kind(name: str, model: str, wanted: tuple[str, ...]) -> None:
    """Raises ``InputError`` if ``name``, given as ``model``, is of a kind that isn't ``wanted``."""
    modules = sorted(path.name for path in Path(name).glob("[0-9]_*"))
    if modules and not (Path(name) / "modules.json").exists():
        raise InputError(
            f"model {model!r} lacks modules.json, which says what {modules[0]} is for; get the file again"
        )
    kind = kind_of(name)
    if kind not in wanted:
        raise refusal(model, kind, wanted[0])


def refusal(model: str, kind: str, wanted: str) -> InputError:
    """What is said of ``model``, which is of a ``kind`` that isn't ``wanted``."""
    what, use = (
        NAMES.get(kind, f"a model of the kind {kind}"),
        USES.get(kind, "such models are not supported"),
    )
    return InputError(f"model {model!r} is {what}, and {NAMES[wanted]} is needed here; {use}")


def has_language_head(name: str) -> bool:
    """Whether ``name`` is a plain transformer with a masked-language head."""
    plain = _read(name, "modules.json", None, kind=list) is None
    return plain and "ForMaskedLM" in " ".join(_read(name, "config.json", {}).get("architectures") or [])


def check_reads(loaded: Any, model: str, vectors: bool) -> None:
    """Raises ``InputError`` unless ``loaded``, given as ``model``, reads texts, or ``vectors`` if asked."""
    if isinstance(loaded[0], (Dense, Normalize)) and not vectors:
        raise InputError(
            f"model {model!r} maps vectors and reads no text; it goes on training as student=adapter_file "
            "student.model=..., and what it finds is in its run's run.trec.gz"
        )
    if vectors and not isinstance(loaded[0], (Dense, Normalize)):
        raise InputError(
            f"model {model!r} reads texts; a map of vectors is needed here, as student=adapter_file saves one"
        )


def has_head(model: CrossEncoder) -> bool:
    """Whether ``model`` came with a scoring head, or a language model's, and not with a random one."""
    if logit_score(model) is not None:
        return True
    kinds = transformer_of(model).config.architectures or []
    return not kinds or any("Classification" in kind for kind in kinds)


def check_fit(loaded: Any, model: str) -> None:
    """Raises ``InputError`` unless the parts of ``loaded``, given as ``model``, make vectors of a text."""
    training = loaded.training
    try:
        width = loaded.encode_query("a", show_progress_bar=False).shape[-1]
    finally:
        loaded.train(training)
    if width != loaded.get_embedding_dimension():
        raise InputError(
            f"model {model!r}: its pooling is of {loaded.get_embedding_dimension()} dimensions, and its "
            f"transformer gives {width}; one of the two is from another model"
        )


def check_tokenizer(loaded: Any, model: str) -> None:
    """Raises ``InputError`` if the tokenizer of ``loaded`` is not its own.

    If it knows no word, as what transformers makes up without its files, or has tokens that the model has no
    embedding of. One that knows no padding gets some: what is padded is masked.
    """
    tokenizer, transformer = loaded.tokenizer, loaded.transformers_model
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        return
    if tokenizer.pad_token is None:
        given = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
        tokenizer.pad_token = given
        if transformer is not None and getattr(transformer.config, "pad_token_id", None) is None:
            transformer.config.pad_token_id = tokenizer.pad_token_id
    largest = max(tokenizer.get_vocab().values(), default=0)
    rows = None if transformer is None else transformer.get_input_embeddings()
    if isinstance(rows, nn.Embedding) and largest >= rows.num_embeddings:
        raise InputError(
            f"model {model!r}: its tokenizer has tokens up to {largest:,}, its transformer embeds "
            f"{rows.num_embeddings:,}; one of the two is from another model, or was not resized"
        )
    words = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
    if len(words) < 2:
        raise InputError(
            f"model {model!r} lacks its tokenizer's files, and every word would be unknown: put "
            "tokenizer.json (or vocab.txt and the like) and tokenizer_config.json beside config.json"
        )
