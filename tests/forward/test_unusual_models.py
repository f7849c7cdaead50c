"""Models that cannot be run as most are, or whose blocks differ, give what they give when each text is run alone."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, ModernBertDecoderConfig

from detox_engine.data.columns import Pair
from detox_engine.edit.in_weights import edited_weights
from detox_engine.errors import InputError
from detox_engine.forward.compare import generate
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.likelihood import Span, read_likelihoods
from detox_engine.forward.shared_layers import Holds, try_passes
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.workbench import fit_and_suggest
from tests.edit.test_edit import draw_edit
from tests.models import FAMILIES, SENTENCES, UNUSUAL, open_tiny

PROMPTS = ("My neighbour plays", "This damn printer is crap, it eats", "The")
EDIT = draw_edit((1, 2), strength=1.5, sites="both")
PLAN = SamplingPlan(max_new_tokens=8, greedy=True)


@pytest.fixture(params=UNUSUAL)
def model(request):
    opened = open_tiny(request.param)
    opened.network.generation_config.eos_token_id = None
    return opened


def write_alone(model, prompt: str) -> tuple[int, ...]:
    """The most probable continuation, each token by a pass over the whole text."""
    ids = model.tokenizer(prompt)["input_ids"]
    start = len(ids)
    for _ in range(PLAN.max_new_tokens):
        given = torch.tensor([ids])
        logits = model.network(input_ids=given, attention_mask=torch.ones_like(given), use_cache=False).logits
        ids = [*ids, int(logits[0, -1].argmax())]
        if ids[-1] == model.tokenizer.eos_token_id:
            return tuple(ids[start:-1])
    return tuple(ids[start:])


@torch.inference_mode()
def test_it_writes_what_it_writes_alone_before_and_after_the_edit(model):
    written = generate(model, PROMPTS, [None, EDIT], PLAN)
    before = [write_alone(model, prompt) for prompt in PROMPTS]
    with edited_weights(model.anatomy, EDIT):
        after = [write_alone(model, prompt) for prompt in PROMPTS]
    assert [samples[0][0].ids for samples in written] == before
    assert [samples[0][1].ids for samples in written] == after
    assert before != after


def test_it_reads_what_it_reads_alone_before_and_after_the_edit(model):
    texts = [tuple(model.tokenizer(sentence)["input_ids"]) for sentence in SENTENCES[:3]]
    spans = [Span(ids, len(ids) - 1) for ids in texts]
    read = read_likelihoods(model, spans, [None, EDIT]).surprise
    alone = [read_likelihoods(model, [span], [None]).surprise[0, 0] for span in spans]
    with edited_weights(model.anatomy, EDIT):
        after = [read_likelihoods(model, [span], [None]).surprise[0, 0] for span in spans]
    assert read[0] == pytest.approx(alone, rel=1e-4) and read[1] == pytest.approx(after, rel=1e-4)
    assert abs(read[1] - read[0]).max() > 0.1


def test_it_embeds_what_it_embeds_alone(model):
    pairs = [Pair("", toxic, civil) for toxic, civil in zip(SENTENCES[:3], SENTENCES[3:6], strict=True)]
    together = embed_pairs(model, pairs).toxic
    alone = torch.cat([embed_pairs(model, [pair]).toxic for pair in pairs], dim=1)
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["qwen3_5", "gpt_bigcode"])
def test_a_whole_fit_with_its_suggestion_ends(family):
    model = open_tiny(family)
    study = fit_and_suggest(model, FitPlan(PairSpec(limit=24)))
    assert len(study.subspaces) == model.anatomy.layers


def test_only_what_cannot_be_run_so_is_run_another_way():
    assert all(try_passes(open_tiny(family)) == (True, True, True) for family in FAMILIES)
    assert try_passes(open_tiny("gpt_bigcode")) == (False, True, True)
    assert try_passes(open_tiny("blenderbot")) == (True, False, True)


@torch.inference_mode()
def test_without_a_cache_it_writes_the_same(monkeypatch):
    model = open_tiny("gpt2")
    cached = generate(model, PROMPTS, [None, EDIT], PLAN)
    holds = Holds(forks=False, pads=False, caches=False)
    monkeypatch.setattr("detox_engine.forward.shared_layers.try_passes", lambda model: holds)
    monkeypatch.setattr("detox_engine.forward.write.try_passes", lambda model: holds)
    ids = [
        [[side.ids for side in sample] for sample in prompt] for prompt in generate(model, PROMPTS, [None, EDIT], PLAN)
    ]
    assert ids == [[[side.ids for side in sample] for sample in prompt] for prompt in cached]


def test_a_head_that_does_more_than_is_known_is_told_before_a_text_is_read(monkeypatch):
    """ModernBERT's decoder has a layer and a norm between its trunk and its unembedding."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    network = AutoModelForCausalLM.from_config(ModernBertDecoderConfig(vocab_size=400, **sizes, **special)).eval()
    network.requires_grad_(False)
    model = replace(open_tiny("gpt2"), network=network)
    monkeypatch.setattr("detox_engine.study.fit.embed_pairs", None)
    with pytest.raises(InputError, match="does more to its scores than is known here"):
        fit_and_suggest(model, FitPlan(PairSpec(limit=24)))
