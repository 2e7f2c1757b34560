"""A score table of MS MARCO's size, made up: what it takes to open it and to sample groups from it.

    python scripts/big_table.py big.arrow

The file (500,000 queries, 200 candidates each) is made first where there is none, which takes 8 GB of
memory. Its texts exist in name alone; a table holds ids and numbers.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import rankdistill as rd
from rankdistill.data import Candidates
from rankdistill.training import TrainingGroups

QUERIES, CANDIDATES, DOCUMENTS = 500_000, 200, 8_841_823


class Names:
    """The texts ``prefix`` 0, 1, ... without a list of them."""

    def __init__(self, prefix: str, size: int):
        self.prefix, self.size = prefix, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> str:
        if not 0 <= i < self.size:
            raise IndexError(i)
        return f"{self.prefix}{i}"


def collection() -> rd.Collection:
    made = object.__new__(rd.Collection)  # its checks would read every text
    ids = {"document_ids": Names("d", DOCUMENTS), "query_ids": Names("q", QUERIES)}
    texts = {"documents": Names("document ", DOCUMENTS), "queries": Names("query ", QUERIES)}
    vars(made).update(name="big", qrels={}, fingerprint="big", **ids, **texts)
    return made


def build(path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.sort(rng.integers(0, DOCUMENTS - CANDIDATES, (QUERIES, CANDIDATES)).astype(np.int32), axis=1)
    rows += np.arange(CANDIDATES, dtype=np.int32)  # ascending, none twice
    positive = np.zeros(rows.size, bool)
    positive[::CANDIDATES] = True
    ranks = np.tile(np.arange(CANDIDATES, dtype=np.uint16), QUERIES)
    offsets = np.arange(QUERIES + 1) * CANDIDATES
    queries = np.arange(QUERIES)
    candidates = Candidates(collection(), queries, offsets, rows.ravel(), positive, {"bm25": ranks})
    rd.ScoreTable(candidates, rng.normal(size=rows.size).astype(np.float32)).save(path)


def memory(name: str) -> int:
    """MB of this process now: VmRSS, and of that RssAnon, which is not the mapped file."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{name}:")[1].split()[0]) // 1024


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--groups", type=int, default=QUERIES, help="of an epoch of 500,000")
    given = parser.parse_args()
    if not given.file.exists():
        build(given.file)
    print(f"{given.file.stat().st_size / 1e9:.2f} GB on disk, {QUERIES * CANDIDATES:,} scores")
    whole, before = collection(), [memory(name) for name in ("RssAnon", "VmRSS")]
    start = time.perf_counter()
    table = rd.ScoreTable.load(given.file, whole)
    print(f"opened in {1000 * (time.perf_counter() - start):.1f} ms")
    groups = TrainingGroups(table, rd.StratifiedSampler())
    order = np.random.default_rng(0).permutation(len(groups))[: given.groups]
    start, peak = time.perf_counter(), 0
    for i in order.tolist():
        groups[i]
        if i % 997 == 0:  # in no step with the table's own rhythm
            peak = max(peak, memory("VmRSS"))
    seconds = time.perf_counter() - start
    print(
        f"{len(order):,} stratified groups in random order: {seconds:.1f} s, "
        f"{1e6 * seconds / len(order):.0f} microseconds each; "
        f"memory {memory('RssAnon') - before[0]:+} MB of its own, "
        f"at most {peak - before[1]:+} MB with mapped pages"
    )


if __name__ == "__main__":
    main()
