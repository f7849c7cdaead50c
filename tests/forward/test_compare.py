"""Before and after are the model's own continuations, whatever shares the batch, and differ by the edit alone."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from detox_engine.edit.in_weights import edited_weights
from detox_engine.edit.low_rank import LowRankEdit
from detox_engine.errors import Cancelled, InputError
from detox_engine.forward import decoding, write
from detox_engine.forward.compare import Continuation, compare_prompts, find_divergence, generate
from detox_engine.forward.shared_layers import try_passes
from detox_engine.forward.write import encode_prompt
from detox_engine.model import batches
from detox_engine.model.load import OpenModel
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec
from tests.edit.test_edit import copy_parameters, count_hooks, draw_edit
from tests.models import CONTEXT, FAMILIES, SENTENCES, fresh_model, open_tiny, tiny_model

PROMPTS = (
    "You burnt the soup",
    "My neighbour plays the trumpet at night, which is rather loud, and the whole street knows it",
    "What",
    "Thank you for waiting; the train",
)
GREEDY = SamplingPlan(max_new_tokens=12, greedy=True)
DRAWN = SamplingPlan(max_new_tokens=12, samples=2, temperature=0.8, top_p=0.9, seed=3)


def wrap(family: str, context: int | None = CONTEXT, **changes) -> OpenModel:
    """A tiny model as the engine loads it; a fresh one where its configuration is changed."""
    model, tokenizer = tiny_model(family)
    if changes:
        model = fresh_model(family, **changes)
    return OpenModel(ModelSpec(), model, tokenizer, None, "sha256:0", context)


def strong_edit() -> LowRankEdit:
    return draw_edit((1, 2), rank=3, strength=2.0)


@torch.no_grad()
def continue_alone(model: OpenModel, prompt: str, length: int) -> tuple[int, ...]:
    """What transformers itself writes, greedily, one prompt at a time, without the end token."""
    given = model.tokenizer(prompt, return_tensors="pt")
    settings = {"do_sample": False, "max_new_tokens": length, "pad_token_id": 0}
    ids = model.network.generate(given["input_ids"], attention_mask=given["attention_mask"], **settings)
    written = ids[0, given["input_ids"].shape[1] :].tolist()
    return tuple(written[:-1] if written[-1] == model.network.config.eos_token_id else written)


@torch.no_grad()
def read_probabilities(model: OpenModel, prompt: str, ids: Sequence[int]) -> list[float]:
    """Each token's probability from one plain pass over one text, without a cache."""
    given = model.tokenizer(prompt)["input_ids"]
    logits = model.network(input_ids=torch.tensor([[*given, *ids]])).logits[0, len(given) - 1 : -1]
    return logits.softmax(-1)[range(len(ids)), list(ids)].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_writes_what_transformers_writes(family: str) -> None:
    model = wrap(family)
    edit = strong_edit()
    written = generate(model, PROMPTS, [None, edit], GREEDY)
    plain = [continue_alone(model, prompt, 12) for prompt in PROMPTS]
    with edited_weights(model.anatomy, edit):
        changed = [continue_alone(model, prompt, 12) for prompt in PROMPTS]
    assert [sides[0][0].ids for sides in written] == plain
    assert [sides[0][1].ids for sides in written] == changed
    assert plain != changed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_continuation_does_not_depend_on_the_batch(family: str) -> None:
    model = wrap(family)
    edits = [strong_edit(), None, draw_edit((0,), seed=5)]
    together = generate(model, PROMPTS, edits, DRAWN)
    for prompt, sides in zip(PROMPTS, together, strict=True):
        for side, edit in enumerate(edits):
            (alone,) = generate(model, [prompt], [edit], DRAWN)
            for sample in range(DRAWN.samples):
                assert alone[sample][0].text == sides[sample][side].text
                assert alone[sample][0].probabilities == pytest.approx(sides[sample][side].probabilities, rel=1e-3)
    assert len({sample[1].text for sides in together for sample in sides}) > len(PROMPTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_probabilities_are_those_of_a_plain_pass_on_both_sides(family: str) -> None:
    model = wrap(family)
    edit = strong_edit()
    comparisons = compare_prompts(model, PROMPTS, edit, DRAWN)
    assert any(comparison.first_divergence not in (None, 0) for comparison in comparisons)
    for comparison in comparisons:
        plain = {side: read_probabilities(model, comparison.prompt, side.ids) for side in sides_of(comparison)}
        with edited_weights(model.anatomy, edit):
            changed = {side: read_probabilities(model, comparison.prompt, side.ids) for side in sides_of(comparison)}
        before, after = comparison.before, comparison.after
        assert before.probabilities == pytest.approx(plain[before], rel=1e-3)
        assert before.other_probabilities == pytest.approx(changed[before], rel=1e-3)
        assert after.probabilities == pytest.approx(changed[after], rel=1e-3)
        assert after.other_probabilities == pytest.approx(plain[after], rel=1e-3)


def sides_of(comparison) -> tuple[Continuation, Continuation]:
    return comparison.before, comparison.after


@pytest.mark.parametrize(
    ("family", "window"),
    [(family, "sliding_window") for family in ("mistral", "gemma2", "gemma3")] + [("gpt_neo", "window_size")],
)
def test_an_attention_window_shorter_than_the_text_is_kept(family: str, window: str) -> None:
    model = wrap(family, **{window: 8})
    written = generate(model, PROMPTS, [None, strong_edit()], GREEDY)
    assert [sides[0][0].ids for sides in written] == [continue_alone(model, prompt, 12) for prompt in PROMPTS]


@pytest.mark.parametrize("plan", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("strength", [0.0, 1e-7])
def test_an_edit_of_no_strength_changes_no_token(plan: SamplingPlan, strength: float) -> None:
    model = wrap("gpt2")
    for comparison in compare_prompts(model, PROMPTS, draw_edit(strength=strength), plan):
        assert comparison.before.ids == comparison.after.ids
        assert comparison.first_divergence is None
        if strength == 0:
            assert comparison.before == comparison.after
        assert comparison.before.other_probabilities == pytest.approx(comparison.before.probabilities, rel=1e-4)


def test_an_edit_of_no_strength_is_the_same_row() -> None:
    model = wrap("gpt2")
    try_passes(model)
    sizes = []
    handle = model.anatomy.trunk.register_forward_hook(lambda module, given, out: sizes.append(len(out[0])))
    compare_prompts(model, PROMPTS, draw_edit(strength=0.0), GREEDY)
    handle.remove()
    assert max(sizes) == len(PROMPTS)


def test_the_sides_share_their_luck_until_the_edit_matters() -> None:
    model = wrap("gpt2")
    plan = SamplingPlan(max_new_tokens=20, samples=8, seed=1)
    weak = compare_prompts(model, PROMPTS, draw_edit(strength=0.05), plan)
    strong = compare_prompts(model, PROMPTS, strong_edit(), plan)

    def agreed(comparisons) -> int:
        return sum(20 if each.first_divergence is None else each.first_divergence for each in comparisons)

    assert agreed(weak) > 2 * agreed(strong)
    assert [each.before.ids for each in weak] == [each.before.ids for each in strong]


def test_samples_and_seeds_differ_and_repeat() -> None:
    model = wrap("llama")
    first = generate(model, PROMPTS[:1], [None], DRAWN)[0]
    assert first[0][0].text != first[1][0].text
    assert generate(model, PROMPTS[:1], [None], DRAWN)[0] == first
    other = SamplingPlan(max_new_tokens=12, samples=2, temperature=0.8, top_p=0.9, seed=4)
    assert generate(model, PROMPTS[:1], [None], other)[0][0] != first[0]


def test_a_prompt_given_twice_is_continued_equally() -> None:
    model = wrap("llama")
    first, _, third = generate(model, ["You", "The garden needs", "You"], [None, strong_edit()], DRAWN)
    for one, other in zip(first, third, strict=True):
        for continuation, again in zip(one, other, strict=True):
            assert continuation.ids == again.ids
            assert continuation.probabilities == pytest.approx(again.probabilities, rel=1e-4)


def test_rows_leave_the_batch_when_they_end() -> None:
    model = wrap("gpt2")
    plan = SamplingPlan(max_new_tokens=30, samples=3, seed=2)
    plain = generate(model, PROMPTS, [None, strong_edit()], plan)
    ends = sorted({each.ids[4] for sides in plain for sample in sides for each in sample if len(each.ids) > 4})[:3]
    ends.append(model.tokenizer.eos_token_id)
    model.network.generation_config.eos_token_id, kept = ends, model.network.generation_config.eos_token_id
    sizes = []
    handle = model.network.register_forward_pre_hook(
        lambda module, given, named: sizes.append(len(named["input_ids"])), with_kwargs=True
    )
    try:
        ended = generate(model, PROMPTS, [None, strong_edit()], plan)
    finally:
        handle.remove()
        model.network.generation_config.eos_token_id = kept
    stops = {*ends}
    for sides, ended_sides in zip(plain, ended, strict=True):
        for sample, ended_sample in zip(sides, ended_sides, strict=True):
            for whole, part in zip(sample, ended_sample, strict=True):
                length = next((place for place, token in enumerate(whole.ids) if token in stops), len(whole.ids))
                assert part.ids == whole.ids[:length]
    assert len(set(sizes[1:])) > 2
    assert sizes[1:] == sorted(sizes[1:], reverse=True)


def test_batches_of_one_row_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap("qwen2")
    edits = [None, strong_edit()]
    whole = generate(model, PROMPTS, edits, DRAWN)
    monkeypatch.setitem(batches.TOKEN_BUDGET, "cpu", 1)
    single = generate(model, PROMPTS, edits, DRAWN)
    assert [[[each.text for each in sample] for sample in sides] for sides in single] == [
        [[each.text for each in sample] for sample in sides] for sides in whole
    ]


def limit_rows(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """Passes of more than `most` rows run out of memory; returns the sizes of all passes, as they come."""
    sizes: list[int] = []
    plain = write.run_model

    def run(model, ids, mask, past=None, keep=1):
        sizes.append(len(ids))
        if len(ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(model, ids, mask, past, keep)

    for module in (decoding, write, batches):
        monkeypatch.setattr(module, "run_model", run)
    return sizes


def test_a_batch_too_large_is_halved_and_written_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap("gpt2")
    edit = strong_edit()
    whole = compare_prompts(model, PROMPTS, edit, DRAWN)
    hooks = count_hooks(model.network)
    sizes = limit_rows(monkeypatch, 3)
    halved = compare_prompts(model, PROMPTS, edit, DRAWN)
    assert max(sizes) > 3
    assert [(each.before.text, each.after.text) for each in halved] == [
        (each.before.text, each.after.text) for each in whole
    ]
    assert count_hooks(model.network) == hooks


def test_a_row_too_large_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap("gpt2")
    limit_rows(monkeypatch, 0)
    with pytest.raises(InputError, match="Not enough memory .* MB .* shorten"):
        generate(model, PROMPTS, [None], GREEDY)


def test_another_error_is_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap("gpt2")

    def fail(*given):
        raise RuntimeError("something else")

    monkeypatch.setattr(decoding, "run_model", fail)
    hooks = count_hooks(model.network)
    with pytest.raises(RuntimeError, match="something else"):
        generate(model, PROMPTS, [None, strong_edit()], GREEDY)
    assert count_hooks(model.network) == hooks


def test_progress_counts_prompts_and_stops_the_work_at_once() -> None:
    model = wrap("gpt2")
    calls = []
    compare_prompts(model, PROMPTS, strong_edit(), GREEDY, lambda *call: calls.append(call))
    for stage in ("continuations", "probabilities"):
        done = [call[1] for call in calls if call[0] == stage]
        assert done == sorted(done)
        assert done[-1] == next(call[2] for call in calls if call[0] == stage)
    assert calls[0] == ("continuations", 0, len(PROMPTS))
    before, hooks = copy_parameters(model.network), count_hooks(model.network)
    passes = []
    handle = model.anatomy.trunk.register_forward_hook(lambda *given: passes.append(1))

    def stop(stage: str, done: int, total: int) -> None:
        if len(passes) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        compare_prompts(model, PROMPTS, strong_edit(), GREEDY, stop)
    handle.remove()
    assert len(passes) == 3
    assert count_hooks(model.network) == hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())


def test_generating_leaves_the_model_as_it_was() -> None:
    model = wrap("gemma3")
    before, hooks = copy_parameters(model.network), count_hooks(model.network)
    compare_prompts(model, PROMPTS, strong_edit(), DRAWN)
    assert count_hooks(model.network) == hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())


@pytest.mark.parametrize("starts", [False, True], ids=["no start token", "start token"])
def test_a_prompt_longer_than_the_context_is_cut_from_the_left(starts: bool) -> None:
    model = wrap("gpt2")
    if starts:
        tokenizer = deepcopy(model.tokenizer)
        start = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start[0]} $A", special_tokens=[start])
        model = replace(model, tokenizer=tokenizer)
    text = " ".join(reversed(SENTENCES))
    ids = model.tokenizer(text)["input_ids"]
    assert len(ids) > CONTEXT
    (comparison,) = compare_prompts(model, [text], strong_edit(), GREEDY)
    assert comparison.cut == len(ids) + 12 - CONTEXT
    kept = ids[comparison.cut :]
    if starts:
        kept = [model.tokenizer.bos_token_id, *ids[comparison.cut + 1 :]]
    assert encode_prompt(model, text, GREEDY).ids == tuple(kept)
    with torch.no_grad():
        alone = model.network.generate(torch.tensor([kept]), do_sample=False, max_new_tokens=12, pad_token_id=0)
    assert comparison.before.ids == tuple(alone[0, CONTEXT - 12 :].tolist())
    assert comparison.prompt == text


def test_no_room_for_a_prompt_names_what_is_possible() -> None:
    model = wrap("gpt2", context=16)
    with pytest.raises(InputError, match="ask for 15 or fewer"):
        generate(model, PROMPTS, [None], SamplingPlan(max_new_tokens=16))


def test_an_empty_prompt_starts_from_the_start_token(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrap("gpt2")
    ((sample,),) = generate(model, [""], [None], GREEDY)
    with torch.no_grad():
        start = torch.tensor([[model.tokenizer.bos_token_id]])
        alone = model.network.generate(start, do_sample=False, max_new_tokens=12, pad_token_id=0)
    assert sample[0].ids == tuple(token for token in alone[0, 1:].tolist() if token != model.tokenizer.eos_token_id)
    monkeypatch.setattr(type(model.tokenizer), "bos_token_id", None, raising=False)
    monkeypatch.setattr(type(model.tokenizer), "eos_token_id", None, raising=False)
    with pytest.raises(InputError, match="empty"):
        generate(model, [""], [None], GREEDY)


def test_scores_that_are_not_numbers_are_told() -> None:
    model = wrap("gpt2", n_embd=32)
    model.anatomy.final_norm.weight[0] = torch.nan
    with pytest.raises(InputError, match="not numbers"):
        generate(model, PROMPTS, [None], GREEDY)


def test_tokens_join_to_the_text_after_the_prompt() -> None:
    model = wrap("gpt2")
    for sides in generate(model, PROMPTS, [None, strong_edit()], DRAWN):
        for each in (continuation for sample in sides for continuation in sample):
            assert "".join(each.tokens) == each.text
            assert len(each.tokens) == len(each.ids) == len(each.probabilities)
            assert "<|endoftext|>" not in each.text


def test_nothing_to_write_is_no_error() -> None:
    model = wrap("gpt2")
    assert generate(model, [], [None], GREEDY) == []
    assert compare_prompts(model, [], strong_edit(), GREEDY) == ()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [((1, 2), (1, 2), None), ((1, 2), (1, 3), 1), ((1,), (1, 2), 1), ((), (), None), ((), (4,), 0)],
)
def test_the_first_divergence_counts_an_early_end(before, after, expected) -> None:
    assert find_divergence(before, after) == expected


def test_a_prompt_of_megabytes_is_cut_before_it_is_tokenized(monkeypatch):
    model = wrap("gpt2")
    seen = []
    own = model.tokenizer.__class__.__call__

    def watch(self, text, **settings):
        seen.append(len(text))
        return own(self, text, **settings)

    monkeypatch.setattr(model.tokenizer.__class__, "__call__", watch)
    words = "What a fair day. " * 1_200_000
    plan = SamplingPlan(max_new_tokens=4)
    found = encode_prompt(model, words, plan)
    assert max(seen) <= write.CHARACTERS_A_TOKEN * CONTEXT and len(found.ids) == CONTEXT - 4
    short = encode_prompt(model, words[-2000:], plan)
    assert found.ids == short.ids
    whole = len(words) / 2000 * (short.cut + len(short.ids))
    assert found.cut == pytest.approx(whole, rel=0.01)


def test_more_than_anybody_waits_for_is_one_sentence_at_once():
    model = wrap("gpt2")
    with pytest.raises(InputError, match="100,000 prompts with 100 samples of 1,024 tokens.*take fewer"):
        generate(model, ["a"] * 100_000, [None], SamplingPlan(max_new_tokens=1024, samples=100))


CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_by_the_chat_template_a_prompt_is_what_a_person_says_and_the_model_answers():
    model = open_tiny("gpt2")
    model.tokenizer.chat_template = CHAT
    plain, chat = SamplingPlan(max_new_tokens=4), SamplingPlan(max_new_tokens=4, chat=True)
    prompt = encode_prompt(model, "the lamp", chat)
    assert prompt.text == "the lamp" and prompt.cut == 0
    assert model.tokenizer.decode(prompt.ids) == "<user>the lamp</s><assistant>" != "the lamp"
    assert encode_prompt(model, "the lamp", plain).ids != prompt.ids
    ((written,),), ((other,),) = (generate(model, ["the lamp"], [None], plan)[0] for plan in (plain, chat))
    assert (
        len(other.tokens) <= 4
        and other.text != ""
        and (written.ids, written.probabilities)
        != (
            other.ids,
            other.probabilities,
        )
    )


def test_a_prompt_too_long_for_its_chat_template_loses_its_beginning_and_no_more():
    model = open_tiny("gpt2")
    model.tokenizer.chat_template = CHAT
    plan = SamplingPlan(max_new_tokens=4, chat=True)
    long = " ".join(f"word{number}" for number in range(400))
    prompt = encode_prompt(model, long, plan)
    read = model.tokenizer.decode(prompt.ids)
    assert len(prompt.ids) <= model.context - 4 and prompt.cut > 0
    assert read.startswith("<user>") and read.endswith("word399</s><assistant>")


@pytest.mark.parametrize(
    ("template", "says"), [(None, "no chat template"), ("{{ raise_exception('no <b>') }}", "takes no text")]
)
def test_a_model_without_a_fitting_chat_template_is_one_sentence(template, says):
    model = open_tiny("gpt2")
    model.tokenizer.chat_template = template
    with pytest.raises(InputError, match=says):
        encode_prompt(model, "the lamp", SamplingPlan(chat=True))


def test_an_instruction_and_the_chat_template_do_not_go_together():
    model = open_tiny("gpt2")
    model.tokenizer.chat_template = CHAT
    with pytest.raises(InputError, match="already"):
        encode_prompt(model, "the lamp", SamplingPlan(chat=True), prefix=(1,))
