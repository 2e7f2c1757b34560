"""Product quantisation, held against FAISS's own codes, reconstructions and searches."""

import faiss
import numpy as np
import pytest

from rankdistill.errors import InputError
from rankdistill.retrieval import FaissIndex, ProductQuantiser, product_quantiser
from rankdistill.retrieval.product_quantisation import packed, unpacked

RNG = np.random.default_rng(0)
DOCUMENTS = RNG.normal(size=(300, 12)).astype(np.float32) * np.linspace(0.2, 2, 12, dtype=np.float32)
QUERIES = RNG.normal(size=(7, 12)).astype(np.float32)
SIZES = [(parts, bits, rotated) for parts, bits in ((3, 4), (4, 3), (2, 8)) for rotated in (False, True)]


@pytest.fixture(params=SIZES, ids=str)
def made(request):
    return product_quantiser(DOCUMENTS, *request.param)


def nearest(quantiser):
    """Each part's nearest centroid, by a loop."""
    vectors = DOCUMENTS if quantiser.rotation is None else DOCUMENTS @ quantiser.rotation.T
    codes = np.empty((len(vectors), len(quantiser.codebooks)), np.int64)
    width = quantiser.codebooks.shape[2]
    for part, codebook in enumerate(quantiser.codebooks):
        for i, vector in enumerate(vectors[:, part * width : (part + 1) * width]):
            codes[i, part] = np.argmin([np.sum((vector - centroid) ** 2) for centroid in codebook])
    return codes


def test_codes_are_the_nearest_centroids(made):
    assert np.array_equal(made.encode(DOCUMENTS), nearest(made))


def test_the_index_has_the_codes_and_reconstructions_of_faiss(made):
    """``sa_encode`` and ``sa_decode`` of FAISS, which turns what it decodes back."""
    codes = made.encode(DOCUMENTS)
    index = made.index(codes)
    stored = index.sa_encode(DOCUMENTS)
    assert np.array_equal(stored, packed(codes, made.bits))
    assert np.array_equal(unpacked(stored, len(made.codebooks), made.bits), codes)
    assert index.sa_code_size() == -(-len(made.codebooks) * made.bits // 8)
    turned = made.decode(codes) if made.rotation is None else made.decode(codes) @ made.rotation
    assert index.sa_decode(stored) == pytest.approx(turned, abs=1e-5)
    assert index.reconstruct_n(0, 300) == pytest.approx(turned, abs=1e-5)


def test_it_finds_what_faiss_trained_by_itself_finds():
    own = faiss.IndexPQ(12, 3, 4, faiss.METRIC_INNER_PRODUCT)
    own.pq.cp.min_points_per_centroid = 1
    own.train(DOCUMENTS)
    own.add(DOCUMENTS)
    made = product_quantiser(DOCUMENTS, 3, 4)
    found = made.index(made.encode(DOCUMENTS)).search(QUERIES, 20)
    assert np.array_equal(found[0], own.search(QUERIES, 20)[0])


def test_saved_it_loads_with_faiss_alone_and_finds_the_same(made, tmp_path):
    index = made.index(made.encode(DOCUMENTS))
    before = index.search(QUERIES, 50)
    faiss.write_index(index, str(tmp_path / "documents.faiss"))
    loaded = faiss.read_index(str(tmp_path / "documents.faiss"))
    for one, other in zip(before, loaded.search(QUERIES, 50), strict=True):
        assert np.array_equal(one, other)


def test_scores_are_inner_products_with_the_reconstructed_document(made):
    codes = made.encode(DOCUMENTS)
    expected = made.rotate(QUERIES) @ made.decode(codes).T
    index = FaissIndex(made.index(codes), lambda texts: QUERIES[: len(texts)])
    rows, scores = index.search(["a"] * 7, 300)
    assert scores == pytest.approx(np.take_along_axis(expected, rows, axis=1), abs=1e-4)
    assert index.scores(["a"] * 7, np.array([3, 6]), np.array([8, 0])) == pytest.approx(
        [expected[3, 8], expected[6, 0]], abs=1e-4
    )


def test_equal_codes_are_ordered_by_id():
    made = ProductQuantiser(np.array([[[0.0], [1.0]]], np.float32))
    index = FaissIndex(made.index(np.array([[1], [0], [1], [1]])), lambda texts: np.ones((1, 1), np.float32))
    rows, scores = index.search(["q"], 3, ids=["c", "x", "a", "b"])
    assert rows.tolist() == [[2, 3, 0]] and scores.tolist() == [[1, 1, 1]]
    with pytest.raises(InputError, match="evaluator.index='HNSW32': a FAISS index is searched as it is"):
        index.search(["q"], 3, index="HNSW32")


@pytest.mark.parametrize(
    ("parts", "bits", "said"),
    [
        (5, 4, "parts=5: the model's 12 dimensions are cut in parts alike: 1, 2, 3, 4, 6, 12"),
        (0, 4, "parts=0"),
        (3, 9, "bits=9: it must be from 1 to 8"),
        (3, 8, "bits=8: 256 centroids, and there are 100 documents; give fewer"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(parts, bits, said):
    with pytest.raises(InputError, match=said):
        product_quantiser(DOCUMENTS[:100], parts, bits)


def test_a_rotation_needs_as_many_documents_as_dimensions():
    """FAISS would write past the end of an array."""
    with pytest.raises(
        InputError, match="rotation of 12 dimensions needs as many documents, and there are 11; "
    ):
        product_quantiser(DOCUMENTS[:11], 3, 3, rotated=True)
    assert product_quantiser(DOCUMENTS[:12], 3, 3, rotated=True).rotation.shape == (12, 12)
