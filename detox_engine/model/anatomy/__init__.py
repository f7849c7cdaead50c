"""Where things are in a model: its blocks, what their MLPs and attentions write with, the final norm, the unembedding.

Found by structure and by watching one pass over three tokens, never by the names of families. Each part has
exactly one match, or an InputError says what was looked for.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from detox_engine.errors import InputError, first_line
from detox_engine.model.anatomy.calls import ADVICE, Call, copy_arguments, first_tensor, kind, last_call, same
from detox_engine.model.anatomy.mixture import find_experts, find_mixture, make_mixture
from detox_engine.model.anatomy.projection import OutputProjection, is_linear, make_dense
from detox_engine.model.placement import copy_plainly, find_device, find_hook
from detox_engine.plans.edit import Site, Sites
from detox_engine.plans.layers import check_layers

TRACED = (2, 3)
"""Texts and tokens of the pass by which parts are found."""


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
    """Width of the MLPs, of the widest where blocks differ; of a mixture that of all experts together."""
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
    check_placed(model)
    experts = {block: find_experts(block, unembedding.weight.shape[1]) for block in blocks}
    calls, final = trace(model, trunk, {part for block in blocks if experts[block] for part in block.modules()})
    check_stream(model, blocks, calls)
    hidden = stream_width(model, blocks, calls, unembedding)
    final_norm = find_final_norm(model, blocks, calls, final)
    names = {module: name for name, module in model.named_modules()}
    mixers = {block: find_mixer(block, experts[block]) for block in blocks}
    layouts: dict[tuple, int] = {}
    values = []
    for block in blocks:
        if experts[block]:
            whole, tensors = find_mixture(names, block, calls, hidden, mixers[block], experts[block], layouts)
            values.append(make_mixture(names, whole, tensors, find_gain(names, block, calls, whole)))
        else:
            values.append(find_value_layer(names, block, calls, hidden, mixers[block]))
    attention = tuple(find_attention_output(names, block, calls, hidden, mixers[block]) for block in blocks)
    inner = max(value.inner for value in values)
    vocab = unembedding.weight.shape[0]
    return Anatomy(trunk, blocks, tuple(values), attention, final_norm, unembedding, hidden, inner, vocab)


def check_placed(model: PreTrainedModel) -> None:
    """Refuse a split model with weights that nothing brings before they are used."""
    for name, part in model.named_modules():
        empty = [own for own, weight in part.named_parameters(recurse=False) if weight.device.type == "meta"]
        if empty and find_hook(part) is None:
            raise InputError(
                f"The weights of {name}, such as {empty[0]}, were left empty (on the device “meta”) and nothing brings "
                "them before they are used: load the model with --device-map auto, or whole on one device."
            )


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


@torch.no_grad()
def trace(model: PreTrainedModel, trunk: nn.Module, repeated: set[nn.Module]) -> tuple[list[Call], Tensor]:
    """Run two texts of three tokens that differ in the last.

    Every module's call in the order of finishing, and the last hidden states `[6, hidden]`.

    Tensors are copied because some blocks go on to change them in place (Falcon adds into its MLP's output).

    Args:
        repeated: modules whose calls are kept such that they can be made again.

    Raises:
        InputError: the model cannot be run so.
    """
    calls: list[Call] = []

    def flat(first: Tensor | None) -> Tensor | None:
        if first is None or first.dim() == 0 or not first.is_floating_point():
            return None
        # Blocks of a split model lie on several devices.
        return first.detach().reshape(-1, first.shape[-1]).to("cpu", copy=True)

    def record(module: nn.Module, given: tuple, named: dict, returned: object) -> None:
        out = first_tensor(returned)
        again = copy_arguments(given, named) if module in repeated else None
        shape = () if out is None else tuple(out.shape)
        calls.append(Call(module, flat(first_tensor(given)), flat(out), shape, again))

    tokens = torch.tensor([[2, 3, 4], [2, 3, 2]], device=find_device(model))
    before = {id(each) for part in trunk.modules() for each in vars(part).values()}
    try:
        with ExitStack() as hooks:
            for part in trunk.modules():
                if part is not trunk:
                    hooks.enter_context(part.register_forward_hook(record, with_kwargs=True))
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
    return calls, output[0].reshape(-1, output[0].shape[-1]).cpu()


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
    names: dict[nn.Module, str], block: nn.Module, calls: Sequence[Call], hidden: int, within: set[nn.Module]
) -> OutputProjection:
    """The linear layer of `block` that writes the MLP's result, `hidden` wide, outside of its attention `within`."""
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
    names: dict[nn.Module, str], block: nn.Module, calls: Sequence[Call], hidden: int, within: set[nn.Module]
) -> OutputProjection | None:
    """The linear layer that writes the result of the attention `within` `block`, or of what mixes tokens in its place.

    It is the one that ends it, `hidden` wide.

    Queries, keys and values, which can be as wide, are projected before it. None where the last linear layer of the
    attention is of another width, or a norm behind it is not supported: the model can be edited at its MLPs still.
    """
    found = linear_calls(calls, within)
    if not found or found[-1].returned.shape[1] != hidden:
        return None
    try:
        return make_projection(names, "attention", block, calls, found[-1])
    except InputError:
        return None


def find_mixer(block: nn.Module, experts: Sequence[nn.Module] = ()) -> set[nn.Module]:
    """What mixes tokens in `block`, with every module within: its attention.

    In a block of a hybrid that has none it is the part with weights of another kind than those of linear layers and
    norms, such as a convolution's.
    """
    attention = {module for module in block.modules() if "Attention" in kind(module) and module is not block}
    mixers = attention or {
        part
        for part in block.children()
        if any(has_own_weights(each) for each in part.modules()) and not set(experts) & set(part.modules())
    }
    return {part for module in mixers for part in module.modules()}


def has_own_weights(module: nn.Module) -> bool:
    """Whether it has weights and is neither a linear layer nor a norm."""
    known = is_linear(module) or "Norm" in kind(module)
    return not known and next(module.parameters(recurse=False), None) is not None


def linear_calls(calls: Sequence[Call], modules: set[nn.Module]) -> list[Call]:
    """The calls of those of `modules` that are linear, in the order of finishing."""
    return [call for call in calls if call.module in modules and is_linear(call.module)]


def make_projection(
    names: dict[nn.Module, str], site: Site, block: nn.Module, calls: Sequence[Call], written: Call
) -> OutputProjection:
    """The projection whose call in the traced pass is `written`; raises an InputError like `find_gain`."""
    return make_dense(names[written.module], site, written.module, find_gain(names, block, calls, written))


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
    probe = copy_plainly(norm)
    device = next((parameter.device for parameter in probe.parameters()), None)
    signs = torch.ones(hidden, device=device)
    signs[1::2] = -1
    return (probe(64 * signs) - probe(-64 * signs)) / 2 * signs
