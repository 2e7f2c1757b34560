"""Translate-Distill (Yang et al. 2024, arXiv 2401.04810) in two made-up languages: who reads which text."""

import numpy as np
import pytest
from conftest import WordTeacher

from rankdistill.candidates import Random, mine
from rankdistill.data import Collection, View
from rankdistill.evaluation import Evaluator
from rankdistill.losses import KLDivergence
from rankdistill.samplers import StratifiedSampler
from rankdistill.students import static_student
from rankdistill.teachers import ViewTeacher, score_candidates
from rankdistill.training import DistillationTrainer, training_arguments

WORDS = 40  # of each language: w0 to w39 are one's, w100 to w139 say the same in the other


def translated(text):
    """From the other language to the first."""
    return " ".join(f"w{int(word[1:]) - 100}" for word in text.split())


@pytest.fixture
def foreign():
    """Queries of the first language, documents of the other, which have their words and more."""
    rng = np.random.default_rng(0)
    documents = [[f"w{100 + i}" for i in rng.choice(WORDS, 6, replace=False)] for _ in range(150)]
    queries = [translated(" ".join(rng.permutation(words)[:3])) for words in documents]
    names = [f"q{i}" for i in range(150)]
    qrels = {
        split: {names[i]: {f"d{i}": 1} for i in rows}
        for split, rows in (("train", range(120)), ("test", range(120, 150)))
    }
    texts = [" ".join(words) for words in documents]
    return Collection("foreign", [f"d{i}" for i in range(150)], texts, names, queries, qrels)


def measured(student, collection):
    return Evaluator().evaluate(student, collection, "test").mean["nDCG@10"]


def gain(collection, teacher, student_folder, folder):
    """nDCG@10 of the test queries before and after a student has learnt what ``teacher`` says."""
    student = static_student(student_folder, dimensions=None)
    before = measured(student, collection)
    table = score_candidates(teacher, mine(collection, [Random(40)], "train"))
    arguments = training_arguments(
        str(folder), learning_rate=3e-2, num_train_epochs=12, bf16=False, disable_tqdm=True
    )
    DistillationTrainer(student, table, StratifiedSampler(1, 15), KLDivergence(), arguments).train()
    return before, measured(student, collection)


def test_a_teacher_that_reads_translations_teaches_the_other_language(foreign, student_folder, tmp_path):
    """The student sees no translation; a teacher without the view finds no word that both texts have."""
    view = View(documents=dict(zip(foreign.document_ids, map(translated, foreign.documents), strict=True)))
    before, after = gain(foreign, ViewTeacher(WordTeacher(), view), student_folder, tmp_path / "view")
    _, without = gain(foreign, WordTeacher(), student_folder, tmp_path / "own")
    assert before < 0.1 and without < 0.1
    assert after > 0.25
