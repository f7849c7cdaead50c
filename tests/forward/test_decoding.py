"""A cache that stays where it is gives what one that grows gives, by a step that is recorded once and then repeated.

The recording is a CUDA graph's double: it holds the operations of a step and repeats them on the memory that they
used, without the Python around them, and refuses what waits for a GPU.
"""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from detox_engine.edit.change import Change
from detox_engine.forward import decoding, write
from detox_engine.forward.decoding import DynamicDecoding, StaticDecoding, run_on, stays
from detox_engine.forward.shared_layers import run_prompts
from detox_engine.forward.write import Row, Written, encode_prompt, write_rows
from detox_engine.model.batches import pad_left
from detox_engine.model.load import OpenModel
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec
from tests.edit.test_change import changes
from tests.edit.test_edit import count_hooks, draw_edit
from tests.models import CONTEXT, fresh_model, open_tiny, tiny_tokenizer

PROMPTS = ("You burnt the soup again", "What", "My neighbour plays the trumpet at night")
EDITS = (None, draw_edit((1, 2), rank=3, strength=2.0))
DRAWN = SamplingPlan(max_new_tokens=8, samples=2, temperature=0.8, seed=3)
GREEDY = SamplingPlan(max_new_tokens=8, greedy=True)
STAY = (
    *("gpt2", "gptj", "gpt_neox", "opt", "llama", "mistral", "gemma2", "gemma3", "phi", "bloom", "gpt_bigcode"),
    *("mixtral", "qwen2_moe", "gpt_oss"),
)
GROW = ("gpt_neo", "falcon", "falcon_new_decoder", "falcon_sequential", "qwen3_5", "lfm2", "bamba")
"""GPT-Neo and Falcon copy numbers to the device in every step; the others hold more than keys and values."""
WINDOWS = {family: {"sliding_window": 8} for family in ("mistral", "gemma2", "gemma3", "gpt_oss")}

aten = torch.ops.aten
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.bincount.default}
"""Operations whose result a GPU's host waits for."""
COPIES = {aten.lift_fresh.default}
"""What brings numbers of Python's into a tensor, which a GPU's host copies to it."""


