"""A sweep over samplers, losses and seeds as one Markdown table: mean ± deviation over the seeds.

python scripts/sweep_table.py multirun/2026-01-31/12-00-00
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, help="the folder of a multirun")
    parser.add_argument("--measure", default="nDCG@10")
    arguments = parser.parse_args()
    cells, fixed, unfinished = defaultdict(list), defaultdict(set), []
    for file in sorted(arguments.sweep.glob("*/.hydra/hydra.yaml")):
        run = file.parents[1]
        chosen = OmegaConf.load(file).hydra.runtime.choices
        if not (run / "metrics.json").exists():
            unfinished.append(run.name)
            continue
        metrics = json.loads((run / "metrics.json").read_text())
        cells[chosen.sampler, chosen.loss].append(metrics["after"][arguments.measure])
        for name in set(metrics) - {"after"}:
            fixed[name].add(round(metrics[name][arguments.measure], 4))
    samplers = sorted({sampler for sampler, _ in cells})
    losses = sorted({loss for _, loss in cells})
    print(f"| {arguments.measure} | " + " | ".join(losses) + " |")
    print("|---" * (len(losses) + 1) + "|")
    for sampler in samplers:
        row = []
        for loss in losses:
            values = cells[sampler, loss]
            deviation = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            row.append(f"{np.mean(values):.4f}{deviation}" if values else "-")
        print(f"| {sampler} | " + " | ".join(row) + " |")
    print(f"\n{min(map(len, cells.values()))} to {max(map(len, cells.values()))} seeds a cell")
    for name, values in sorted(fixed.items()):
        print(f"{name}: {', '.join(map(str, sorted(values)))}")
    if unfinished:
        print(f"unfinished runs, not in the table: {', '.join(unfinished)}")


if __name__ == "__main__":
    main()
