import copy
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    pipeline,
)

from detox_engine.errors import Cancelled, InputError
from detox_engine.scoring.text_classifier import find_head, load_classifier
from tests.models import CONTEXT, HIDDEN, INNER, LAYERS, SENTENCES, tiny_tokenizer

SIX = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
"""The labels of unitary/toxic-bert."""
SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip
LONGEST = 20


def save_classifier(folder: Path, labels: tuple[str, ...], problem: str | None = None, roberta: bool = False) -> Path:
    """A tiny classifier with random weights and a tokenizer by words."""
    words = sorted({word for text in SENTENCES for word in text.split()})
    vocab = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    settings, kind = BertConfig, BertForSequenceClassification
    if roberta:
        settings, kind = RobertaConfig, RobertaForSequenceClassification
    config = settings(
        vocab_size=len(vocab), max_position_embeddings=LONGEST + 2 * roberta, pad_token_id=0,
        id2label=dict(enumerate(labels)), label2id={label: number for number, label in enumerate(labels)},
        problem_type=problem, **SIZES,
    )  # fmt: skip
    torch.manual_seed(0)
    model = kind(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder


def ask_pipeline(folder: Path, label: str, function: str) -> list[float]:
    """The library's own text-classification pipeline, one text at a time."""
    classify = pipeline("text-classification", model=str(folder), top_k=None, function_to_apply=function, device="cpu")
    return [next(entry["score"] for entry in classify([text])[0] if entry["label"] == label) for text in SENTENCES]


@pytest.mark.parametrize(
    ("labels", "problem", "label", "function"),
    [
        (SIX, "multi_label_classification", "toxic", "sigmoid"),
        (SIX, None, "toxic", "sigmoid"),
        (("toxicity", "severe_toxicity", "male", "female"), "multi_label_classification", "toxicity", "sigmoid"),
        (("neutral", "toxic"), None, "toxic", "softmax"),
        (("other", "toxic"), None, "toxic", "softmax"),
        (("non-toxic", "Toxic"), "single_label_classification", "Toxic", "softmax"),
        (("toxic", "obscene", "non-toxic"), None, "toxic", "softmax"),
        (("LABEL_0",), None, "LABEL_0", "sigmoid"),
    ],
)
def test_heads_are_read_as_the_library_reads_them(tmp_path: Path, labels, problem, label: str, function: str):
    folder = save_classifier(tmp_path / "classifier", labels, problem)
    scorer = load_classifier(str(folder), device="cpu")
    scores = scorer.score(SENTENCES)
    assert scores == pytest.approx(ask_pipeline(folder, label, function), abs=1e-5)
    assert len(set(scores)) == len(SENTENCES) and all(0 < score < 1 for score in scores)
    assert str(folder) in scorer.sentence and scorer.name == "classifier"


def test_known_head_gives_known_scores(tmp_path: Path):
    folder = save_classifier(tmp_path / "classifier", SIX, "multi_label_classification")
    model = BertForSequenceClassification.from_pretrained(folder)
    model.classifier.weight.data.zero_()
    model.classifier.bias.data.copy_(torch.tensor([math.log(9), 5, 5, 5, 5, 5]))
    model.save_pretrained(folder)
    assert load_classifier(str(folder), device="cpu").score(["x", ""]) == pytest.approx([0.9, 0.9])


@pytest.mark.parametrize("roberta", [False, True])
def test_scores_do_not_depend_on_company_or_length(tmp_path: Path, monkeypatch, roberta: bool):
    folder = save_classifier(tmp_path / "classifier", SIX, "multi_label_classification", roberta)
    scorer = load_classifier(str(folder), device="cpu")
    texts = ["", *SENTENCES, " ".join(SENTENCES * 9)]
    alone = [scorer.score([text])[0] for text in texts]
    monkeypatch.setattr("detox_engine.scoring.text_classifier.TEXTS_AT_ONCE", 4)
    assert scorer.score(texts) == pytest.approx(alone, abs=1e-6)
    assert scorer.score([]) == []


@pytest.mark.parametrize("labels", [("LABEL_0", "LABEL_1"), ("hate", "offensive", "neither"), ("toxic", "toxicity")])
def test_labels_that_do_not_say_toxic_are_listed_to_choose_from(tmp_path: Path, labels: tuple[str, ...]):
    folder = str(save_classifier(tmp_path / "classifier", labels))
    with pytest.raises(InputError, match=", ".join(labels)):
        load_classifier(folder, device="cpu")
    assert load_classifier(folder, labels[1].lower(), device="cpu").score(["a"])[0] > 0
    with pytest.raises(InputError, match="no label “rude”"):
        load_classifier(folder, "rude", device="cpu")


def test_toxic_bert_and_the_unbiased_model_are_read_by_their_configurations():
    six = BertConfig(id2label=dict(enumerate(SIX)), problem_type="multi_label_classification")
    assert find_head(six, None, "x").label == 0 and not find_head(six, None, "x").exclusive
    sixteen = ("toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit",
               "male", "female", "homosexual_gay_or_lesbian", "christian", "jewish", "muslim", "black", "white",
               "psychiatric_or_mental_illness")  # fmt: skip
    unbiased = RobertaConfig(id2label=dict(enumerate(sixteen)), problem_type="multi_label_classification")
    assert find_head(unbiased, None, "x").label == 0 and not find_head(unbiased, None, "x").exclusive


def save_decoder(folder: Path, pad: str | None = None, told: int | None = None) -> Path:
    """A tiny classifier that reads a text's last token, and a tokenizer with or without a token to pad with."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    if pad is not None:
        tokenizer.add_special_tokens({"pad_token": pad})
    config = LlamaConfig(
        vocab_size=404, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=4,
        max_position_embeddings=CONTEXT, pad_token_id=told, bos_token_id=0, eos_token_id=0,
        id2label={0: "civil", 1: "toxic"}, label2id={"civil": 0, "toxic": 1},
    )  # fmt: skip
    torch.manual_seed(1)
    model = LlamaForSequenceClassification(config).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pad", [None, "<pad>"], ids=["no token to pad with", "one in the tokenizer alone"])
def test_a_decoder_that_was_told_no_padding_reads_each_text_as_it_reads_it_alone(tmp_path: Path, pad: str | None):
    folder = save_decoder(tmp_path / "classifier", pad)
    scores = load_classifier(str(folder), device="cpu").score(SENTENCES)
    assert scores == pytest.approx(ask_pipeline(folder, "toxic", "softmax"), abs=1e-5)
    assert max(scores) - min(scores) > 0.05


def test_a_regression_is_no_probability(tmp_path: Path):
    folder = save_classifier(tmp_path / "classifier", ("LABEL_0",), "regression")
    with pytest.raises(InputError, match="a number without a scale .a regression.*score with profanity instead"):
        load_classifier(str(folder), device="cpu")


def test_of_many_labels_a_dozen_are_listed(tmp_path: Path):
    folder = save_classifier(tmp_path / "classifier", tuple(f"label {number}" for number in range(500)))
    with pytest.raises(InputError, match="label 11 and 488 more") as error:
        load_classifier(str(folder), device="cpu")
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "holds an adapter beside its weights"),
        (lambda folder: change_config(folder, num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
        (lambda folder: change_config(folder, num_hidden_layers=2), "no text classifier: it lacks weights"),
        (lambda folder: change_config(folder, quantization_config={"quant_method": "awq", "bits": 4}), "AWQ, 4 bits"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be loaded"),
        (lambda folder: spoil_weights(folder), "gives no numbers"),
    ],
)
def test_a_strangers_classifier_is_refused_in_one_sentence(tmp_path: Path, spoil, says: str):
    folder = save_classifier(tmp_path / "classifier", SIX)
    spoil(folder)
    with pytest.raises(InputError, match=says) as error:
        load_classifier(str(folder), device="cpu")
    assert "\n" not in str(error.value) and len(str(error.value)) < 900


def change_config(folder: Path, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def spoil_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"].fill_(math.nan)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_pickles_trunks_and_missing_classifiers_are_refused(tmp_path: Path):
    pickled = save_classifier(tmp_path / "pickled", SIX)
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickle"):
        load_classifier(str(pickled))
    trunk = save_classifier(tmp_path / "trunk", SIX)
    BertModel(BertConfig(vocab_size=len(AutoTokenizer.from_pretrained(trunk)), **SIZES)).save_pretrained(trunk)
    with pytest.raises(InputError, match="no text classifier"):
        load_classifier(str(trunk))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="config.json"):
        load_classifier(str(tmp_path / "empty"))
    with pytest.raises(InputError, match="no folder"):
        load_classifier("./nowhere")


def test_classifier_that_the_hub_cannot_give_says_so_in_one_sentence(monkeypatch):
    def unreachable(*args, **settings):
        raise ConnectionError("no network")

    monkeypatch.setattr("detox_engine.scoring.text_classifier.huggingface_hub.model_info", unreachable)
    with pytest.raises(InputError, match="could not be fetched") as refused:
        load_classifier("nobody/nothing")
    assert "profanity" in str(refused.value) and "\n" not in str(refused.value)


def test_scoring_stops_from_its_progress(tmp_path: Path):
    folder = save_classifier(tmp_path / "classifier", SIX)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "Scoring continuations":
            raise Cancelled

    with pytest.raises(Cancelled):
        load_classifier(str(folder), None, "cpu", stop).score(SENTENCES)
