"""How many tokens a model reads of a text, and which texts are longer."""

import logging
import math

from sentence_transformers import CrossEncoder, SentenceTransformer
from torch import nn
from transformers import PreTrainedTokenizerBase

from rankdistill.errors import InputError, at_least

log = logging.getLogger(__name__)


def positions(model: nn.Module) -> int | None:
    """For how many tokens ``model`` has learned positions; None if they are computed, or relative.

    RoBERTa and its kin count them from behind the one of padding, and so read fewer tokens than the
    table has rows.
    """
    found = [
        module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in model.named_modules()
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(module, nn.Embedding)
    ]
    return min(found, default=None)


def limit_length(
    model: SentenceTransformer | CrossEncoder, max_length: int | None, name: str, pair: bool = False
) -> None:
    """At most ``max_length`` tokens a text (a ``pair``), and no more than ``model``, given as ``name``, can.

    Raises ``InputError`` if that leaves no word.
    """
    at_least(1, max_length=max_length)
    limits = [limit for limit in (model.max_seq_length, positions(model)) if limit is not None]
    own = min(limits, default=math.inf)
    length = own if max_length is None else min(max_length, own)
    if isinstance(model.tokenizer, PreTrainedTokenizerBase):
        special = model.tokenizer.num_special_tokens_to_add(pair)
        if length < (least := special + 1 + pair):
            raise InputError(
                f"max_length={length}: {name} adds {special} special tokens to a "
                f"{'pair' if pair else 'text'}, and no word is left; give {least} or more"
            )
    elif max_length is not None:
        log.info("max_length=%d is not applied: %s reads the whole text", max_length, name)
        return
    if max_length is not None and max_length > own:
        log.warning("max_length=%d: %s reads %d tokens, and so many are taken", max_length, name, own)
    if length not in (model.max_seq_length, math.inf):
        model.max_seq_length = length


def check_prompt(model: SentenceTransformer | CrossEncoder, prompt: str | None, what: str) -> None:
    """Raises ``InputError`` if ``prompt``, called ``what``, fills all that ``model`` reads of a text."""
    if not prompt or not isinstance(model.tokenizer, PreTrainedTokenizerBase):
        return
    taken = len(model.tokenizer(prompt, truncation=False)["input_ids"])
    if taken >= (model.max_seq_length or math.inf):
        raise InputError(
            f"{what}: with the special tokens it has {taken} tokens of the {model.max_seq_length} that are "
            "read, and no word of a text is left; raise max_length, or shorten it"
        )
