import importlib

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sentence_transformers import SentenceTransformer

from rankdistill import analysis
from rankdistill.analysis.locality import diameter, intrinsic_dimension, log_density, neighbour_distances
from rankdistill.analysis.per_query import shown_table
from rankdistill.errors import InputError
from rankdistill.retrieval import embed_documents
from rankdistill.samplers import HardNegativeSampler, RandomSampler

module = importlib.import_module("rankdistill.analysis.locality")  # a function has its name
RNG = np.random.default_rng(0)


def test_the_diameter_is_a_quantile_of_the_pairs_distances():
    points = np.array([[0.0, 0], [3, 4], [0, 1]])  # 5, 1 and the root of 18 apart
    assert diameter(points, 1) == 5 and diameter(points, 0) == 1
    assert diameter(points, 0.5) == pytest.approx(np.sqrt(18))
    assert np.isnan(diameter(points[:1]))


def test_two_orthogonal_documents():
    """Normalised over documents instead of dimensions, as published, they would not be root 2 apart."""
    assert diameter(np.eye(2)) == pytest.approx(np.sqrt(2))
    assert diameter(3 * np.eye(2), metric="cosine") == pytest.approx(1)


def test_neighbours_are_the_nearest_others(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)
    points = RNG.normal(size=(40, 5)).astype(np.float32)
    expected = np.sort(cdist(points, points), axis=1)[:, 1:4]
    assert neighbour_distances(points, 3) == pytest.approx(expected, rel=1e-5)


def test_close_neighbours_are_measured_exactly():
    """Squared norms subtracted in float32 would make of 1e-4 beside a length of 100 anything."""
    points = np.full((3, 8), 35.0, np.float32)
    points[1, 0] += 1e-4
    points[2, 0] += 3e-4
    steps = np.sort(points[:, 0].astype(float))
    expected = [steps[1] - steps[0], steps[1] - steps[0], steps[2] - steps[1]]
    assert neighbour_distances(points, 1)[:, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_dimension_is_that_of_the_plane_not_of_the_space(dimension):
    """Uniform points on a plane, turned into 20 dimensions."""
    turn, _ = np.linalg.qr(RNG.normal(size=(20, 20)))
    points = np.zeros((3000, 20))
    points[:, :dimension] = RNG.uniform(size=(3000, dimension))
    assert intrinsic_dimension(points @ turn) == pytest.approx(dimension, rel=0.08)


def test_repeated_documents_count_once():
    """A distance of 0 to the first neighbour would end in an infinite ratio."""
    points = RNG.normal(size=(200, 3))
    twice = np.concatenate([points, points[:50]])
    assert intrinsic_dimension(twice) == pytest.approx(intrinsic_dimension(points))


def test_density_of_a_uniform_square_is_one():
    """4,000 points in a square of area 1: the density away from its edges, whatever the space around."""
    points = np.zeros((4000, 6))
    points[:, :2] = RNG.uniform(size=(4000, 2))
    inside = (np.abs(points[:, :2] - 0.5) < 0.4).all(axis=1)
    found = np.exp(log_density(points, k=20, dimension=2))[inside]
    assert np.mean(found) == pytest.approx(1, rel=0.1)
    assert np.log(20 / 4000) - np.log(np.pi) - 2 * np.log(neighbour_distances(points, 20)[0, -1]) == (
        pytest.approx(log_density(points, 20, 2)[0])
    )


def test_denser_places_have_a_higher_density():
    points = np.concatenate([RNG.normal(0, 0.1, (300, 3)), RNG.normal(50, 1.0, (300, 3))])
    found = log_density(points)
    assert found[:300].min() > found[300:].max()


def test_more_neighbours_than_documents_are_an_error():
    with pytest.raises(InputError, match="k=10 neighbours of 10 documents"):
        log_density(np.eye(10))
    with pytest.raises(InputError, match="quantile=99: it must be between 0 and 1"):
        diameter(np.eye(3), 99)


def test_locality_of_pools_and_groups(table, student_folder, monkeypatch):
    """Every document is embedded once, and every figure is that of the query's own documents."""
    model = SentenceTransformer(student_folder, device="cpu")
    embedded = []

    def counting(model, texts):
        embedded.extend(texts)
        return embed_documents(model, texts)

    monkeypatch.setattr(module, "embed_documents", counting)
    samplers = {"hard": HardNegativeSampler(1, 3), "random": RandomSampler(1, 3)}
    found = analysis.locality(table, model, samplers, quantile=0.9, metric="cosine", k=4, seed=3)
    needed = np.unique(table.candidates.document_rows)
    assert embedded == [table.collection.documents[row] for row in needed]

    assert found.index.get_level_values("sampler").value_counts().to_dict() == dict.fromkeys(
        ["pool", *samplers], len(table)
    )
    embeddings = dict(zip(needed, embed_documents(model, embedded), strict=True))
    density = dict(zip(needed, log_density(np.stack(list(embeddings.values())), 4), strict=True))
    tables = {"pool": table, "random": shown_table(table, samplers["random"], 3)}
    for name, one in tables.items():
        rows = one.pool(5)[0]
        expected = diameter(np.stack([embeddings[row] for row in rows]), 0.9, "cosine")
        assert found.loc[name, "q5"]["diameter"] == pytest.approx(expected)
        assert found.loc[name, "q5"]["log_density"] == pytest.approx(np.median([density[r] for r in rows]))


def test_embeddings_that_are_there_are_not_made_again(table, student_folder, monkeypatch):
    """The whole collection's, by its rows; without ``k`` no density, whose time grows with their square."""
    model = SentenceTransformer(student_folder, device="cpu")
    samplers = {"random": RandomSampler(1, 3)}
    expected = analysis.locality(table, model, samplers)
    documents = embed_documents(model, table.collection.documents)
    monkeypatch.setattr(module, "embed_documents", None)
    found = analysis.locality(table, model, samplers, documents, k=None)
    assert list(found) == ["diameter"]
    assert found["diameter"].to_numpy() == pytest.approx(expected["diameter"].to_numpy(), abs=1e-5)
