"""LEACE leaves a linear probe nothing, keeps off dimensions that were taken out, and comes back from disk."""

from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from detox_engine.errors import InputError
from detox_engine.plans.fit import FitPlan
from detox_engine.study.methods import fit_subspaces_of
from detox_engine.study.methods.leace import fit
from detox_engine.study.moments import Moments
from detox_engine.study.study import Study
from detox_engine.study.subspace import ToxicSubspace
from detox_engine.study.suggestion.search import list_bases
from detox_engine.workbench import Workbench
from tests.factor_model import draw_factor_sample
from tests.models import open_tiny
from tests.planted import planted_pairs, write_pairs


def draw_sides(pairs: int, hidden: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sides that differ along a direction in which the context varies too: `[pairs, hidden]` each."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(hidden, hidden, generator=generator) / hidden**0.5
    civil, toxic = (torch.randn(pairs, hidden, generator=generator) @ mixing + 3 for _ in range(2))
    return toxic + 1.2 * torch.nn.functional.normalize(mixing.sum(0), dim=0), civil


def erase(states: Tensor, found: ToxicSubspace) -> Tensor:
    return states - states @ found.reads.T @ found.basis


def probe(toxic: Tensor, civil: Tensor, seen: tuple[Tensor, Tensor]) -> float:
    """Accuracy on the sides of a linear probe that was trained on the sides `seen`."""
    labels = [1] * len(seen[0]) + [0] * len(seen[1])
    linear = LogisticRegression(C=1e6, max_iter=5000).fit(torch.cat(seen).double().numpy(), labels)
    return float(linear.score(torch.cat([toxic, civil]).double().numpy(), [1] * len(toxic) + [0] * len(civil)))


def follow_means(toxic: Tensor, civil: Tensor, seen: tuple[Tensor, Tensor]) -> float:
    """The same of the mean difference, with its threshold midway."""
    upper, lower = (side.double().mean(0) for side in seen)
    above = [(side.double() - (upper + lower) / 2) @ (upper - lower) > 0 for side in (toxic, civil)]
    return float(torch.cat([above[0], ~above[1]]).double().mean())


def test_a_probe_reads_the_side_before_and_not_after():
    toxic, civil = draw_sides(8000)
    seen, others = (toxic[:4000], civil[:4000]), (toxic[4000:], civil[4000:])
    found = fit(*seen, 4)
    erased = tuple(erase(side, found) for side in seen)
    blind = tuple(erase(side, found) for side in others)
    chance = 4 * 0.5 / 8000**0.5
    for read in (probe, follow_means):
        assert read(*others, seen) > 0.6, read
        assert abs(read(*blind, erased) - 0.5) < chance, read


@pytest.mark.parametrize(("pairs", "hidden"), [(400, 24), (30, 24), (2, 24), (8, 96)])
def test_the_means_of_both_sides_agree_after_erasure(pairs: int, hidden: int):
    toxic, civil = draw_sides(pairs, hidden)
    found = fit(toxic, civil, 4)
    before = (toxic.double() - civil.double()).mean(0)
    wide = replace(found, basis=found.basis.double(), reads=found.reads.double())
    after = (erase(toxic.double(), wide) - erase(civil.double(), wide)).mean(0)
    assert after.norm() < 1e-5 * before.norm()
    # What is written is the mean difference, turned toward toxic text, and what reads it is something else.
    torch.testing.assert_close(found.basis[0].double(), before / before.norm(), rtol=0, atol=1e-6)
    assert float(found.reads @ found.basis.T) == pytest.approx(1, abs=1e-5)
    assert found.kept == 1 and 0 < float(found.polarity) <= 1
    assert float(torch.cosine_similarity(found.reads, found.basis)) < 0.999


def test_less_is_changed_than_by_removing_the_mean_difference():
    toxic, civil = draw_sides(2000)
    found = fit(toxic, civil, 1)
    both = torch.cat([toxic, civil])
    centred = both - both.mean(0)
    assert (centred @ found.reads.T).norm() < 0.95 * (centred @ found.basis.T).norm()


def test_dimensions_that_were_taken_out_stay_out():
    toxic, civil = draw_sides(60, 12)
    toxic[:, 3] = civil[:, 3] = 0
    found = fit(toxic, civil, 1)
    assert found.basis[0, 3] == found.reads[0, 3] == 0


def test_sides_of_one_mean_and_a_single_pair_are_refused_and_so_are_moments():
    civil = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="same mean embedding"):
        fit(civil, civil.flip(0), 1)
    with pytest.raises(InputError, match="give 2 pairs or more"):
        fit(civil[:1], civil[1:2], 1)
    with pytest.raises(InputError, match="LEACE needs all pairs at once"):
        fit_subspaces_of([Moments.empty(8)], 1, method=FitPlan(methods=("leace",)).methods[1])


def test_the_factor_model_is_told_apart():
    sample = draw_factor_sample(1, 200, 32)
    found = fit(sample.toxic, sample.civil, 1)
    assert abs(float(found.basis[0].double() @ sample.planted[0])) > 0.9


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    return Workbench(open_tiny("gpt2")).fit(FitPlan(write_pairs(file, planted_pairs(40)), methods=("detox", "leace")))


def test_a_study_keeps_what_reads_and_refuses_what_does_not(study, tmp_path):
    study.save(tmp_path / "study")
    again = Study.load(tmp_path / "study")
    assert all(
        torch.equal(one.reads, other.reads) for one, other in zip(again.of("leace"), study.of("leace"), strict=True)
    )
    assert all(subspace.reads is None for subspace in again.subspaces)
    faults = {
        "do not read": lambda reads: 1.1 * reads,
        "no number": lambda reads: reads * float("nan"),
        "float64": lambda reads: reads.double(),
        "are \\[2, 32\\]": lambda reads: torch.cat([reads, reads]),
    }
    for number, (says, forge) in enumerate(faults.items()):
        first, *others = study.of("leace")
        forged = replace(study, others={"leace": (replace(first, reads=forge(first.reads)), *others)})
        forged.save(tmp_path / f"forged {number}")
        with pytest.raises(InputError, match=f"the reads of leace at layer 0.*{says}"):
            Study.load(tmp_path / f"forged {number}")


def test_an_oblique_method_is_no_candidate_of_a_suggestion(study):
    assert list_bases({"detox": study.subspaces, "leace": study.of("leace")}).keys() == {"detox"}
