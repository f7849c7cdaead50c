"""Where things are in a model: its blocks, what their MLPs and attentions write with, the final norm, the unembedding.

Found by structure and by watching one pass over three tokens, never by the names of families. Each part has
exactly one match, or an InputError says what was looked for.
"""

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from detox_engine.errors import InputError, first_line
from detox_engine.plans.edit import Site, Sites
from detox_engine.plans.layers import check_layers

ADVICE = "use a decoder-only language model such as GPT-2, Llama, Qwen or Gemma, or the bundled model"
TRACED = (2, 3)
"""Texts and tokens of the pass by which parts are found."""


@dataclass(frozen=True, eq=False)
class OutputProjection:
    """What writes an MLP's or an attention's result into the residual stream of one block."""

    name: str
    """Full dotted name in the model, such as `transformer.h.3.mlp.c_proj`."""

    site: Site
    """Whose result it writes."""

    module: nn.Module
    """Linear or Conv1D."""

    transposed: bool
    """True: `module.weight` is `[hidden, inner]` (Linear); False: `[inner, hidden]` (Conv1D)."""

    gain: Tensor | None
    """`[hidden]` what a norm between this layer and the residual stream multiplies the output with elementwise
    (Gemma 2 and 3), float32; None where the output joins the stream as it is."""

    @property
    def rows(self) -> Tensor:
        """`[inner, hidden]` the matrix that writes, a view of the weight; an MLP's rows are its value vectors."""
        return self.module.weight.T if self.transposed else self.module.weight

    @property
    def bias(self) -> Tensor | None:
        """`[hidden]`, or None where the layer has none."""
        return self.module.bias if isinstance(self.module, Conv1D | nn.Linear) else None


@dataclass(frozen=True)
class Anatomy:
    """The parts of a causal language model that the method reads and edits."""

    trunk: nn.Module
    """The model without its head: `trunk(input_ids=, attention_mask=, use_cache=)`."""

    blocks: tuple[nn.Module, ...]
    """Layer 0 first."""

    values: tuple[OutputProjection, ...]
    """Of the MLPs, one for each block."""

    attention_outputs: tuple[OutputProjection | None, ...]
    """Of the attentions, one for each block; None where it was not found, so that only the MLP can be edited there."""

    final_norm: nn.Module
    """What stands between the last block and the unembedding."""

    unembedding: nn.Module
    """Its `weight` is `[vocab, hidden]`."""

    hidden: int
    inner: int
    """Width of the MLPs, of the widest where blocks differ."""
    vocab: int

    @property
    def layers(self) -> int:
        return len(self.blocks)

    def value_at(self, layer: int) -> OutputProjection:
        """What writes the MLP's result of `layer`; raises an InputError where the model has no such layer."""
        return self.written_at(layer, "mlp")[0]

    def written_at(self, layer: int, sites: Sites) -> tuple[OutputProjection, ...]:
        """What writes into the residual stream at these sites of `layer`, attention first.

        Raises:
            InputError: the model has no such layer, or what its attention writes with was not found.
        """
        check_layers((layer,), self.layers)
        attention, mlp = self.attention_outputs[layer], self.values[layer]
        if sites == "mlp":
            return (mlp,)
        if attention is None:
            raise InputError(
                f"What writes the attention's result at layer {layer} was not found: looked for attention that ends in "
                f"a linear layer of the block's width of {self.hidden}, with one RMS norm behind it or none; edit the "
                "MLPs alone (sites mlp)."
            )
        return (attention,) if sites == "attention" else (attention, mlp)

    @property
    def norm_gain(self) -> Tensor:
        """`[hidden]` what the final norm multiplies with elementwise, float32."""
        return read_gain(self.final_norm, self.hidden)


class Call(NamedTuple):
    """One finished call of a module during the traced pass; tensors are copies, `[tokens, width]`."""

    module: nn.Module
    given: Tensor | None
    returned: Tensor | None
    shape: tuple[int, ...]
    """What was returned had before it was flattened; empty where that is no tensor."""


def block_output(output: Tensor | Sequence) -> Tensor:
    """The residual stream `[batch, tokens, hidden]` out of what a block's forward returns."""
    return output if isinstance(output, Tensor) else output[0]


