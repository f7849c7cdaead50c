"""A model's folder that may be anybody's is loaded or refused in one sentence, whatever its small files say."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from detox_engine.errors import InputError
from detox_engine.model import checkpoint
from detox_engine.model.checkpoint import read_index
from detox_engine.model.load import load_model
from detox_engine.plans.sources import ModelSpec
from tests.fuzz import EXAMPLES, anything
from tests.models import LAYERS, save_tiny_model, tiny_model

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return save_tiny_model("llama", tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def folder(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def load(folder: Path):
    return load_model(ModelSpec(str(folder), device="cpu"))


def refuse(folder: Path, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        load(folder)
    told = str(error.value).replace(str(folder), "")
    assert "\n" not in told and len(told) < 700


def change_config(folder: Path, **changes) -> None:
    record = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000.*from 1 to 1,000"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1|cannot be used"),
        ({"num_hidden_layers": "3"}, "cannot be used"),
        ({"hidden_size": 10**12}, "hidden_size is|cannot be used"),
        ({"vocab_size": 0}, "vocab_size is 0|cannot be used"),
        ({"num_hidden_layers": LAYERS - 1}, "weights of more layers than the 2"),
        ({"num_hidden_layers": LAYERS + 1}, "of the weights it needs are not in its files"),
        ({"model_type": ["llama"]}, "is of an architecture"),
        ({"model_type": "x" * 5000}, "is of an architecture"),
        ({"model_type": "x", "auto_map": [1, 2]}, "needs its own Python code"),
    ],
)
def test_a_configuration_of_no_model_is_one_sentence_at_once(folder, changes, says):
    change_config(folder, **changes)
    refuse(folder, says)


@pytest.mark.parametrize(
    "name", [3, None, [], "../x.safetensors", "/x.safetensors", "a/b.safetensors", "model.bin", "", "\0.safetensors"]
)
def test_an_index_leads_nowhere_else(tmp_path, name):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": name}}))
    with pytest.raises(InputError, match="no usable model.safetensors.index.json"):
        read_index(tmp_path / INDEX, "It")


def test_shards_are_those_of_the_index_whatever_they_are_called(tmp_path):
    model, tokenizer = tiny_model("llama")
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    tokenizer.save_pretrained(tmp_path)
    record = json.loads((tmp_path / INDEX).read_text())
    names = {
        name: f"part_{number}.safetensors" for number, name in enumerate(sorted(set(record["weight_map"].values())))
    }
    for name, other in names.items():
        (tmp_path / name).rename(tmp_path / other)
    record["weight_map"] = {key: names[name] for key, name in record["weight_map"].items()}
    (tmp_path / INDEX).write_text(json.dumps(record))
    assert load(tmp_path).anatomy.layers == LAYERS


def test_weights_that_are_left_over_are_told(folder):
    weights = load_file(folder / "model.safetensors")
    own = next(key for key in weights if ".layers.0." in key)
    save_file(
        weights | {own.replace(".0.", ".9."): weights[own].clone()}, folder / "model.safetensors", {"format": "pt"}
    )
    refuse(folder, "weights of more layers than the 3")


def test_a_tokenizer_of_another_model_is_told(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"more{number}" for number in range(9)])
    tokenizer.save_pretrained(folder)
    refuse(folder, "has a tokenizer of 409 tokens for a model of 400")


def test_a_tokenizer_that_does_not_know_every_text_is_told(folder):
    record = json.loads((folder / "tokenizer.json").read_text())
    record["model"] = {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "<none>"}
    record["pre_tokenizer"], record["decoder"], record["added_tokens"] = {"type": "WhitespaceSplit"}, None, []
    record["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(record))
    refuse(folder, "has a tokenizer that (cannot read every text|could not be loaded)")


class Panic(BaseException):
    """What a library of Rust raises: no Exception."""


def test_a_tokenizer_that_panics_is_told(folder, monkeypatch):
    def panic(*given, **more):
        raise Panic("called `Option::unwrap()` on a `None` value\nnote: run with RUST_BACKTRACE=1")

    monkeypatch.setattr(checkpoint.AutoTokenizer, "from_pretrained", panic)
    refuse(folder, "has a tokenizer that could not be loaded")


def test_what_a_library_says_at_length_is_cut(folder, monkeypatch):
    def fail(*given, **more):
        raise ValueError("x" * 100_000)

    monkeypatch.setattr(checkpoint.AutoConfig, "from_pretrained", fail)
    refuse(folder, "cannot be used .x{200,}…")


@given(data=some.data())
@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_configuration_is_loaded_or_refused_in_one_sentence(original, data):
    kept = (original / "config.json").read_text()
    record = json.loads(kept)
    name = data.draw(some.sampled_from(sorted(record)))
    try:
        (original / "config.json").write_text(json.dumps(record | {name: data.draw(anything())}))
        model = load(original)
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 900
    else:
        assert model.anatomy.layers == LAYERS
    finally:
        (original / "config.json").write_text(kept)


@given(anything())
@settings(deadline=None, max_examples=EXAMPLES)
def test_any_index_is_read_or_refused_in_one_sentence(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("index") / INDEX
    for record in (content, {"weight_map": content}, {"weight_map": {"a": content}}):
        file.write_text(json.dumps(record))
        try:
            names = read_index(file, "It")
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert all(Path(name).name == name for name in names)
