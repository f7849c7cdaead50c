"""The map: principal axes, one frame before and after, a common orientation, and texts really run after the edit."""

from dataclasses import replace

import pytest
import torch

from detox_engine.edit.in_weights import edited_weights
from detox_engine.edit.low_rank import LowRankEdit, make_edit
from detox_engine.errors import InputError
from detox_engine.forward.embed import embed_pairs
from detox_engine.forward.embedded_pairs import Embeddings
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.read import MapPlan
from detox_engine.plans.sources import PairSpec
from detox_engine.reading.map import (
    LayerMap,
    draw_map,
    embed_study,
    find_rotation,
    orient_maps,
    project_on_paper,
    stack_sides,
)
from detox_engine.study.methods.detox import fit_subspace
from detox_engine.workbench import Workbench
from tests.factor_model import draw_factor_sample
from tests.forward.test_embed import PAIRS
from tests.models import FAMILIES, HIDDEN, open_tiny


def draw_basis(rank: int, hidden: int = HIDDEN, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(hidden, rank, generator=generator)).Q.T.contiguous()


def draw_sides(pairs: int = 60, seed: int = 0) -> torch.Tensor:
    sample = draw_factor_sample(2, pairs=pairs, hidden=24, seed=seed)
    return torch.stack([sample.toxic, sample.civil])


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_after_the_edit_are_those_of_the_edited_weights(family):
    model = open_tiny(family)
    edit = LowRankEdit({0: draw_basis(2), 2: draw_basis(3, seed=1)})
    before, after = embed_pairs(model, PAIRS), embed_pairs(model, PAIRS, edit=edit)
    with edited_weights(model.anatomy, edit):
        expected = embed_pairs(model, PAIRS)
    for name in ("toxic", "civil"):
        torch.testing.assert_close(getattr(after, name), getattr(expected, name), rtol=1e-4, atol=1e-4)
        assert not torch.allclose(getattr(after, name), getattr(before, name), atol=1e-2)


@pytest.fixture(scope="module")
def bench():
    return Workbench(open_tiny("llama"))


@pytest.fixture(scope="module")
def study(bench):
    return bench.fit(FitPlan(pairs=PairSpec(limit=12), keep=4, pooling="continuation"))


def test_a_study_is_embedded_as_it_was_fitted(bench, study):
    model = bench.model
    assert embed_study(model, study) is study.embeddings
    again = embed_study(model, replace(study, embeddings=None))
    torch.testing.assert_close(again.toxic, study.embeddings.toxic)
    edit = make_edit(study.subspaces, EditPlan((0, 1), 2))
    after = embed_study(model, study, edit)
    expected = embed_pairs(model, study.pairs, 128, "continuation", edit=edit)
    torch.testing.assert_close(after.civil, expected.civil)
    with pytest.raises(InputError, match="other weights"):
        embed_study(open_tiny("gpt2"), study)


def test_on_paper_only_edited_layers_change_and_only_along_the_directions(bench, study):
    edit = make_edit(study.subspaces, EditPlan((1,), 2, strength=0.5))
    paper = project_on_paper(study.embeddings, edit)
    before, basis = study.embeddings, edit.bases[1]
    assert torch.equal(paper.toxic[0], before.toxic[0]) and torch.equal(paper.civil[2], before.civil[2])
    torch.testing.assert_close(paper.toxic[1] @ basis.T, 0.5 * before.toxic[1] @ basis.T, rtol=1e-4, atol=1e-5)
    rest = torch.eye(HIDDEN) - basis.T @ basis
    torch.testing.assert_close(paper.civil[1] @ rest, before.civil[1] @ rest, rtol=1e-4, atol=1e-5)
    run = embed_study(bench.model, study, edit)
    assert not torch.allclose(run.toxic[1], paper.toxic[1], atol=1e-2)


def test_on_paper_an_oblique_edit_is_read_with_its_own_rows(study):
    edit = make_edit(study.of("leace"), EditPlan((1,), 1))
    before, after = study.embeddings, project_on_paper(study.embeddings, edit)
    basis, reads = edit.bases[1], edit.reads[1]
    torch.testing.assert_close(after.toxic[1], before.toxic[1] - before.toxic[1] @ reads.T @ basis)
    apart = [(one.toxic[1] - one.civil[1]).mean(0).norm() for one in (before, after)]
    assert apart[1] < 1e-3 * apart[0]