class Recording(TorchDispatchMode):
    """What runs inside, to be repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple] = []

    def __torch_dispatch__(self, operation: Callable, types: Sequence, given: tuple = (), named: dict | None = None):
        indices = given[1] if operation in (aten.index.Tensor, aten.index_put_.default) else ()
        sought = any(index is not None and index.dtype == torch.bool for index in indices)
        if operation in WAITS | COPIES or sought:
            raise RuntimeError(f"{operation} cannot be recorded")
        result = operation(*given, **(named or {}))
        self.held.append((operation, given, named or {}, result))
        return result

    def repeat(self) -> None:
        for operation, given, named, result in self.held:
            for held, again in zip(tree_leaves(result), tree_leaves(operation(*given, **named)), strict=True):
                # A view is of memory that was repeated already.
                if held.untyped_storage().data_ptr() != again.untyped_storage().data_ptr():
                    held.copy_(again)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps are recorded and repeated; the rows of each recording, as they are made.

    No model was tried before, no token ends a text, and it takes few steps for a recording to be worth it.
    """
    sizes: list[int] = []

    def record(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
        step()
        recording = Recording()
        with recording:
            logits = step()
        sizes.append(len(logits))
        logits.zero_()

        def repeat() -> Tensor:
            recording.repeat()
            return logits

        return repeat

    monkeypatch.setattr(decoding, "record_step", record)
    monkeypatch.setattr(decoding, "_STAYS", WeakKeyDictionary())
    monkeypatch.setattr(decoding, "FEWEST_STEPS", 2)
    monkeypatch.setattr(write, "find_ends", lambda model: frozenset())
    return sizes


def open_windowed(family: str) -> OpenModel:
    """The family's tiny model; where attention can have a window, a model with one that is shorter than the texts."""
    if family not in WINDOWS:
        return open_tiny(family)
    network = fresh_model(family, **WINDOWS[family])
    return OpenModel(ModelSpec(), network, tiny_tokenizer(), None, "sha256:0", CONTEXT)


def make_rows(model: OpenModel, plan: SamplingPlan, edits: Sequence[Change | None] = EDITS) -> list[Row]:
    prompts = [encode_prompt(model, prompt, plan) for prompt in PROMPTS]
    return [Row(prompt, sample, edit) for prompt in prompts for sample in range(plan.samples) for edit in edits]


def write_by(
    static: bool | None, model: OpenModel, plan: SamplingPlan = DRAWN, edits: Sequence[Change | None] = EDITS
) -> dict[Row, Written]:
    return write_rows(model, make_rows(model, plan, edits), plan, lambda share: None, static)


def assert_same(one: dict[Row, Written], other: dict[Row, Written]) -> None:
    for row in one:
        assert one[row].ids == other[row].ids
        assert one[row].probabilities == pytest.approx(other[row].probabilities, rel=1e-3)


@torch.inference_mode()
def prepare(model: OpenModel) -> tuple:
    """Two prompts under no edit and under one, after the pass over the prompts: the edits, cache, ids and mask."""
    ids, mask = pad_left([[5, 9, 33], [40, 8]], 0, model.device)
    cells = [(prompt, edit) for prompt in range(2) for edit in EDITS]
    _, past = run_prompts(model, ids, mask, cells)
    order = [prompt for prompt, _ in cells]
    return [edit for _, edit in cells], past, ids[order], mask[order]


@torch.inference_mode()
def begin(model: OpenModel, static: bool | None) -> decoding.Decoding:
    return run_on(model, *prepare(model), 20, static)


@pytest.mark.parametrize("family", STAY)
def test_memory_that_stays_gives_what_memory_that_grows_gives(
    family: str, recorded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_windowed(family)
    whole = write_by(False, model)
    assert not recorded and any(whole[row].ids != whole[row._replace(edit=None)].ids for row in whole)
    # Tokens that end most rows after a few steps, and none at once; those that go on are not the first.
    ends = {each.ids[2] for each in list(whole.values())[:-3]} - {each.ids[0] for each in whole.values()}
    lengths = {row: next((at for at, token in enumerate(whole[row].ids) if token in ends), 8) for row in whole}
    monkeypatch.setattr(write, "find_ends", lambda model: ends)
    assert_same({row: Written(*(part[: lengths[row]] for part in whole[row])) for row in whole}, write_by(True, model))
    assert recorded[:2] == [1, len(whole)], "a step is recorded when the model is tried, and once for the batch"
    assert len(recorded) > 2 and recorded[2] == sum(length > 2 for length in lengths.values()) <= len(whole) / 2
    assert stays(model)


@pytest.mark.parametrize("family", GROW)
def test_a_model_that_cannot_stay_grows_and_writes_the_same(family: str, recorded: list[int]) -> None:
    model = open_tiny(family)
    assert isinstance(begin(model, True), DynamicDecoding)
    assert_same(write_by(False, model, GREEDY), write_by(True, model, GREEDY))


def test_a_model_that_comes_out_otherwise_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-Neo counts its window from the cache's last place."""
    monkeypatch.setattr(decoding, "_STAYS", WeakKeyDictionary())
    assert stays(open_tiny("falcon")) and not stays(open_tiny("gpt_neo"))


def test_what_rows_carry_is_part_of_what_is_repeated(recorded: list[int]) -> None:
    model = open_tiny("llama")
    carried = changes(model)
    assert_same(write_by(False, model, GREEDY, carried), write_by(True, model, GREEDY, carried))
    assert stays(model) and recorded[1] == len(PROMPTS) * len(carried)


def test_the_device_says_whether_memory_stays(recorded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_tiny("gpt2")
    assert stays(model)
    assert isinstance(begin(model, None), DynamicDecoding)
    prepared = prepare(model)
    monkeypatch.setattr(OpenModel, "device", torch.device("cuda"))
    kinds = [type(run_on(model, *prepared, decoding.FEWEST_STEPS - fewer)) for fewer in (1, 0)]
    assert kinds == [DynamicDecoding, StaticDecoding]


def test_a_split_model_grows(recorded: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_tiny("gpt2")
    assert isinstance(begin(model, True), StaticDecoding)
    monkeypatch.setattr(OpenModel, "is_split", True)
    assert isinstance(begin(model, True), DynamicDecoding)


@pytest.mark.parametrize("recordings", [0, 1])
def test_a_step_that_cannot_be_recorded_is_run_and_the_model_then_grows(
    recordings: int, recorded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_tiny("gpt2")
    plain = decoding.record_step

    def fail(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
        if len(recorded) == recordings:
            recorded.append(0)
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        return plain(step, device)

    monkeypatch.setattr(decoding, "record_step", fail)
    assert_same(write_by(False, model, GREEDY), write_by(True, model, GREEDY))
    assert recorded[recordings] == 0 and not stays(model)
    made = len(recorded)
    assert isinstance(begin(model, True), DynamicDecoding)
    write_by(True, model, GREEDY)
    assert len(recorded) == made


def test_a_recording_for_which_there_is_no_memory_halves_the_batch(
    recorded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_tiny("gpt2")
    plain, hooks = decoding.record_step, count_hooks(model.network)

    def run_out(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
        repeat = plain(step, device)
        if recorded[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return repeat

    monkeypatch.setattr(decoding, "record_step", run_out)
    assert_same(write_by(False, model, GREEDY), write_by(True, model, GREEDY))
    assert recorded == [1, 6, 3, 3]
    assert stays(model) and count_hooks(model.network) == hooks


@torch.inference_mode()
def test_a_step_that_is_run_again_gives_the_same(recorded: list[int]) -> None:
    with begin(open_windowed("gemma2"), True) as rows:
        first = rows.advance(torch.tensor([5, 6, 7, 8]), range(4)).clone()
        assert torch.equal(rows._step(), first)
        assert not torch.allclose(rows.advance(torch.tensor([5, 6, 7, 8]), range(4)), first, atol=1e-2)
