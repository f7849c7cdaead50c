"""A model that is split over main memory and disk gives the numbers of one that lies on one device."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload

from detox_engine.data.columns import Pair
from detox_engine.edit.in_pass import edited
from detox_engine.edit.in_weights import apply_to_weights, edited_weights, measure_edit
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.edit.proof import prove_edit
from detox_engine.errors import InputError
from detox_engine.export.adapter import make_factors
from detox_engine.export.checkpoint import open_base, write_model
from detox_engine.forward.compare import generate
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.likelihood import cut_continuations
from detox_engine.forward.slopes import read_slopes
from detox_engine.model.anatomy import find_anatomy
from detox_engine.model.load import load_model, read_device_map
from detox_engine.model.placement import read_weight
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec
from detox_engine.reading.causal import read_causally, run_clean
from detox_engine.reading.lens import read_predictions, read_tokens
from detox_engine.reading.neurons import find_value_vectors
from tests.models import HIDDEN, LAYERS, SENTENCES, fresh_model, open_tiny, save_tiny_model, tiny_tokenizer

PAIRS = tuple(Pair("", toxic, civil) for toxic, civil in zip(SENTENCES[::2], SENTENCES[1::2], strict=True))
PLAN = SamplingPlan(max_new_tokens=6)


@pytest.fixture(scope="module", params=["llama", "gemma2", "qwen2_moe", "gpt2"])
def both(request, tmp_path_factory):
    """A model as a whole, and the same one with most of its weights on disk."""
    folder = save_tiny_model(request.param, tmp_path_factory.mktemp("model") / request.param)
    whole = load_model(ModelSpec(str(folder), device="cpu"))
    size = sum(weight.nbytes for weight in whole.network.parameters())
    split = load_model(replace(whole.spec, device_map=f"cpu={size // 2048}KiB"))
    away = [name for name, weight in split.network.named_parameters() if weight.device.type == "meta"]
    assert len(away) > 0 and any("layers.2" in name or "h.2" in name for name in away)
    assert split.is_split and not whole.is_split and split.device.type == "cpu"
    return whole, split


def make_edit(model, **options):
    generator = torch.Generator().manual_seed(1)
    bases = {layer: torch.linalg.qr(torch.randn(HIDDEN, 2, generator=generator)).Q.T for layer in range(LAYERS)}
    return LowRankEdit(bases, 0.8, **options)


def read(model):
    with torch.inference_mode():
        return model.network(**tiny_tokenizer()(SENTENCES[0], return_tensors="pt")).logits


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_its_parts_are_the_same(both):
    whole, split = both
    names = [
        [[each.name for each in model.anatomy.written_at(layer, "both")] for layer in range(LAYERS)] for model in both
    ]
    assert names[0] == names[1]
    close(split.anatomy.norm_gain, whole.anatomy.norm_gain)
    for one, other in zip(whole.anatomy.values, split.anatomy.values, strict=True):
        assert all(torch.equal(*rows) for rows in zip(one.matrices(), other.matrices(), strict=True))


def test_texts_are_embedded_and_continued_alike_under_an_edit(both):
    whole, split = both
    edit = make_edit(whole)
    plain, alike, moved = (
        embed_pairs(model, PAIRS, edit=by) for model, by in ((whole, None), (split, edit), (whole, edit))
    )
    close(alike.toxic, moved.toxic)
    assert (plain.toxic - moved.toxic).abs().max() > 0.01
    texts = [generate(model, SENTENCES[:3], [None, edit], PLAN) for model in both]
    assert str(texts[0]) == str(texts[1])


def test_directions_are_read_alike(both):
    directions, readings = make_edit(both[0]).bases[1], []
    for model in both:
        clean = run_clean(model, [1], SENTENCES[:3])
        readings.append(
            (
                read_causally(model, clean, 1, directions, top=3),
                read_tokens(directions, model, 3),
                find_value_vectors(model, 2, directions[0], top=2, tokens=2),
                read_predictions(model, directions, 2),
            )
        )
    assert _rounded(readings[0]) == _rounded(readings[1])


def _rounded(found):
    return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda number: f"{float(number[0]):.3f}", str(found)).replace(
        "-0.000", "0.000"
    )


@pytest.mark.parametrize("sites", ["mlp", "both"])
def test_the_weights_hold_the_same_edit_and_are_as_before_afterwards(both, sites):
    whole, split = both
    edit, before = make_edit(whole, sites=sites), read(split)
    with edited(whole.anatomy, [edit]):
        expected = read(whole)
    assert (expected - before).abs().max() > 0.01
    with edited_weights(split.anatomy, edit):
        close(read(split), expected)
    assert torch.equal(read(split), before)
    assert measure_edit(split.anatomy, edit) == measure_edit(whole.anatomy, edit)
    # Tied weights are two where one of them is away, so that hashes are of each model's own.
    proofs = [prove_edit(model, edit) for model in both]
    assert proofs[0].changes == proofs[1].changes
    assert all(proof.undone == proof.before != proof.edited for proof in proofs)


def test_it_is_taken_away_alike(both, tmp_path):
    whole, split = both
    edit = make_edit(whole)
    for own, other in zip(*(make_factors(model.anatomy, edit).values() for model in both), strict=True):
        close(own[0], other[0])
    for name, model in (("whole", whole), ("split", split)):
        (tmp_path / name).mkdir()
        write_model(model, edit, open_base(model, place_of(model)), tmp_path / name)
    written = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "split")]
    assert written[0] == written[1] != (place_of(whole) / "model.safetensors").read_bytes()


def place_of(model):
    return Path(model.spec.name)


def test_weights_in_main_memory_are_edited_for_good():
    model = replace(open_tiny("llama"), network=fresh_model("llama"))
    edit = make_edit(model)
    with edited(model.anatomy, [edit]):
        expected = read(model)
    cpu_offload(model.network, execution_device="cpu")
    split = replace(model)
    value = split.anatomy.values[1].module
    assert value.weight.device.type == "meta" and split.is_split
    with edited(split.anatomy, [edit]):
        close(read(split), expected)
    apply_to_weights(split.anatomy, edit)
    close(read(split), expected)
    assert read_weight(value, "weight").device.type == "cpu" and value.weight.device.type == "meta"


def test_a_block_that_was_left_empty_is_refused():
    network = fresh_model("llama")
    network.model.layers[1].to("meta")
    with pytest.raises(
        InputError, match=r"weights of model.layers.1.\S+, such as weight, were left empty .* --device-map"
    ):
        find_anatomy(network)


def test_what_needs_all_weights_at_once_is_refused(both):
    whole, split = both
    whole.require_whole("DPO")
    with pytest.raises(InputError, match="DPO needs all weights on one device, and this model is split: load it with"):
        split.require_whole("DPO")


def test_slopes_are_alike(both):
    bases = {"detox": list(make_edit(both[0]).bases.values())}
    found = []
    for model in both:
        sides = cut_continuations(model, PAIRS[:2], 32)
        found.append(read_slopes(model, bases, sides, [civil for _, civil in sides]))
    assert found[0].places == found[1].places and abs(found[0].gap).max() > 1e-4
    assert found[0].gap == pytest.approx(found[1].gap, rel=1e-3, abs=1e-6)
    assert found[0].information == pytest.approx(found[1].information, rel=1e-2, abs=1e-5)


def test_a_device_map_is_read():
    assert read_device_map("off") is None and read_device_map("auto") == {}
    assert read_device_map("0=20GiB, cpu=1.5MB") == {0: 20 * 2**30, "cpu": 1.5 * 2**20}
    for wrong in ("", "disk=1GiB", "cpu", "cpu=much", "cuda:0=1GiB", "cpu=1GiB;0=2GiB"):
        with pytest.raises(InputError, match="is no device map: write off, auto, or what each"):
            read_device_map(wrong)