def test_pca_places_texts_along_the_principal_axes_before_the_edit():
    from sklearn.decomposition import PCA

    before = draw_sides()
    after = before - 0.3 * before.flip(1)
    drawn = draw_map(4, [before, after])
    flat = before.flatten(0, 1).double().numpy()
    reference = PCA(2, svd_solver="full").fit(flat)
    assert drawn.layer == 4 and drawn.shares == pytest.approx(reference.explained_variance_ratio_, rel=1e-5)
    for points, states in zip(drawn.points, (before, after), strict=True):
        expected = torch.tensor(reference.transform(states.flatten(0, 1).double().numpy())).unflatten(0, (2, -1))
        assert points.shape == (2, 60, 2)
        torch.testing.assert_close(points.double().abs(), expected.abs(), rtol=1e-3, atol=1e-3)


def test_before_lies_the_same_whatever_is_drawn_beside_it_unless_both_are_fitted():
    before = draw_sides()
    after = before * torch.linspace(0, 2, 24)
    alone, beside = draw_map(0, [before]), draw_map(0, [before, after, before])
    torch.testing.assert_close(alone.points[0], beside.points[0])
    torch.testing.assert_close(beside.points[0], beside.points[2])
    both = draw_map(0, [before, after], MapPlan(frame="both"))
    assert not torch.allclose(both.points[0], alone.points[0], atol=1e-2)


def test_toxic_texts_lie_further_up_each_axis_than_their_twins():
    for seed in range(4):
        points = draw_map(0, [draw_sides(seed=seed)]).points[0]
        assert ((points[0] - points[1]).mean(0) >= 0).all()
        swapped = draw_map(0, [draw_sides(seed=seed).flip(0)]).points[0]
        assert ((swapped[0] - swapped[1]).mean(0) >= 0).all()


