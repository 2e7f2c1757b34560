"""Cross-encoders that are language models: the score is how much rather they would say yes than no.

As Qwen3-Reranker (Zhang et al. 2025, arXiv 2506.05176) and BGE-reranker-v2-gemma: a chat template puts
query, document and instruction into one text, and ``LogitScore`` of sentence-transformers reads the logits of
one or two tokens behind its end.
"""

from typing import cast

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import LogitScore
from torch import Tensor, nn

from rankdistill.errors import InputError
from rankdistill.students.fast.pair_tokens import prompt_of_pairs
from rankdistill.students.sides import transformer_of


def logit_score(model: CrossEncoder) -> LogitScore | None:
    """What makes a score of the logits of ``model``; None if it is no language model."""
    return next((module for module in model if isinstance(module, LogitScore)), None)


def settings_of(model: CrossEncoder) -> list:
    """What the scores of a language model depend on besides its weights and tokens; empty for any other."""
    score = logit_score(model)
    if score is None:
        return []
    return [model.tokenizer.chat_template, score.true_token_id, score.false_token_id]


def set_prompt(model: CrossEncoder, prompt: str | None) -> None:
    """``prompt`` is read with every pair from now on; none if it is empty, the model's own if it is None.

    Before the query, or where the chat template has the system's message.
    """
    if prompt is not None:
        model.prompts = {**model.prompts, "teacher": prompt}
        model.default_prompt_name = "teacher" if prompt else None


def check_template(model: CrossEncoder, name: str) -> None:
    """Raises ``InputError`` if a language model, given as ``name``, can't show its pairs.

    Its template must have room for query, document and prompt within the length, its two tokens be two.
    """
    score = logit_score(model)
    if score is None:
        return
    if score.true_token_id == score.false_token_id:
        raise InputError(
            f"model {name!r}: yes and no are one token, {score.true_token_id}, to its tokenizer; say in "
            "1_LogitScore/config.json which two are compared"
        )
    prompt = prompt_of_pairs(model)
    try:
        shown = _ids(model, "a", "a", prompt)
    except ValueError as error:
        if "chat template" not in str(error):
            raise
        raise InputError(
            f"model {name!r}: its chat template has no place for a query and a document; put one that has "
            "(chat_template.jinja, of messages whose roles are query, document and system) beside config.json"
        ) from None
    if len(shown) >= (model.max_seq_length or len(shown) + 1):
        raise InputError(
            f"max_length={model.max_seq_length}: {name} has a chat template (with its prompt) that is as "
            "long, and no word is left; raise it"
        )
    if prompt and torch.equal(shown, _ids(model, "a", "a", None)):
        raise InputError(
            f"prompt={prompt[:60]!r}: {name} has a chat template without a place for it, a message of the "
            "role system"
        )


def _ids(model: CrossEncoder, query: str, document: str, prompt: str | None) -> Tensor:
    return model.preprocess([(query, document)], prompt=prompt)["input_ids"][0]


def round_language_model(model: CrossEncoder) -> None:
    """Makes a language model's weights bf16, in place, but the rows of its head that are compared float32.

    bf16 logits between 16 and 32 are 0.125 apart, and tie; the other rows are dropped.
    """
    score, transformer = cast(LogitScore, logit_score(model)), transformer_of(model)
    tokens = [id for id in (score.true_token_id, score.false_token_id) if id is not None]
    whole = cast(nn.Linear, transformer.get_output_embeddings())
    head = nn.Linear(whole.in_features, len(tokens), bias=whole.bias is not None, device=whole.weight.device)
    with torch.no_grad():
        head.weight.copy_(whole.weight[tokens])
        if whole.bias is not None:
            head.bias.copy_(whole.bias[tokens])
    model.bfloat16()
    head.register_forward_pre_hook(lambda module, inputs: tuple(x.float() for x in inputs))
    transformer.set_output_embeddings(head)
    score.true_token_id, score.false_token_id = 0, 1 if len(tokens) == 2 else None
