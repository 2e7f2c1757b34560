"""BM25 in languages other than English, and in scripts without spaces between words."""

import bm25s
import numpy as np
import pytest
import Stemmer

from rankdistill.candidates import BM25
from rankdistill.candidates.bm25 import words
from rankdistill.data import Collection
from rankdistill.errors import InputError
from rankdistill.teachers import BM25Teacher


def asked(documents, query):
    return Collection("c", [f"d{i}" for i in range(len(documents))], documents, ["q"], [query], {})


def best(documents, query, language="en"):
    """Rows of the documents that are found, best first."""
    rows = BM25(len(documents), language=language).retrieve(asked(documents, query), np.array([0]))[0]
    return [int(row) for row in rows if row >= 0]


CHINESE = [
    "北京是中华人民共和国的首都",
    "上海是中国最大的城市",
    "东京是日本的首都",
    "巴黎是法国的首都",
    "柏林是德国的首都",
    "苹果是一种水果",
    "香蕉生长在热带",
    "猫喜欢吃鱼",
]


@pytest.mark.parametrize(
    ("documents", "query", "expected"),
    [
        (CHINESE, "日本的首都", 2),
        (CHINESE, "法国首都叫什么", 3),
        (CHINESE, "德国的首都在哪", 4),
        (CHINESE, "什么水果红色", 5),
        (["東京はでかい", "ラーメンが好き", "大阪は遠い"], "ラーメン", 1),
        (["แมวชอบกินปลา", "สุนัขชอบกระดูก"], "กินปลา", 0),
        (["the Transformer模型 learns", "the CNN网络 learns"], "网络 of what", 1),
        (["हिन्दी भाषा", "तमिल भाषा"], "तमिल", 1),
        (["猫 dog", "犬 dog"], "犬", 1),
        (["café noir", "thé vert"], "cafe\u0301", 0),
    ],
    ids=["zh", "zh2", "zh3", "zh4", "ja", "th", "mixed", "hi", "one letter", "nfd"],
)
def test_the_right_document_comes_first(documents, query, expected):
    assert best(documents, query)[0] == expected
    assert best(documents, query, None)[0] == expected


def tokens(text, language="en"):
    found = words([text], language)
    named = {number: word for word, number in found.vocab.items()}
    return [named[number] for number in found.ids[0]]


def test_words_of_scripts_without_spaces_are_pairs_of_letters():
    assert tokens("东京是日本", None) == ["东京", "京是", "是日", "日本"]
    assert tokens("GPT模型好2字", None) == ["gpt", "模型", "型好", "字"]
    assert tokens("get_user カ", None) == ["get", "user", "カ"]


@pytest.mark.parametrize(
    ("language", "expected"),
    [("de", ["haus", "stadt"]), ("german", ["haus", "stadt"]), (None, ["die", "häuser", "der", "stadt"])],
)
def test_a_language_has_its_stems_and_stop_words(language, expected):
    assert tokens("die Häuser der Stadt", language) == expected
    assert (best(["die Häuser der Stadt", "der Hund"], "Haus", language) == [0]) is (language is not None)


def test_english_is_as_ever(collection):
    """The words of text without combining marks or such scripts are bm25s's own."""
    texts = [*collection.documents, "The_user's café, 3.5 x-rays: runs & don't\u2014naïve Ünï №5 a bc"]
    theirs = bm25s.tokenize(
        [text.replace("_", " ") for text in texts],
        stopwords="en",
        stemmer=Stemmer.Stemmer("english"),
        show_progress=False,
    )
    named = {number: word for word, number in theirs.vocab.items()}
    assert [tokens(text) for text in texts] == [[named[number] for number in ids] for ids in theirs.ids]


def test_a_language_nobody_knows_is_named():
    for make in (BM25, BM25Teacher):
        with pytest.raises(InputError, match="language='xx': no stemmer or stop words for it; .*null takes"):
            make(language="xx")


def test_the_teacher_has_the_same_words():
    assert BM25Teacher().fingerprint != BM25Teacher(language="de").fingerprint
    assert BM25(language="fi").language == "fi"  # a stemmer without stop words
    assert tokens("talossa on", "fi") == ["talo", "on"]
