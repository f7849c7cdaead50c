"""A folder with a LoRA is loaded with its base, or refused in a sentence that names it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import InputError
from detox_engine.export.adapter import write_adapter
from detox_engine.forward.likelihood import Span, read_likelihoods
from detox_engine.model import adapter as adapters
from detox_engine.model.load import load_model
from detox_engine.plans.sources import ModelSpec
from tests.models import HIDDEN, fresh_model, save_tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_tiny_model("llama", tmp_path_factory.mktemp("models") / "base")


@pytest.fixture
def folder(base, tmp_path) -> Path:
    """A LoRA that changes what the model writes, as PEFT itself saves it, with a tokenizer beside it."""
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    wrapped = get_peft_model(fresh_model("llama"), config)
    wrapped.peft_config["default"].base_model_name_or_path = str(base)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) / 8)
    wrapped.save_pretrained(tmp_path / "lora")
    tiny_tokenizer().save_pretrained(tmp_path / "lora")
    return tmp_path / "lora"


def load(folder: Path):
    return load_model(ModelSpec(str(folder), device="cpu"))


def change(folder: Path, **changes) -> None:
    file = folder / adapters.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_base_and_adapter_are_loaded_as_one_model(base, folder):
    model, plain = load(folder), load(base)
    factors = load_file(folder / adapters.WEIGHTS)
    name = "base_model.model.model.layers.1.mlp.down_proj.lora_{}.weight"
    change = 2 * factors[name.format("B")] @ factors[name.format("A")]
    own, other = (each.anatomy.values[1].module.weight for each in (model, plain))
    assert change.abs().max() > 0.01
    torch.testing.assert_close(own, other + change, atol=1e-6, rtol=1e-5)
    assert model.weights_hash not in (plain.weights_hash, "") and model.weights_hash.startswith("sha256:")
    assert not any("lora" in name for name, _ in model.network.named_parameters())


def test_what_detox_writes_as_an_adapter_is_a_model_too(base, tmp_path):
    plain = load(base)
    edit = LowRankEdit({1: torch.nn.functional.normalize(torch.ones(1, HIDDEN))}, strength=1.5)
    (tmp_path / "own").mkdir()
    write_adapter(plain.anatomy, edit, str(base), None, tmp_path / "own")
    span = Span(tuple(plain.tokenizer("The garden needs some rain")["input_ids"]), 4)
    wanted = read_likelihoods(plain, [span], [edit]).surprise
    found = read_likelihoods(load(tmp_path / "own"), [span], [None]).surprise
    assert found == pytest.approx(wanted, rel=1e-5)


def test_other_weights_are_another_model(folder):
    before = load(folder).weights_hash
    weights = load_file(folder / adapters.WEIGHTS)
    save_file({name: 2 * tensor for name, tensor in weights.items()}, folder / adapters.WEIGHTS, {"format": "pt"})
    assert load(folder).weights_hash != before


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: change(folder, base_model_name_or_path=None), "names no base model: merge it"),
        (lambda folder: change(folder, base_model_name_or_path="x" * 5000), "names no base model: merge it"),
        (lambda folder: change(folder, peft_type="PROMPT_TUNING"), "of a kind that is no part of the weights"),
        (lambda folder: change(folder, base_model_name_or_path=str(folder)), "base is an adapter too|no model"),
        (
            lambda folder: change(folder, base_model_name_or_path=str(folder / "none")),
            "is an adapter for .*There is no folder",
        ),
        (lambda folder: change(folder, target_modules=["no_such"]), "cannot be put into|changes nothing"),
        (lambda folder: (folder / adapters.CONFIG).write_text("[" * 100_000), "has a broken adapter_config.json"),
        (lambda folder: (folder / adapters.WEIGHTS).unlink(), "without adapter_model.safetensors"),
        (lambda folder: (folder / adapters.WEIGHTS).write_bytes(b"x" * 64), "has a broken weights file"),
    ],
)
def test_an_adapter_that_is_none_is_refused_in_one_sentence(folder, spoil, says):
    spoil(folder)
    with pytest.raises(InputError, match=says) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_an_adapter_of_another_model_is_refused(folder, tmp_path):
    other = fresh_model("llama", hidden_size=48)
    other.save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    change(folder, base_model_name_or_path=str(tmp_path / "other"))
    with pytest.raises(InputError, match="cannot be put into .*/other”"):
        load(folder)


def test_without_peft_the_sentence_names_the_base_and_the_way_out(folder, base, monkeypatch):
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"is an adapter for “{base}” .*pip install peft.* to load both, or merge it"):
        load(folder)


def test_a_strangers_adapter_leads_to_no_folder_of_this_machine(folder):
    with pytest.raises(InputError, match="for a folder of the machine that it was made on"):
        adapters.find_adapter(folder, "It", from_hub=True)


def test_the_case_that_people_have_names_its_base():
    case = Path(__file__).parents[2].parent / "shared" / "cases" / "models" / "adapter_only"
    if not case.is_dir():
        pytest.skip("the cases are not beside this checkout")
    with pytest.raises(InputError, match="is an adapter for “some/base”"):
        load(case)


def test_a_whole_model_that_also_holds_an_adapter_is_neither(base, folder, tmp_path):
    both = Path(shutil.copytree(base, tmp_path / "both"))
    shutil.copy(folder / adapters.CONFIG, both)
    with pytest.raises(InputError, match="holds an adapter beside its weights: move adapter_config.json"):
        load(both)
