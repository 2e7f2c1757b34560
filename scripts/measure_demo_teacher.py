"""How good the demo teacher is on packages it never saw: MiniLM's top 30, reranked.

The weight of the cross-encoder in the ensemble is chosen on the dev queries; all are measured on
the test queries of ``python_functions``.

    python scripts/measure_demo_teacher.py
"""

import dataclasses

from rankdistill import (
    Dense,
    Evaluator,
    compare,
    demo_teacher,
    load_student,
    mine,
    python_functions,
    score_candidates,
)
from rankdistill.commands.summary import significance, table

DEPTH, QUERIES = 30, 400
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)


def main():
    collection = python_functions()
    minilm = load_student("minilm")
    evaluator = Evaluator(measures=["nDCG@10", "RR@10", "R@30"], k=DEPTH, limit=QUERIES)
    scored = {}
    for part in ("bi_encoder", "cross_encoder"):
        teacher = demo_teacher(part)
        for split in ("dev", "test"):
            pools = mine(collection, [Dense(minilm, DEPTH)], split, QUERIES)
            scored[part, split] = score_candidates(teacher, pools)

    def ensemble(split: str, weight: float):
        bi_encoder, cross_encoder = scored["bi_encoder", split], scored["cross_encoder", split]
        scores = 20 * bi_encoder.scores + weight * cross_encoder.scores
        return evaluator.rerank(dataclasses.replace(bi_encoder, scores=scores), split)

    on_dev = {weight: ensemble("dev", weight).mean["nDCG@10"] for weight in WEIGHTS}
    print("dev, weight of the cross-encoder beside 20 x cosine:", {w: round(x, 4) for w, x in on_dev.items()})
    best = max(on_dev, key=on_dev.get)
    plain = evaluator.evaluate(minilm, collection)
    systems = {
        "MiniLM": plain,
        "cross_encoder": evaluator.rerank(scored["cross_encoder", "test"], "test"),
        "bi_encoder": evaluator.rerank(scored["bi_encoder", "test"], "test"),
        f"ensemble ({best})": ensemble("test", best),
    }
    print(table({name: result.mean for name, result in systems.items()}))
    for name, result in list(systems.items())[1:]:
        gain = compare(plain.per_query["nDCG@10"], result.per_query["nDCG@10"])
        print(significance("nDCG@10", gain, f"{name} - MiniLM"))


if __name__ == "__main__":
    main()
