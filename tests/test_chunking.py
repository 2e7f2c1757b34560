import pytest
import torch

from rankdistill.students.fast.chunking import by_length, chunks


def padded(lengths, side):
    """Row i holds i + 1 in its first ``lengths[i]`` places, or its last."""
    width = max(lengths)
    rows = [
        [i + 1] * n + [0] * (width - n) if side == "right" else [0] * (width - n) + [i + 1] * n
        for i, n in enumerate(lengths)
    ]
    ids = torch.tensor(rows)
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "modality": "text"}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("budget", [1, 50, 200, 10**6])
def test_every_text_is_whole_in_one_chunk_within_the_budget(side, budget):
    lengths = [3, 40, 17, 16, 90, 1, 64, 64, 5]
    features = padded(lengths, side)
    order = by_length(features)
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    seen = []
    for rows, chunk in chunks(features, order, budget):
        ids = chunk["input_ids"]
        assert ids.numel() <= budget or len(rows) == 1
        longest = max(lengths[i] for i in rows)
        assert longest <= ids.shape[1] < longest + 16
        assert ids.shape[1] % 16 == 0 or ids.shape[1] == 90, "a multiple of 16 where there are so many"
        for row, kept, mask in zip(rows.tolist(), ids, chunk["attention_mask"], strict=True):
            whole = padded([lengths[row]], side)["input_ids"][0] * (row + 1)
            at = slice(None, len(whole)) if side == "right" else slice(-len(whole), None)
            assert torch.equal(kept[at], whole) and mask.sum() == lengths[row] == (kept > 0).sum()
        assert chunk["modality"] == "text"
        seen += rows.tolist()
    assert seen == order.tolist()
