"""Rows run on from their prompts, a token a step: over a cache that grows, or over one that stays where it is.

A step whose memory stays where it is does the same each time. A GPU records it once, as a CUDA graph, and repeats it
without waiting until Python has launched every kernel anew; the edits are hooks of what is recorded and so belong to
it. In return a row that has ended is computed on until half of them have. A CPU waits for nothing and has every row
leave at once.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, StaticLayer

from detox_engine.edit.change import Change
from detox_engine.edit.in_pass import edited
from detox_engine.forward.shared_layers import is_near
from detox_engine.model.anatomy import Anatomy
from detox_engine.model.batches import run_model
from detox_engine.model.load import OpenModel

FEWEST_STEPS = 8
"""Steps for which a recording is worth it: it takes as long as a few that Python launches."""
TRIED_PLACES = 1024
"""Places of the cache that a model is tried with: more than the windows of code that counts them from its last place,
which comes out wrong there."""

_STAYS: WeakKeyDictionary[Anatomy, bool] = WeakKeyDictionary()
"""Whether a model was seen to run over memory that stays where it is, and to let its steps be recorded."""


class Decoding:
    """Rows of a batch that are run on, each under its edit; what it is entered with is undone when it is left."""

    def __init__(self, model: OpenModel, edits: Sequence[Change | None]) -> None:
        self._model, self._edits, self._hooks = model, list(edits), ExitStack()

    def __enter__(self) -> Self:
        self._carry(range(len(self._edits)))
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.close()

    def _carry(self, kept: Sequence[int]) -> None:
        """The batch is these of its rows from now on."""
        self._edits = [self._edits[row] for row in kept]
        self._hooks.close()
        self._hooks.enter_context(edited(self._model.anatomy, self._edits))

    def advance(self, tokens: Tensor, going: Sequence[int]) -> Tensor:
        """Logits `[going, vocab]` of the rows that go on, after one more token of each.

        Args:
            tokens: `[live]`, one for each row that was live so far.
            going: which of those go on, in rising order; the others have ended.
        """
        raise NotImplementedError


def run_on(
    model: OpenModel,
    edits: Sequence[Change | None],
    past: DynamicCache | None,
    given: Tensor,
    mask: Tensor,
    steps: int,
    static: bool | None = None,
) -> Decoding:
    """What runs rows on after the pass over their prompts, `steps` tokens at most; the caller holds the model's turn.

    Args:
        past: what that pass left, taken over; None where the model cannot be run on from a cache.
        given, mask: `[rows, tokens]`, the prompts, padded on the left.
        static: whether the cache stays where it is if the model allows it; None leaves it to the device.
    """
    if static is None:
        static = model.device.type == "cuda" and steps >= FEWEST_STEPS
    if static and past is not None and _has_plain_layers(past) and not model.is_split and stays(model):
        return StaticDecoding(model, edits, past, mask, steps)
    return DynamicDecoding(model, edits, past, given, mask)


class DynamicDecoding(Decoding):
    """Over a cache that grows by a place a step, or over the whole texts; a row that ends leaves the batch at once."""

    def __init__(
        self,
        model: OpenModel,
        edits: Sequence[Change | None],
        past: DynamicCache | None,
        given: Tensor,
        mask: Tensor,
    ) -> None:
        super().__init__(model, edits)
        self._past, self._given, self._mask = past, given, mask

    def advance(self, tokens: Tensor, going: Sequence[int]) -> Tensor:
        if len(going) < len(self._mask):
            kept = torch.tensor(going, device=self._mask.device)
            tokens, self._given, self._mask = tokens[kept], self._given[kept], self._mask[kept]
            if self._past is not None:
                self._past.reorder_cache(kept)
            self._carry(going)
        self._mask = functional.pad(self._mask, (0, 1), value=1)
        own = tokens[:, None]
        self._given = own if self._past is not None else torch.cat([self._given, own], dim=1)
        return run_model(self._model.network, self._given, self._mask, self._past)[:, -1]


class PlacedLayer(StaticLayer):
    """A layer's keys and values `[rows, heads, places, width]`, written a place at a time.

    The library's own static layers count along in Python where attention has a window, which a recorded step would
    not repeat. Here the place is read from a tensor that all layers share, and a layer with a window holds all places
    too: its mask leaves out what the window does. So a step that is run again writes the same again.
    """

    def __init__(self, grown: DynamicLayer, length: int, places: int, place: Tensor) -> None:
        """Take over what `length` tokens left in `grown`, which is empty afterwards, so that it is not held twice.

        Args:
            place: a whole number, where the next token is written.
        """
        super().__init__(max_cache_len=places)
        self.cumulative_length = place
        self.keys, self.values = (_spread(states, length, places) for states in (grown.keys, grown.values))
        grown.keys = grown.values = None
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        place = self.cumulative_length[None]
        self.keys.index_copy_(2, place, key_states)
        self.values.index_copy_(2, place, value_states)
        return self.keys, self.values

    def keep(self, rows: Tensor) -> None:
        """Hold these rows alone, in new memory."""
        self.keys, self.values = self.keys[rows], self.values[rows]


def _spread(states: Tensor, length: int, places: int) -> Tensor:
    """States of the last of `length` places in memory for `places`, 0 elsewhere: what is masked must be finite too."""
    rows, heads, held, width = states.shape
    wide = states.new_zeros(rows, heads, places, width)
    wide[:, :, length - held : length] = states
    return wide


class StaticDecoding(Decoding):
    """Over memory that stays where it is, by a step that is recorded and repeated.

    Rows that have ended stay in the batch until half of them have; then it is made anew of the others.
    """

    def __init__(
        self, model: OpenModel, edits: Sequence[Change | None], past: DynamicCache, mask: Tensor, steps: int
    ) -> None:
        super().__init__(model, edits)
        self._length, places = mask.shape[1], mask.shape[1] + steps
        self._place = torch.tensor(self._length, device=mask.device)
        self._past = Cache(layers=[PlacedLayer(layer, self._length, places, self._place) for layer in past.layers])
        # The places to come are masked until they are written, so that positions can be counted from it.
        self._mask = functional.pad(mask, (0, steps))
        self._ids = mask.new_zeros(len(mask), 1)
        self._live = torch.arange(len(mask), device=mask.device)
        self._repeat: Callable[[], Tensor] | None = None

    def advance(self, tokens: Tensor, going: Sequence[int]) -> Tensor:
        if len(going) < len(self._live):
            kept = torch.tensor(going, device=self._live.device)
            tokens, self._live = tokens[kept], self._live[kept]
            if 2 * len(going) <= len(self._ids) and self._mask.shape[1] - self._length >= FEWEST_STEPS:
                self._compact()
        self._ids[self._live] = tokens[:, None]
        self._place.fill_(self._length)
        self._mask[:, self._length] = 1
        self._length += 1
        if self._repeat is None:
            self._repeat = self._record()
        return self._repeat()[self._live]

    def _compact(self) -> None:
        """Make the live rows the whole batch, whose step is to be recorded anew."""
        # What was recorded holds memory of its own.
        self._repeat = None
        for layer in self._past.layers:
            layer.keep(self._live)
        self._mask, self._ids = self._mask[self._live], self._ids[self._live]
        self._carry(self._live.tolist())
        self._live = torch.arange(len(self._ids), device=self._ids.device)

    def _record(self) -> Callable[[], Tensor]:
        """The step as it can be repeated; one that cannot be recorded is run as it is, and the model never again so."""
        try:
            return record_step(self._step, self._model.device)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            _STAYS[self._model.anatomy] = False
            return self._step

    def _step(self) -> Tensor:
        return run_model(self._model.network, self._ids, self._mask, self._past)[:, -1]


def record_step(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """What repeats `step` on the tensors that it used, which later steps write to; its result is one tensor each time.

    On anything but CUDA it is the step itself.

    Raises:
        RuntimeError: the step waits for the device, or does else what a CUDA graph cannot hold.
    """
    if device.type != "cuda":
        return step
    with torch.cuda.device(device):
        graph, here, beside = torch.cuda.CUDAGraph(), torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            # What is set up at a first use cannot be recorded.
            step()
        here.wait_stream(beside)
        # The stream is entered here too, since a recording that fails leaves its own the current one. Other threads may
        # use the device meanwhile.
        with (
            torch.cuda.stream(beside),
            torch.cuda.graph(graph, stream=beside, capture_error_mode="thread_local"),
        ):
            logits = step()

    def repeat() -> Tensor:
        graph.replay()
        return logits

    return repeat


def stays(model: OpenModel) -> bool:
    """Whether a cache that stays where it is gives what a pass over the whole text gives, tried on its first use."""
    if model.anatomy not in _STAYS:
        _STAYS[model.anatomy] = True
        if not _try_static(model):
            _STAYS[model.anatomy] = False
    return _STAYS[model.anatomy]


@torch.inference_mode()
def _try_static(model: OpenModel) -> bool:
    """Two steps, the second of which repeats the first, in far more places than they need."""
    ids = torch.tensor([[2, 3, 4, 2, 3]], device=model.device)
    mask = torch.ones_like(ids)
    past = DynamicCache(config=model.network.config)
    places = min(TRIED_PLACES, model.context or TRIED_PLACES)
    try:
        run_model(model.network, ids[:, :3], mask[:, :3], past)
        with StaticDecoding(model, [None], past, mask[:, :3], places - 3) as decoding:
            decoding.advance(ids[:, 3], [0])
            continued = decoding.advance(ids[:, 4], [0])
    except Exception:  # whatever a family's own code raises over a cache that is not its own
        return False
    return is_near(continued, run_model(model.network, ids, mask)[:, -1])


def _has_plain_layers(past: DynamicCache) -> bool:
    """Whether all that it holds are keys and values of earlier tokens."""
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    return all(type(layer) in plain and layer.is_initialized for layer in past.layers)