def test_a_map_is_stable_under_a_rotation_of_its_input():
    before, rotation = draw_sides(), draw_basis(24, hidden=24, seed=3)
    after = before * torch.linspace(0.5, 1.5, 24)
    drawn = draw_map(0, [before, after])
    rotated = draw_map(0, [before @ rotation, after @ rotation])
    for one, other in zip(drawn.points, rotated.points, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def turn(angle: float, mirrored: bool = False) -> torch.Tensor:
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    return torch.stack([torch.stack([cos, sin]), torch.stack([-sin, cos])]) @ torch.diag(
        torch.tensor([1.0, -1.0 if mirrored else 1.0])
    )


@pytest.mark.parametrize("mirrored", [False, True])
def test_procrustes_finds_the_rotation_or_reflection(mirrored):
    points = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    rotation = turn(2.1, mirrored)
    torch.testing.assert_close(find_rotation(points, points @ rotation), rotation)


def frames() -> list[LayerMap]:
    """Five layers that drift slowly, each with an after of its own."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(2, 20, 2, generator=generator) * torch.tensor([3.0, 1.0])
    drift = torch.randn(5, 2, 20, 2, generator=generator)
    return [LayerMap(layer, (start + 0.2 * layer * drift[layer], start - 1), None) for layer in range(5)]


def test_orientation_does_not_depend_on_how_later_layers_were_turned_moved_or_scaled():
    plain = orient_maps(frames())
    turned = [
        LayerMap(
            entry.layer, tuple((index + 1) * points @ turn(1.3 * index, index % 2 == 1) + index
                               for points in entry.points), None,
        )
        for index, entry in enumerate(frames())
    ]  # fmt: skip
    for one, other in zip(plain, orient_maps(turned), strict=True):
        for points, again in zip(one.points, other.points, strict=True):
            torch.testing.assert_close(points, again, rtol=1e-4, atol=1e-4)
    # Without the orientation the eye could not follow.
    assert (turned[1].points[0] - plain[1].points[0]).norm() > 1


def test_orientation_turns_as_one_with_the_first_layer():
    plain, rotation = orient_maps(frames()), turn(0.7)
    first, *others = frames()
    turned = orient_maps([LayerMap(0, tuple(points @ rotation for points in first.points), None), *others])
    for one, other in zip(plain, turned, strict=True):
        torch.testing.assert_close(one.points[0] @ rotation, other.points[0], rtol=1e-4, atol=1e-4)


def test_oriented_maps_are_centred_scaled_and_keep_their_shape():
    for entry, oriented in zip(frames(), orient_maps(frames()), strict=True):
        points = oriented.points[0].flatten(0, 1)
        torch.testing.assert_close(points.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
        assert points.square().sum(-1).mean() == pytest.approx(1, abs=1e-5)
        distances = torch.cdist(torch.cat(entry.points, 1).flatten(0, 1), torch.cat(entry.points, 1).flatten(0, 1))
        after = torch.cdist(torch.cat(oriented.points, 1).flatten(0, 1), torch.cat(oriented.points, 1).flatten(0, 1))
        torch.testing.assert_close(after / after.max(), distances / distances.max(), atol=1e-3, rtol=0)


def test_umap_is_the_same_for_the_same_seed_and_keeps_the_sides_apart():
    before = draw_sides(pairs=24)
    # Two clusters far apart, which any layout that keeps neighbours near must part.
    before[0] += 60
    plan = MapPlan(method="umap", neighbours=8, seed=3)
    drawn, again = (draw_map(0, [before, before[:, :12]], plan) for _ in range(2))
    for one, other in zip(drawn.points, again.points, strict=True):
        assert torch.equal(one, other)
    assert [points.shape for points in drawn.points] == [(2, 24, 2), (2, 12, 2)] and drawn.shares is None
    between = (drawn.points[0][0].mean(0) - drawn.points[0][1].mean(0)).norm()
    within = drawn.points[0].std(1).norm(dim=1).max()
    assert between > 2 * within
    placed = (drawn.points[1] - drawn.points[0][:, :12]).norm(dim=-1)
    assert placed.median() < within


def test_too_few_or_equal_or_broken_texts_get_a_sentence():
    with pytest.raises(InputError, match="4 pairs or more, and there are 3: choose PCA"):
        draw_map(0, [draw_sides(pairs=3)], MapPlan(method="umap"))
    with pytest.raises(InputError, match="same embedding"):
        draw_map(0, [torch.ones(2, 5, 4)])
    with pytest.raises(InputError, match="NaN"):
        draw_map(0, [torch.full((2, 5, 4), float("nan"))])
    line = torch.arange(8.0).reshape(2, 4, 1) * torch.ones(3)
    flat = draw_map(0, [line])
    assert flat.shares[0] == pytest.approx(1) and flat.points[0].shape == (2, 4, 2)
    embeddings = Embeddings(torch.zeros(3, 2, 4), torch.zeros(3, 2, 4), 0, ())
    with pytest.raises(InputError, match="Layer 3 is outside the model: its layers are 0-2"):
        stack_sides(embeddings, 3)
    assert stack_sides(embeddings, 2).shape == (2, 2, 4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": "tsne"}, "pca or umap"),
        ({"frame": "after"}, "before or on both"),
        ({"neighbours": 1}, "2 neighbours or more"),
        ({"spread": float("nan")}, "between 0 and 1"),
        ({"seed": -1}, "seed of UMAP"),
    ],
)
def test_a_plan_that_makes_no_map_gets_a_sentence(settings, says):
    with pytest.raises(InputError, match=says):
        MapPlan(**settings)


def test_removing_the_planted_direction_closes_the_gap_on_the_map():
    sample = draw_factor_sample(1, pairs=80, hidden=24, strength=20)
    subspace = fit_subspace(sample.toxic, sample.civil, 1)
    before = torch.stack([sample.toxic, sample.civil])
    drawn = draw_map(0, [before, before - before @ subspace.basis.T @ subspace.basis])
    gaps = [(points[0] - points[1]).norm(dim=-1).mean() for points in drawn.points]
    assert gaps[1] < 0.1 * gaps[0]
