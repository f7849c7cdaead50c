"""A study gives the directions of methods that it was not fitted by, where it kept what they take."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from detox_engine.errors import InputError
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.study import fit
from detox_engine.study.study import Study
from detox_engine.workbench import Workbench
from tests.models import open_tiny
from tests.planted import planted_pairs, write_pairs

ALL = ("detox", "fisher", "mean-difference", "leace", "gloss", "uncentred")


@pytest.fixture(scope="module")
def bench():
    return Workbench(open_tiny("gpt2"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", planted_pairs(40))


def same(one, other) -> bool:
    return all(torch.equal(first.basis, second.basis) for first, second in zip(one, other, strict=True))


def test_what_is_fitted_on_demand_is_what_a_fit_by_it_gives(bench, pairs, tmp_path):
    study, whole = bench.fit(FitPlan(pairs, keep=4)), bench.fit(FitPlan(pairs, keep=4, methods=ALL))
    assert study.methods == ALL[:3] and study.offered == whole.offered == ALL
    for method in ALL[3:]:
        assert same(study.of(method), whole.of(method)) and study.of(method) is study.of(method)
    assert bench.edit(study, EditPlan((1,), 1, method="leace")).reads.keys() == {1}
    # It is nothing that the study says of itself, on disk or here.
    assert study.methods == ALL[:3] and study.plan == FitPlan(pairs, keep=4) and "_fitted" not in repr(study)
    study.save(tmp_path / "study")
    assert Study.load(tmp_path / "study").methods == ALL[:3]
    # Another study begins without it.
    assert not replace(study, model=study.model)._fitted_since


def test_what_was_not_kept_is_not_offered(bench, pairs):
    plain = bench.fit(FitPlan(pairs, methods=("detox",)))
    assert plain.offered == ("detox", "mean-difference", "leace", "gloss", "uncentred")
    lean = replace(plain, embeddings=None)
    assert lean.offered == ("detox",)
    for study, method in ((plain, "fisher"), (lean, "leace"), (plain, "magic")):
        told = f"no directions of the method “{method}”, only of {', '.join(study.offered)}: choose"
        with pytest.raises(InputError, match=told):
            study.of(method)


def test_of_streamed_pairs_directions_come_from_all_of_them_and_not_from_the_sample(bench, pairs, monkeypatch):
    whole = bench.fit(FitPlan(pairs, methods=ALL))
    monkeypatch.setattr(fit, "SAMPLE", 20)
    with monkeypatch.context() as never, pytest.raises(InputError, match="LEACE needs all pairs at once"):
        never.setattr(fit, "embed_pairs", None)
        bench.fit(FitPlan(pairs, methods=("leace",)))
    with pytest.raises(InputError, match="LEACE needs all pairs at once, so none can be added to the study"):
        bench.extend(whole, pairs)
    study = bench.fit(FitPlan(pairs, methods=("detox", "fisher")))
    assert len(study.pairs) < study.pair_count and study.offered == (
        "detox",
        "fisher",
        "mean-difference",
        "gloss",
        "uncentred",
    )
    for method in ("mean-difference", "gloss", "uncentred"):
        for one, other in zip(study.of(method), whole.of(method), strict=True):
            torch.testing.assert_close(one.basis[:1], other.basis[:1], rtol=0, atol=1e-3)
    with pytest.raises(InputError, match="no directions of the method “leace”"):
        study.of("leace")
    assert replace(study, moments=None).offered == ("detox", "fisher")


def test_threads_that_ask_at_once_get_the_same(bench, pairs):
    study = bench.fit(FitPlan(pairs))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(study.of, ["gloss", "leace"] * 8))
    assert all(one is study.of("gloss") for one in found[::2]) and all(one is study.of("leace") for one in found[1::2])