def find_anatomy(model: PreTrainedModel) -> Anatomy:
    """Find the parts of `model`; runs its trunk once, over three tokens.

    Raises:
        InputError: a part is missing, has several matches, or is of a kind that is not supported.
    """
    unembedding = find_unembedding(model)
    trunk, blocks = find_blocks(model)
    check_dense(model, blocks, unembedding.weight.shape[1])
    calls, final = trace(model, trunk)
    check_stream(model, blocks, calls)
    hidden = stream_width(model, blocks, calls, unembedding)
    final_norm = find_final_norm(model, blocks, calls, final)
    names = {module: name for name, module in model.named_modules()}
    values = tuple(find_value_layer(names, block, calls, hidden) for block in blocks)
    attention = tuple(find_attention_output(names, block, calls, hidden) for block in blocks)
    inner = max(value.rows.shape[0] for value in values)
    vocab = unembedding.weight.shape[0]
    return Anatomy(trunk, blocks, values, attention, final_norm, unembedding, hidden, inner, vocab)


def find_unembedding(model: PreTrainedModel) -> nn.Module:
    """The head that turns the residual stream into a score for each token of the vocabulary."""
    head = model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if weight is None or weight.dim() != 2:
        raise InputError(f"{kind(model)} has no unembedding, a head that scores every token: {ADVICE}.")
    return head


