"""Quantised weights: read and edited in the pass, refused in the weights, taken away as an adapter.

Packages that quantise are no dependency: a stand-in of the same make is put into a model here, and where bitsandbytes
is installed a model is loaded with it.
"""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from detox_engine.edit.in_pass import edited
from detox_engine.edit.in_weights import apply_to_weights, edited_weights, measure_edit
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.edit.proof import prove_edit
from detox_engine.errors import InputError
from detox_engine.export.adapter import make_factors
from detox_engine.export.checkpoint import list_edited, open_base
from detox_engine.model.anatomy import find_anatomy
from detox_engine.model.load import load_model
from detox_engine.plans.sources import ModelSpec
from detox_engine.reading.neurons import find_value_vectors
from tests.models import HIDDEN, INNER, SENTENCES, fresh_model, open_tiny, save_tiny_model, tiny_tokenizer


class PackedLinear(nn.Module):
    """Eight bits a weight and a scale a row, as GPTQ, AWQ and others keep them: no `weight` that multiplies."""

    def __init__(self, plain: nn.Linear):
        super().__init__()
        self.in_features, self.out_features, self.bias = plain.in_features, plain.out_features, None
        scales = plain.weight.abs().amax(1, keepdim=True) / 127
        self.register_buffer("qweight", (plain.weight / scales).round().to(torch.int8))
        self.register_buffer("scales", scales)

    def forward(self, states):
        return states @ (self.qweight * self.scales).T


def packed_model():
    model = fresh_model("llama")
    for block in model.model.layers:
        for part in (block.mlp, block.self_attn):
            for name, layer in list(part.named_children()):
                if isinstance(layer, nn.Linear):
                    setattr(part, name, PackedLinear(layer))
    return replace(open_tiny("llama"), network=model)


def make_edit(**options):
    drawn = torch.randn(HIDDEN, 2, generator=torch.Generator().manual_seed(1))
    return LowRankEdit({1: torch.linalg.qr(drawn).Q.T.contiguous()}, **options)


def read(network):
    with torch.inference_mode():
        return network(**tiny_tokenizer()(SENTENCES[0], return_tensors="pt")).logits


def test_its_value_layer_is_found_and_read_as_what_it_multiplies_with():
    model = packed_model()
    value, attention = model.anatomy.values[1], model.anatomy.attention_outputs[1]
    assert value.name == "model.layers.1.mlp.down_proj" and attention.name == "model.layers.1.self_attn.o_proj"
    assert value.packed and (value.inner, value.hidden) == (INNER, HIDDEN) == tuple(value.rows.shape)
    states = torch.randn(3, INNER, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(states @ value.rows, value.module(states), atol=1e-5, rtol=1e-4)
    plain = find_anatomy(fresh_model("llama")).values[1]
    assert not plain.packed and 0 < (plain.rows - value.rows).norm() < 0.02 * plain.rows.norm()
    [found] = find_value_vectors(model, 1, value.rows[7], top=1, tokens=2).toward
    assert found.neuron == 7 and found.cosine == pytest.approx(1, abs=1e-5)


def test_an_edit_is_made_in_the_pass_and_as_an_adapter():
    model, edit = packed_model(), make_edit()
    seen = []
    model.anatomy.values[1].module.register_forward_hook(
        lambda _module, given, out: seen.append((given[0].clone(), out.clone()))
    )
    before = read(model.network)
    with edited(model.anatomy, [edit]):
        after = read(model.network)
    assert (after - before).abs().max() > 0.01
    [(down, up)] = make_factors(model.anatomy, edit).values()
    given, written = seen[0]
    adapted = written + given @ down.T @ up.T
    assert (written @ edit.bases[1].T).abs().max() > 0.1
    assert (adapted @ edit.bases[1].T).abs().max() < 1e-5
    assert measure_edit(model.anatomy, edit)[0].along_after < 1e-6


def test_an_edit_of_the_weights_is_refused_with_the_way_out():
    model, edit = packed_model(), make_edit()
    proof = prove_edit(model, edit)
    assert proof.in_pass_alone and proof.undone == proof.before and proof.changes[0].change > 0.01
    with pytest.raises(InputError, match="This edit changes nothing"):
        prove_edit(model, make_edit(strength=0.0))
    way_out = r"down_proj are quantised, .* take the adapter \(--as adapter\).* forward pass"
    with pytest.raises(InputError, match=way_out):
        apply_to_weights(model.anatomy, edit)
    with pytest.raises(InputError, match=way_out), edited_weights(model.anatomy, edit):
        pass
    with pytest.raises(InputError, match="DPO needs plain weights, and those of this model are quantised"):
        model.require_whole("DPO")


def quantise(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            r"\(GPTQ, 4 bits\), and what reads that is missing",
        ),
        (
            {"quantization_config": {"quant_method": "awq", "bits": 4}},
            r"\(AWQ, 4 bits\), and what reads that is missing",
        ),
        ({"quantization_config": {"quant_method": "our own"}}, r"\(our own\), and plain weights are needed"),
        ({"quantization": {"bits": 4}}, r"\(MLX, 4 bits\), and plain weights are needed"),
    ],
)
def test_a_quantised_folder_that_cannot_be_read_here_gets_one_sentence(settings, sentence, tmp_path):
    quantise(save_tiny_model("llama", tmp_path / "model"), **settings)
    with pytest.raises(InputError, match=f"is quantised {sentence}.* a GGUF file"):
        load_model(ModelSpec(str(tmp_path / "model"), device="cpu"))


def test_bitsandbytes_is_read_and_edited_in_the_pass(tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    plain = save_tiny_model("llama", tmp_path / "plain")
    settings = BitsAndBytesConfig(load_in_8bit=True)
    small = AutoModelForCausalLM.from_pretrained(plain, quantization_config=settings, device_map="cpu")
    small.save_pretrained(tmp_path / "small")
    tiny_tokenizer().save_pretrained(tmp_path / "small")
    model, edit = load_model(ModelSpec(str(tmp_path / "small"), device="cpu")), make_edit()
    assert model.anatomy.values[1].packed
    before = read(model.network)
    with edited(model.anatomy, [edit]):
        assert (read(model.network) - before).abs().max() > 0.01
    with pytest.raises(InputError, match="are quantised"):
        list_edited(model, edit, open_base(model, tmp_path / "small"))
