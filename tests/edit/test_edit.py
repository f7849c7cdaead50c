"""The edit's faces agree on every family, change what they say and nothing else, and leave nothing behind."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from detox_engine.edit.as_adapter import lora_factors
from detox_engine.edit.control import draw_controls
from detox_engine.edit.in_pass import edited
from detox_engine.edit.in_weights import apply_to_weights, edited_weights, measure_edit
from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.errors import InputError
from detox_engine.model.anatomy import Anatomy, OutputProjection, block_output, find_anatomy
from detox_engine.plans.edit import EditPlan, Sites
from detox_engine.study.subspace import ToxicSubspace
from tests.models import FAMILIES, HIDDEN, LAYERS, fresh_model, tiny_model

IDS = torch.randint(3, 300, (4, 7), generator=torch.Generator().manual_seed(0))
GEMMAS = [family for family in FAMILIES if family.startswith("gemma")]
SITES = ("mlp", "attention", "both")


def draw_basis(rank: int, seed: int, hidden: int = HIDDEN) -> Tensor:
    """`[rank, hidden]` random orthonormal rows."""
    normal = torch.randn(hidden, rank, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(normal).Q.T.contiguous()


def draw_edit(layers: Sequence[int] = (1, 2), rank: int = 2, seed: int = 0, **options) -> LowRankEdit:
    return LowRankEdit({layer: draw_basis(rank, seed + layer) for layer in layers}, **options)


@torch.no_grad()
def read_logits(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    return model(input_ids=ids).logits


def read_written(written: OutputProjection, model: nn.Module) -> Tensor:
    """`[batch * tokens, hidden]` what an output projection writes, as later hooks see it."""
    seen = []
    handle = written.module.register_forward_hook(lambda module, given, out: seen.append(out.clone()))
    try:
        read_logits(model)
    finally:
        handle.remove()
    return seen[0].reshape(-1, seen[0].shape[-1])


def read_values(anatomy: Anatomy, layer: int, model: nn.Module) -> Tensor:
    """`[batch * tokens, hidden]` what the value layer writes, as later hooks see it."""
    return read_written(anatomy.values[layer], model)


def read_block(anatomy: Anatomy, layer: int, model: nn.Module) -> Tensor:
    """`[batch, tokens, hidden]` what the block of a layer, not the first, adds to the residual stream."""
    states: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda module, given, out: states.append(block_output(out).clone()))
        for block in anatomy.blocks[layer - 1 : layer + 1]
    ]
    try:
        read_logits(model)
    finally:
        for handle in handles:
            handle.remove()
    return states[1] - states[0]


def copy_parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def count_hooks(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


def draw_subspaces(kept: int = 4) -> list[ToxicSubspace]:
    return [
        ToxicSubspace(draw_basis(kept, layer), torch.ones(8), torch.ones(HIDDEN), torch.ones(kept))
        for layer in range(LAYERS)
    ]


@pytest.mark.parametrize("edit_bias", [False, True], ids=["bias kept", "bias edited"])
@pytest.mark.parametrize("sites", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_forward_and_weights_agree(family: str, sites: Sites, edit_bias: bool) -> None:
    model, _ = tiny_model(family)
    anatomy = find_anatomy(model)
    edit = draw_edit(strength=0.8, edit_bias=edit_bias, sites=sites)
    plain = read_logits(model)
    with edited(anatomy, [edit] * len(IDS)):
        forward = read_logits(model)
    with edited_weights(anatomy, edit):
        weights = read_logits(model)
    scale = plain.abs().max()
    assert (forward - weights).abs().max() < 1e-5 * scale
    assert (forward - plain).abs().max() > 1e-3 * scale


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_carries_its_own_edit(family: str) -> None:
    model, _ = tiny_model(family)
    anatomy = find_anatomy(model)
    first, second = draw_edit((1,), rank=3, strength=1.5), draw_edit((0, 2), rank=1, seed=9, edit_bias=True)
    attention = draw_edit((0, 1), seed=5, sites="attention")
    rows = [first, None, replace(second, sites="both"), attention]
    plain = read_logits(model)
    with edited(anatomy, rows):
        mixed = read_logits(model)
    assert torch.equal(mixed[1], plain[1])
    for row, edit in enumerate(rows):
        if edit is not None:
            with edited_weights(anatomy, edit):
                alone = read_logits(model)[row]
            assert (mixed[row] - alone).abs().max() < 1e-5 * plain.abs().max()
            assert (mixed[row] - plain[row]).abs().max() > 1e-3 * plain.abs().max()


@pytest.mark.parametrize("sites", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left_along_the_directions_where_they_are_removed(family: str, sites: Sites) -> None:
    model, _ = tiny_model(family)
    anatomy = find_anatomy(model)
    edit = draw_edit((1,), edit_bias=True, sites=sites)
    for written in anatomy.written_at(1, "both"):
        before = read_written(written, model)
        basis = edit.basis_at(1, written)
        with edited(anatomy, [edit] * len(IDS)):
            after = read_written(written, model)
        assert (before @ basis.T).norm() > 1e-2 * before.norm()
        if sites in (written.site, "both"):
            assert (after @ basis.T).norm() < 1e-6 * before.norm()
        else:
            assert (after @ basis.T).norm() > 1e-2 * before.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_adds_nothing_along_directions_that_are_removed_from_both_of_its_parts(family: str) -> None:
    model, _ = tiny_model(family)
    anatomy = find_anatomy(model)
    edit = draw_edit((1,), rank=3, edit_bias=True, sites="both")
    plain = read_block(anatomy, 1, model)
    with edited(anatomy, [edit]):
        forward = read_block(anatomy, 1, model)
    with edited_weights(anatomy, edit):
        weights = read_block(anatomy, 1, model)
    for added in (forward, weights):
        assert (added @ edit.bases[1].T).norm() < 1e-5 * plain.norm()
    for site in ("mlp", "attention"):
        with edited(anatomy, [replace(edit, sites=site)]):
            left = read_block(anatomy, 1, model)
        assert (left @ edit.bases[1].T).norm() > 0.02 * plain.norm()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_attention_adds_to_the_stream_has_nothing_along_its_removed_directions(family: str) -> None:
    model = fresh_model(family)
    anatomy = find_anatomy(model)
    for parameter in anatomy.values[1].module.parameters():
        parameter.zero_()  # so that the block adds what its attention writes, and nothing else
    edit = draw_edit((1,), rank=3, edit_bias=True, sites="attention")
    plain = read_block(anatomy, 1, model)
    with edited(anatomy, [edit]):
        forward = read_block(anatomy, 1, model)
    with edited_weights(anatomy, edit):
        weights = read_block(anatomy, 1, model)
    assert (plain @ edit.bases[1].T).norm() > 0.05 * plain.norm()
    for added in (forward, weights):
        assert (added @ edit.bases[1].T).norm() < 1e-5 * plain.norm()
        assert added.norm() > 0.5 * plain.norm()


@pytest.mark.parametrize("edit_bias", [False, True])
def test_the_bias_stays_unless_asked(edit_bias: bool) -> None:
    model = fresh_model("gpt2")
    anatomy = find_anatomy(model)
    edit = draw_edit((1,), edit_bias=edit_bias)
    bias = anatomy.values[1].bias.clone()
    with edited(anatomy, [edit] * len(IDS)):
        left = read_values(anatomy, 1, model) @ edit.bases[1].T
    expected = torch.zeros_like(bias) if edit_bias else bias
    assert torch.allclose(left, (expected @ edit.bases[1].T).expand_as(left), atol=1e-5)
    with edited_weights(anatomy, edit):
        assert torch.equal(anatomy.values[1].bias, bias) is not edit_bias
    assert torch.equal(anatomy.values[1].bias, bias)


@pytest.mark.parametrize("family", GEMMAS)
def test_gemma_joins_the_stream_without_the_directions(family: str) -> None:
    model, _ = tiny_model(family)
    anatomy = find_anatomy(model)
    edit = draw_edit((1,), rank=3)
    seen = []
    norm = model.get_submodule(f"{anatomy.values[1].name.rsplit('.mlp', 1)[0]}.post_feedforward_layernorm")
    handle = norm.register_forward_hook(lambda module, given, out: seen.append(out.clone()))
    try:
        read_logits(model)
        with edited(anatomy, [edit] * len(IDS)):
            read_logits(model)
        with edited_weights(anatomy, edit):
            read_logits(model)
    finally:
        handle.remove()
    plain, forward, weights = seen
    assert (plain @ edit.bases[1].T).norm() > 0.05 * plain.norm()
    assert (forward @ edit.bases[1].T).norm() < 1e-6 * plain.norm()
    assert (weights @ edit.bases[1].T).norm() < 1e-6 * plain.norm()


def test_a_gain_of_zero_leaves_fewer_directions() -> None:
    model = fresh_model("gemma2")
    norm = model.get_submodule("model.layers.1.post_feedforward_layernorm")
    norm.weight[0] = -1.0
    edit = LowRankEdit({1: torch.eye(HIDDEN)[:2]})
    basis = edit.basis_at(1, find_anatomy(model).values[1])
    assert torch.allclose(basis.abs(), torch.eye(HIDDEN)[1:2])


@pytest.mark.parametrize("family", FAMILIES)
def test_edit_restores_every_bit(family: str) -> None:
    model = fresh_model(family)
    anatomy = find_anatomy(model)
    edit = draw_edit(edit_bias=True, sites="both")
    before = copy_parameters(model)
    with pytest.raises(RuntimeError, match="midway"), edited_weights(anatomy, edit):
        changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
        raise RuntimeError("midway")
    expected = {f"{written.name}.weight" for layer in (1, 2) for written in anatomy.written_at(layer, "both")}
    expected |= {name.replace("weight", "bias") for name in expected} & set(before)
    assert set(changed) == expected
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_hooks_are_gone_after_an_exception() -> None:
    model, _ = tiny_model("llama")
    anatomy = find_anatomy(model)
    hooks = count_hooks(model)
    with pytest.raises(RuntimeError, match="midway"), edited(anatomy, [draw_edit(), draw_edit(sites="both")] * 2):
        assert count_hooks(model) == hooks + 4
        raise RuntimeError("midway")
    assert count_hooks(model) == hooks


def test_an_edit_of_a_missing_layer_leaves_no_hook() -> None:
    model, _ = tiny_model("llama")
    anatomy = find_anatomy(model)
    hooks = count_hooks(model)
    with pytest.raises(InputError, match=f"0-{LAYERS - 1}"), edited(anatomy, [draw_edit((1, LAYERS))]):
        pass
    assert count_hooks(model) == hooks


def test_rows_without_an_edit_keep_every_bit() -> None:
    model, _ = tiny_model("gpt2")
    anatomy = find_anatomy(model)
    plain = read_logits(model)
    with edited(anatomy, [None, draw_edit(strength=0.0), draw_edit(), None]):
        mixed = read_logits(model)
    assert torch.equal(mixed[[0, 1, 3]], plain[[0, 1, 3]])
    assert not torch.equal(mixed[2], plain[2])


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_a_batch_of_another_size_is_refused(family: str) -> None:
    model, _ = tiny_model(family)
    with edited(find_anatomy(model), [draw_edit()] * 3), pytest.raises(ValueError, match="3 rows"):
        read_logits(model)


def test_strength_zero_in_the_weights_is_an_error_that_changes_nothing() -> None:
    model = fresh_model("gpt2")
    before = copy_parameters(model)
    with (
        pytest.raises(InputError, match="changes nothing"),
        edited_weights(find_anatomy(model), draw_edit(strength=0.0)),
    ):
        pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_directions_that_the_weights_lack_are_an_error_that_changes_nothing() -> None:
    model = fresh_model("gpt2")
    anatomy = find_anatomy(model)
    basis = draw_basis(2, 0)
    rows = anatomy.values[1].rows
    rows.copy_(rows - rows @ basis.T @ basis)
    before = copy_parameters(model)
    with pytest.raises(InputError, match="changes nothing"):
        apply_to_weights(anatomy, LowRankEdit({1: basis}))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_an_edit_without_directions_is_an_error() -> None:
    with pytest.raises(InputError, match="no direction"):
        LowRankEdit({})
    with pytest.raises(InputError, match="no direction"):
        LowRankEdit({1: torch.zeros(0, HIDDEN)})


def test_an_edit_for_another_width_is_an_error() -> None:
    model, _ = tiny_model("gpt2")
    edit = LowRankEdit({1: draw_basis(2, 0, hidden=2 * HIDDEN)})
    with pytest.raises(InputError, match=f"width {2 * HIDDEN}"), edited(find_anatomy(model), [edit]):
        pass


def test_bfloat16_rounds_once() -> None:
    model = fresh_model("llama").bfloat16()
    anatomy = find_anatomy(model)
    edit = draw_edit((1,))
    before = read_values(anatomy, 1, model)
    with edited(anatomy, [edit] * len(IDS)):
        after = read_values(anatomy, 1, model)
    exact = before.double() - before.double() @ edit.bases[1].T.double() @ edit.bases[1].double()
    assert after.dtype == torch.bfloat16
    assert (after != exact.bfloat16()).float().mean() < 0.01


def test_a_change_that_bfloat16_rounds_away_is_an_error() -> None:
    anatomy = find_anatomy(fresh_model("llama").bfloat16())
    anatomy.values[1].rows.sign_()
    with pytest.raises(InputError, match="changes nothing"):
        apply_to_weights(anatomy, draw_edit((1,), strength=1e-4))


def test_gradients_flow_through_the_forward_face() -> None:
    model = fresh_model("gpt2")
    anatomy = find_anatomy(model)
    anatomy.values[1].module.weight.requires_grad_(True)
    edit = draw_edit((1,))
    with torch.inference_mode(), edited(anatomy, [edit] * len(IDS)):
        model(input_ids=IDS)
    with edited(anatomy, [edit] * len(IDS)):
        model(input_ids=IDS).logits.square().sum().backward()
    gradient = anatomy.values[1].module.weight.grad
    assert gradient.norm() > 0
    # Nothing that the weights write along the directions reaches the output, so no gradient points there.
    assert (gradient @ edit.bases[1].T).norm() < 1e-5 * gradient.norm()


@pytest.mark.parametrize("sites", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_lora_factors_give_the_edited_weights(family: str, sites: Sites) -> None:
    model, _ = tiny_model(family)
    anatomy = find_anatomy(model)
    edit = draw_edit(strength=0.7, rank=3, sites=sites)
    for layer in edit.layers:
        places = anatomy.written_at(layer, sites)
        factors = lora_factors(anatomy, edit, layer)
        assert list(factors) == [written.name for written in places]
        for written in places:
            first, second = factors[written.name]
            adapted = written.rows + (second @ first).T
            with edited_weights(anatomy, edit):
                assert torch.allclose(adapted, written.rows, atol=1e-6)
            assert first.shape == (3, written.rows.shape[0])
            assert second.shape == (HIDDEN, 3)


def test_an_attention_that_was_not_found_leaves_the_mlps_to_edit() -> None:
    model = fresh_model("gpt2")
    model.transformer.h[1].attn.resid_dropout = nn.LayerNorm(HIDDEN)
    anatomy = find_anatomy(model)
    before, hooks = copy_parameters(model), count_hooks(model)
    for sites in ("attention", "both"):
        edit = draw_edit((0, 1), sites=sites)
        with pytest.raises(InputError, match="attention's result at layer 1 was not found"), edited(anatomy, [edit]):
            pass
        for act in (apply_to_weights, measure_edit):
            with pytest.raises(InputError, match="attention's result at layer 1 was not found"):
                act(anatomy, edit)
    assert count_hooks(model) == hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with edited_weights(anatomy, draw_edit((0, 1))):
        assert not torch.equal(anatomy.values[1].module.weight, before[f"{anatomy.values[1].name}.weight"])


def test_measuring_names_every_place_that_is_edited() -> None:
    anatomy = find_anatomy(fresh_model("llama"))
    edit = draw_edit(sites="both")
    changes = measure_edit(anatomy, edit)
    both = [(layer, site) for layer in (1, 2) for site in ("attention", "mlp")]
    assert [(change.layer, change.site) for change in changes] == both
    for change, (layer, site) in zip(changes, both, strict=True):
        (alone,) = measure_edit(anatomy, replace(edit, bases={layer: edit.bases[layer]}, sites=site))
        assert change == alone and change.along_after < 1e-6 < change.along_before


def test_measuring_tells_the_change_and_leaves_the_model() -> None:
    model = fresh_model("mistral")
    anatomy = find_anatomy(model)
    edit = draw_edit(strength=1.0)
    before = copy_parameters(model)
    changes = measure_edit(anatomy, edit)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [change.layer for change in changes] == [1, 2]
    for change in changes:
        rows, basis = anatomy.values[change.layer].rows, edit.bases[change.layer]
        share = float((rows @ basis.T).norm() / rows.norm())
        assert change.change == pytest.approx(share, rel=1e-5)
        assert change.along_before == pytest.approx(share, rel=1e-5)
        assert change.along_after < 1e-6
    half = measure_edit(anatomy, draw_edit(strength=0.5))
    assert half[0].along_after == pytest.approx(changes[0].along_before / 2, rel=1e-5)


def test_make_edit_takes_the_plan() -> None:
    subspaces = draw_subspaces()
    plan = EditPlan(layers=(0, 2), rank=3, strength=0.5, switched_off=frozenset({(2, 1), (1, 0), (0, 3)}))
    edit = make_edit(subspaces, plan)
    assert edit.layers == (0, 2)
    assert edit.strength == 0.5
    assert torch.equal(edit.bases[0], subspaces[0].basis[:3])
    assert torch.equal(edit.bases[2], subspaces[2].basis[[0, 2]])
    assert edit.sites == "mlp" and make_edit(subspaces, replace(plan, sites="both")).sites == "both"


def test_make_edit_leaves_out_a_layer_that_is_switched_off() -> None:
    edit = make_edit(draw_subspaces(), EditPlan(layers=(0, 1), rank=1, switched_off=frozenset({(0, 0)})))
    assert edit.layers == (1,)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (EditPlan(layers=()), f"0-{LAYERS - 1}"),
        (EditPlan(layers=(1, LAYERS)), f"Layer {LAYERS} .* 0-{LAYERS - 1}"),
        (EditPlan(layers=(-1,)), "Layer -1"),
        (EditPlan(layers=(1,), rank=5), "rank of 1 to 4"),
        (EditPlan(layers=(1,), rank=2, switched_off=frozenset({(1, 0), (1, 1)})), "switched off"),
    ],
)
def test_make_edit_names_the_allowed_range(plan: EditPlan, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_edit(draw_subspaces(), plan)


def draw_oblique(layers: Sequence[int] = (1, 2), rank: int = 2, seed: int = 0, **options) -> LowRankEdit:
    """As `draw_edit`, read with rows that lean away from what is removed, and are longer."""
    edit = draw_edit(layers, rank, seed, **options)
    reads = {}
    for layer, basis in edit.bases.items():
        leaning = basis + draw_basis(rank, 50 + seed + layer)
        reads[layer] = torch.linalg.inv(leaning @ basis.T) @ leaning
    return replace(edit, reads=reads)


@pytest.mark.parametrize("edit_bias", [False, True], ids=["bias kept", "bias edited"])
@pytest.mark.parametrize("sites", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_faces_of_an_oblique_edit_agree_and_leave_nothing_to_read(
    family: str, sites: Sites, edit_bias: bool
) -> None:
    model, _ = tiny_model(family)
    anatomy = find_anatomy(model)
    edit = draw_oblique(strength=0.8, edit_bias=edit_bias, sites=sites)
    plain, straight = read_logits(model), replace(edit, reads={})
    with edited(anatomy, [edit, None, straight, edit]):
        forward = read_logits(model)
    with edited_weights(anatomy, edit):
        weights = read_logits(model)
    with edited_weights(anatomy, straight):
        orthogonal = read_logits(model)
    scale = plain.abs().max()
    assert (forward[[0, 3]] - weights[[0, 3]]).abs().max() < 1e-5 * scale
    assert (forward[2] - orthogonal[2]).abs().max() < 1e-5 * scale and torch.equal(forward[1], plain[1])
    assert (weights - orthogonal).abs().max() > 1e-3 * scale
    for layer in edit.layers:
        for name, (first, second) in lora_factors(anatomy, edit, layer).items():
            (written,) = (each for each in anatomy.written_at(layer, sites) if each.name == name)
            adapted = written.rows + (second @ first).T
            with edited_weights(anatomy, edit):
                assert (adapted - written.rows).abs().max() < 1e-5 * adapted.abs().max()
    for change in measure_edit(anatomy, replace(edit, strength=1.0)):
        assert change.along_after < 1e-5 < 1e-2 < change.along_before < 1
    half = measure_edit(anatomy, replace(edit, strength=0.5))
    assert half[0].along_after == pytest.approx(half[0].along_before / 2, rel=1e-4)


@pytest.mark.parametrize("family", GEMMAS)
def test_an_oblique_edit_before_a_gain_takes_out_what_it_does_behind_it(family: str) -> None:
    model = fresh_model(family)
    anatomy = find_anatomy(model)
    edit = draw_oblique((1,), rank=2)
    written = anatomy.values[1]
    if written.gain is None:
        pytest.skip("no norm follows the projection")
    states = torch.randn(5, HIDDEN, generator=torch.Generator().manual_seed(1))
    basis, reads = edit.basis_at(1, written), edit.reads_at(1, written)
    behind = (states - states @ reads.T @ basis) * written.gain
    joined = states * written.gain
    expected = joined - joined @ edit.reads[1].T @ edit.bases[1]
    torch.testing.assert_close(behind, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    # Dimensions that do not join are left as they are, and nothing is left to read all the same.
    silent = replace(written, gain=torch.where(torch.arange(HIDDEN) < 5, 0.0, written.gain))
    alone = replace(edit, strength=1.0)
    basis, reads = alone.basis_at(1, silent), alone.reads_at(1, silent)
    assert basis[:, :5].abs().max() == 0
    torch.testing.assert_close(reads @ basis.T, torch.eye(2), rtol=0, atol=1e-4)


def test_orthogonal_edits_read_with_the_very_directions_that_they_remove() -> None:
    anatomy = find_anatomy(fresh_model("gemma2"))
    for written in (anatomy.values[1], find_anatomy(fresh_model("gpt2")).values[1]):
        edit = draw_edit((1,))
        assert edit.reads_at(1, written) is edit.basis_at(1, written)


def test_make_edit_and_controls_keep_what_reads_with_what_is_removed() -> None:
    oblique = draw_oblique((0, 1, 2), rank=4)
    subspaces = [
        replace(subspace, basis=oblique.bases[layer], reads=oblique.reads[layer] if layer else None)
        for layer, subspace in enumerate(draw_subspaces())
    ]
    plan = EditPlan(layers=(0, 1, 2), rank=3, switched_off=frozenset({(2, 1)}))
    edit = make_edit(subspaces, plan)
    assert edit.reads.keys() == {1, 2} and torch.equal(edit.reads[1], oblique.reads[1][:3])
    assert torch.equal(edit.reads[2], oblique.reads[2][[0, 2]])
    assert replace(edit, bases={2: edit.bases[2]}).reads.keys() == {2}
    (control,) = draw_controls(edit, 1, 0)
    assert not control.reads and control.bases[2].shape == edit.bases[2].shape
    with pytest.raises(InputError, match=f"width {2 * HIDDEN}"):
        wide = draw_basis(1, 0, hidden=2 * HIDDEN)
        LowRankEdit({1: wide}, reads={1: wide}).basis_at(1, find_anatomy(fresh_model("gpt2")).values[1])