def find_blocks(model: PreTrainedModel) -> tuple[nn.Module, tuple[nn.Module, ...]]:
    """The model without its head, and the one outermost list of `num_hidden_layers` modules in it."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    # ModernBERT's decoder calls its unembedding a decoder, and a model of texts and pictures has its trunk deeper.
    for trunk in dict.fromkeys((model.get_decoder(), model.base_model)):
        lists = {name: part for name, part in trunk.named_modules() if isinstance(part, nn.ModuleList)}
        outermost = [
            part
            for name, part in lists.items()
            if not any(name.startswith(f"{other}.") for other in lists) and len(part) == count
        ]
        if len(outermost) == 1:
            return trunk, tuple(outermost[0])
    raise InputError(
        f"The blocks of {kind(model)} were not found: looked for one list of {count} modules in {kind(trunk)} and "
        f"found {len(outermost)}; {ADVICE}."
    )


def check_dense(model: PreTrainedModel, blocks: Sequence[nn.Module], hidden: int) -> None:
    """Refuse mixtures of experts, recognised by what is inside a block, whatever the classes are called.

    That is weights of three dimensions, the experts' number and twice a width, one of them the stream's; or a list of
    several modules that each write into the stream.
    """
    for part in dict.fromkeys(part for block in blocks for part in block.modules()):
        own = part.parameters(recurse=False)
        fused = any(each.dim() == 3 and hidden in each.shape[1:] and min(each.shape) > 1 for each in own)
        listed = isinstance(part, nn.ModuleList) and sum(writes(each, hidden) for each in part) > 1
        if (fused and not isinstance(part, nn.modules.conv._ConvNd)) or listed:
            raise InputError(
                f"{kind(model)} is a mixture of experts (found {kind(part)} in a block), which is not supported yet: "
                f"{ADVICE}."
            )


def writes(module: nn.Module, hidden: int) -> bool:
    """Whether it has a linear layer that gives `hidden` numbers."""
    layers = (part for part in module.modules() if isinstance(part, nn.Linear | Conv1D))
    return any(layer.weight.shape[0 if isinstance(layer, nn.Linear) else 1] == hidden for layer in layers)


@torch.no_grad()
def trace(model: PreTrainedModel, trunk: nn.Module) -> tuple[list[Call], Tensor]:
    """Run two texts of three tokens that differ in the last.

    Every module's call in the order of finishing, and the last hidden states `[6, hidden]`.

    Tensors are copied because some blocks go on to change them in place (Falcon adds into its MLP's output).

    Raises:
        InputError: the model cannot be run so.
    """
    calls: list[Call] = []

    def flat(first: Tensor | None) -> Tensor | None:
        if first is None or first.dim() == 0 or not first.is_floating_point():
            return None
        return first.detach().reshape(-1, first.shape[-1]).clone()

    def record(module: nn.Module, given: tuple, returned: object) -> None:
        out = first_tensor(returned)
        calls.append(Call(module, flat(first_tensor(given)), flat(out), () if out is None else tuple(out.shape)))

    tokens = torch.tensor([[2, 3, 4], [2, 3, 2]], device=model.device)
    before = {id(each) for part in trunk.modules() for each in vars(part).values()}
    try:
        with ExitStack() as hooks:
            for part in trunk.modules():
                if part is not trunk:
                    hooks.enter_context(part.register_forward_hook(record))
            output = trunk(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False)
    except Exception as error:  # whatever a family's own code raises
        raise InputError(f"{kind(model)} cannot be run over three tokens ({first_line(error)}): {ADVICE}.") from error
    for part in trunk.modules():
        new = [each for each in vars(part).values() if isinstance(each, Tensor) and id(each) not in before]
        if any(each.dim() > 1 and len(each) == TRACED[0] for each in new):
            raise InputError(
                f"{kind(model)} keeps in its {kind(part)} what it has read, so that texts that are read side by side "
                f"would mix: {ADVICE}."
            )
    return calls, output[0].reshape(-1, output[0].shape[-1])


def first_tensor(value: object) -> Tensor | None:
    """What a module is given or gives first; None where that is no tensor."""
    first = value[0] if isinstance(value, tuple | list) and value else value
    return first if isinstance(first, Tensor) else None


def check_stream(model: PreTrainedModel, blocks: Sequence[nn.Module], calls: Sequence[Call]) -> None:
    """Refuse a model whose blocks give anything but `[texts, tokens, hidden]`, or look ahead in the text."""
    for block in blocks:
        call = next((call for call in reversed(calls) if call.module is block), None)
        shape = call.shape if call is not None else ()
        if len(shape) != 3 or shape[:2] != TRACED:
            raise InputError(
                f"{kind(model)} cannot be read block by block: two texts of three tokens leave {kind(block)} as "
                f"{list(shape)}, where [2, 3, hidden] is looked for; {ADVICE}."
            )
        # Of a sink's state of 23,000 the rounding is larger than other states: what counts is its share of the state.
        one, other = call.returned.view(shape)[:, :2].float()
        rounding = torch.finfo(call.returned.dtype).eps ** 0.5
        if bool(((one - other).norm(dim=-1) > rounding * one.norm(dim=-1)).any()):
            raise InputError(
                f"{kind(model)} reads ahead: what {kind(block)} makes of two tokens depends on the third, so it does "
                f"not continue a text from left to right; {ADVICE}."
            )


def stream_width(
    model: PreTrainedModel, blocks: Sequence[nn.Module], calls: Sequence[Call], unembedding: nn.Module
) -> int:
    """Width of the residual stream as the last block leaves it; the unembedding must read the same width."""
    width = last_call(calls, blocks[-1]).returned.shape[1]
    if unembedding.weight.shape[1] != width:
        raise InputError(
            f"The residual stream of {kind(model)} is {width} wide and its unembedding {unembedding.weight.shape[1]}: "
            f"models with a projection in between, such as opt-350m, are not supported; {ADVICE}."
        )
    return width


def find_final_norm(
    model: PreTrainedModel, blocks: Sequence[nn.Module], calls: Sequence[Call], final: Tensor
) -> nn.Module:
    """The one module that takes what the last block returns and gives the trunk's last hidden state."""
    stream = last_call(calls, blocks[-1]).returned
    inside = {part for block in blocks for part in block.modules()}
    found = {
        call.module
        for call in calls
        if call.module not in inside and same(call.given, stream) and same(call.returned, final)
    }
    if len(found) != 1:
        raise InputError(
            f"The final normalisation of {kind(model)} was not found: looked for one module that takes the last "
            f"block's output and gives the last hidden state, and found {len(found)}; {ADVICE}."
        )
    return found.pop()


def find_value_layer(
    names: dict[nn.Module, str], block: nn.Module, calls: Sequence[Call], hidden: int
) -> OutputProjection:
    """The linear layer of `block` that writes the MLP's result, `hidden` wide, outside of any attention."""
    within = find_mixer(block)
    found = [call for call in linear_calls(calls, set(block.modules()) - within) if call.returned.shape[1] == hidden]
    square = all(call.given.shape[1] == hidden for call in found)
    if not within or not found or (len(found) > 1 and not square):
        listed = ", ".join(names[call.module] for call in found) or "none"
        raise InputError(
            f"The value layer of {names[block]} ({kind(block)}) was not found: looked for attention, or what stands in "
            f"its place, and, outside of it, one linear layer that gives the block's width of {hidden}, and found "
            f"{listed}; {ADVICE}."
        )
    return make_projection(names, "mlp", block, calls, found[-1])


def find_attention_output(
    names: dict[nn.Module, str], block: nn.Module, calls: Sequence[Call], hidden: int
) -> OutputProjection | None:
    """The linear layer that writes the result of the attention of `block`, or of what mixes tokens in its place.

    It is the one that ends it, `hidden` wide.

    Queries, keys and values, which can be as wide, are projected before it. None where the last linear layer of the
    attention is of another width, or a norm behind it is not supported: the model can be edited at its MLPs still.
    """
    found = linear_calls(calls, find_mixer(block))
    if not found or found[-1].returned.shape[1] != hidden:
        return None
    try:
        return make_projection(names, "attention", block, calls, found[-1])
    except InputError:
        return None


def find_mixer(block: nn.Module) -> set[nn.Module]:
    """What mixes tokens in `block`, with every module within: its attention.

    In a block of a hybrid that has none it is the part with weights of another kind than those of linear layers and
    norms, such as a convolution's.
    """
    attention = {module for module in block.modules() if "Attention" in kind(module) and module is not block}
    mixers = attention or {part for part in block.children() if any(has_own_weights(each) for each in part.modules())}
    return {part for module in mixers for part in module.modules()}


def has_own_weights(module: nn.Module) -> bool:
    """Whether it has weights and is neither a linear layer nor a norm."""
    known = isinstance(module, nn.Linear | Conv1D) or "Norm" in kind(module)
    return not known and next(module.parameters(recurse=False), None) is not None


def linear_calls(calls: Sequence[Call], modules: set[nn.Module]) -> list[Call]:
    """The calls of those of `modules` that are linear, in the order of finishing."""
    return [call for call in calls if call.module in modules and isinstance(call.module, nn.Linear | Conv1D)]


def make_projection(
    names: dict[nn.Module, str], site: Site, block: nn.Module, calls: Sequence[Call], written: Call
) -> OutputProjection:
    """The projection whose call in the traced pass is `written`; raises an InputError like `find_gain`."""
    transposed = isinstance(written.module, nn.Linear)
    gain = find_gain(names, block, calls, written)
    return OutputProjection(names[written.module], site, written.module, transposed, gain)


def find_gain(names: dict[nn.Module, str], block: nn.Module, calls: Sequence[Call], written: Call) -> Tensor | None:
    """The gain of the norm in `block` that takes the output of the call `written` unchanged, or None without one."""
    own = set(block.modules())
    later = calls[next(index for index, call in enumerate(calls) if call is written) + 1 :]
    norms = [
        call
        for call in later
        if call.module in own and "Norm" in kind(call.module) and same(call.given, written.returned)
    ]
    if not norms:
        return None
    if len(norms) > 1 or isinstance(norms[0].module, nn.LayerNorm):
        raise InputError(
            f"What normalises the output of {names[written.module]} is not supported: looked for one RMS norm and "
            f"found {', '.join(f'{names[call.module]} ({kind(call.module)})' for call in norms)}; {ADVICE}."
        )
    return read_gain(norms[0].module, written.returned.shape[1])


@torch.no_grad()
def read_gain(norm: nn.Module, hidden: int) -> Tensor:
    """`[hidden]` float32: what `norm` multiplies a normalised state with, read off from what it does.

    A state of entries ±64 with mean zero is normalised to ±1 by LayerNorm and RMSNorm alike (their epsilon is lost
    beside 64²), so half of norm(x) − norm(−x) is the gain times the signs, whatever the bias and however the weight
    is stored (Gemma keeps it minus one).
    """
    probe = copy.deepcopy(norm).float()
    device = next((parameter.device for parameter in probe.parameters()), None)
    signs = torch.ones(hidden, device=device)
    signs[1::2] = -1
    return (probe(64 * signs) - probe(-64 * signs)) / 2 * signs


def last_call(calls: Sequence[Call], module: nn.Module) -> Call:
    return next(call for call in reversed(calls) if call.module is module)


def same(one: Tensor | None, other: Tensor) -> bool:
    # NaN equals NaN here: weights that are not finite get their own sentence when texts are embedded.
    return one is not None and one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def kind(module: nn.Module) -> str:
    """The class of a module, by name."""
    return type(module).__name__
