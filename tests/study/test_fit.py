"""More pairs than memory: the same study as from all pairs at once, read lazily, and open for more."""

import gc
import json
from dataclasses import replace

import pytest
import torch

from detox_engine.data.columns import Pair
from detox_engine.data.pairs import read_pairs
from detox_engine.data.stream import is_uneven, open_pairs
from detox_engine.errors import Cancelled, InputError
from detox_engine.forward.embed import embed_pairs
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sources import ModelSpec, PairSpec
from detox_engine.study import fit
from detox_engine.study.methods import fit_subspaces
from detox_engine.study.study import Study
from detox_engine.study.subspace import principal_angles
from detox_engine.workbench import Workbench, extend_to_folder, fit_to_folder
from tests.models import LAYERS, SENTENCES, open_tiny, save_tiny_model

COUNT, SAMPLE, CHUNK = 150, 40, 16


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A stream begins above 40 pairs, which are also what is kept of it."""
    monkeypatch.setattr(fit, "SAMPLE", SAMPLE)
    monkeypatch.setattr(fit, "CHUNK", CHUNK)


@pytest.fixture(scope="module")
def bench():
    return Workbench(open_tiny("llama"))


def write_pairs(file, first: int, count: int):
    with file.open("w", encoding="utf-8") as lines:
        for number in range(first, first + count):
            prompt, side = SENTENCES[number % len(SENTENCES)], SENTENCES[number % 7 % len(SENTENCES)]
            row = {"prompt": f"{number} {prompt}", "toxic": f" you idiot {number * 7}", "civil": f" {side} {number}"}
            lines.write(json.dumps(row) + "\n")
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", 0, COUNT)


@pytest.fixture
def plan(file):
    return FitPlan(PairSpec(str(file)), keep=6)


def assert_same_subspaces(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert principal_angles(one.basis, other.basis)[-1] < 0.1
        torch.testing.assert_close(one.singular_values[:6], other.singular_values[:6], rtol=1e-4, atol=0)
        torch.testing.assert_close(one.polarity, other.polarity, rtol=1e-3, atol=1e-4)


def test_streamed_fit_equals_that_of_all_pairs_at_once(bench, plan, file):
    study = bench.fit(plan)
    pairs = read_pairs(plan.pairs, file)
    embeddings = embed_pairs(bench.model, pairs.pairs)
    assert_same_subspaces(study.subspaces, fit_subspaces(embeddings.toxic, embeddings.civil, 6))
    assert (study.pair_count, study.pairs_hash, study.tokens) == (COUNT, pairs.hash, embeddings.tokens)
    assert len(study.moments) == LAYERS and int(study.moments[0].count) == COUNT


def test_a_fit_draws_no_null_spectra_unless_it_is_asked_to(bench, plan, monkeypatch):
    few = replace(plan, pairs=replace(plan.pairs, limit=SAMPLE))
    asked = [bench.fit(replace(one, parallel_analysis=True)) for one in (few, plan)]
    for name in ("draw_null_spectra", "draw_null_spectra_of"):
        monkeypatch.setattr(fit, name, None)
    for given, study in zip((few, plan), asked, strict=True):
        told = []
        plain = bench.fit(given, lambda *event: told.append(event[0]))  # noqa: B023
        assert plain.null_spectra is None and "Drawing null spectra" not in told
        assert len(study.null_spectra) == LAYERS and plain.dominant_ranks == study.dominant_ranks


def test_up_to_as_many_pairs_as_the_sample_all_are_kept_and_nothing_is_streamed(bench, plan):
    study = bench.fit(replace(plan, pairs=replace(plan.pairs, limit=SAMPLE)))
    assert study.moments is None and len(study.pairs) == study.pair_count == SAMPLE
    over = bench.fit(replace(plan, pairs=replace(plan.pairs, limit=SAMPLE + 1)))
    assert over.moments is not None and len(over.pairs) == SAMPLE and over.pair_count == SAMPLE + 1


def test_sample_holds_different_pairs_in_their_order_each_with_its_own_embeddings(bench, plan, file):
    study = bench.fit(plan)
    everything = read_pairs(plan.pairs, file).pairs
    places = [everything.index(pair) for pair in study.pairs]
    assert len(places) == SAMPLE and places == sorted(set(places))
    own = embed_pairs(bench.model, study.pairs)
    torch.testing.assert_close(study.embeddings.toxic, own.toxic, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(study.embeddings.civil, own.civil, rtol=1e-4, atol=1e-5)
    assert any("random 40 are kept" in warning for warning in study.warnings)


def test_every_pair_has_the_same_chance_to_be_in_the_sample(bench, plan, file):
    counts = torch.zeros(COUNT)
    pairs = read_pairs(plan.pairs, file).pairs
    states = torch.zeros(1, COUNT, 1)
    anatomy = replace(bench.model.anatomy, blocks=bench.model.anatomy.blocks[:1])
    for seed in range(300):
        gathering = fit._Gathering(anatomy, replace(plan, pairs=replace(plan.pairs, seed=seed)), None)
        for start in range(0, COUNT, CHUNK):
            part = fit.Embeddings(*(2 * (states[:, start : start + CHUNK],)), 0, ())
            gathering.add(pairs[start : start + CHUNK], part)
        for number, _, _ in gathering._kept.values():
            counts[number] += 1
    expected = 300 * SAMPLE / COUNT
    # Six standard deviations of a binomial, and no drift from the first pairs to the last.
    assert (counts - expected).abs().max() < 6 * (expected * (1 - SAMPLE / COUNT)) ** 0.5
    assert (counts[:50].mean() - counts[-50:].mean()).abs() < 0.1 * expected


def test_study_that_more_pairs_were_added_to_is_the_study_of_all(bench, plan, file, tmp_path):
    whole = bench.fit(plan)
    parts = [write_pairs(tmp_path / f"{first}.jsonl", first, 50) for first in (0, 50, 100)]
    study = bench.fit(replace(plan, pairs=PairSpec(str(parts[0]))))
    study.save(tmp_path / "first")
    for part in parts[1:]:
        study = bench.extend(Study.load(tmp_path / "first") if part == parts[1] else study, PairSpec(str(part)))
    assert_same_subspaces(study.subspaces, whole.subspaces)
    assert (study.pair_count, study.pairs_hash, study.tokens) == (COUNT, whole.pairs_hash, whole.tokens)
    assert [spec.source for spec in study.added] == [str(part) for part in parts[1:]]
    assert len(study.pairs) == SAMPLE and len({pair.prompt for pair in study.pairs}) == SAMPLE
    numbers = [int(pair.prompt.split()[0]) for pair in study.pairs]
    assert numbers == sorted(numbers) and numbers[-1] >= 100 > numbers[0]
    study.save(tmp_path / "second")
    again = Study.load(tmp_path / "second")
    assert again.added == study.added and again.pair_count == COUNT


def test_study_of_few_pairs_can_be_added_to_as_well(bench, plan, tmp_path):
    first, second = write_pairs(tmp_path / "a.jsonl", 0, 12), write_pairs(tmp_path / "b.jsonl", 12, 10)
    both = write_pairs(tmp_path / "both.jsonl", 0, 22)
    study = bench.extend(bench.fit(replace(plan, pairs=PairSpec(str(first)))), PairSpec(str(second)))
    whole = bench.fit(replace(plan, pairs=PairSpec(str(both))))
    assert_same_subspaces(study.subspaces, whole.subspaces)
    assert study.pairs == whole.pairs and study.pairs_hash == whole.pairs_hash
    torch.testing.assert_close(study.embeddings.toxic, whole.embeddings.toxic, rtol=1e-4, atol=1e-5)


def test_pairs_are_not_added_to_what_was_not_kept_or_to_another_model(bench, plan):
    study = bench.fit(replace(plan, pairs=replace(plan.pairs, limit=20), keep_embeddings=False))
    with pytest.raises(InputError, match="none can be added"):
        bench.extend(study, plan.pairs)
    with pytest.raises(InputError, match="none can be added"):
        bench.extend(bench.fit(plan, keep_moments=False), plan.pairs)
    other = replace(study, model=replace(study.model, weights_hash="sha256:other"))
    with pytest.raises(InputError, match="other weights"):
        bench.extend(other, plan.pairs)


def test_streamed_study_without_embeddings_can_be_added_to(bench, plan, tmp_path):
    more = PairSpec(str(write_pairs(tmp_path / "more.jsonl", COUNT, 30)))
    lean = bench.fit(replace(plan, keep_embeddings=False))
    assert lean.embeddings is None and len(lean.pairs) == SAMPLE
    extended, expected = bench.extend(lean, more), bench.extend(bench.fit(plan), more)
    assert extended.embeddings is None and extended.pairs == expected.pairs
    assert_same_subspaces(extended.subspaces, expected.subspaces)


def test_folder_of_a_streamed_study_is_whole_or_not_there(plan, tmp_path):
    folder = save_tiny_model("opt", tmp_path / "model")
    spec = ModelSpec(str(folder), device="cpu")
    study = fit_to_folder(spec, plan, tmp_path / "study")
    names = sorted(path.name for path in (tmp_path / "study").iterdir())
    assert names == [
        "embeddings.safetensors", "moments.safetensors", "pairs.jsonl", "study.json", "subspaces.safetensors",
        "tokens.safetensors",
    ]  # fmt: skip
    more = PairSpec(str(write_pairs(tmp_path / "more.jsonl", COUNT, 5)))
    extended = extend_to_folder(Study.load(tmp_path / "study"), spec, more, tmp_path / "more")
    assert extended.pair_count == COUNT + 5 == Study.load(tmp_path / "more").pair_count
    assert Study.load(tmp_path / "study").pair_count == study.pair_count == COUNT
    broken = tmp_path / "more" / "moments.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(InputError, match="incomplete or broken"):
        Study.load(tmp_path / "more")


def test_progress_counts_the_texts_of_the_whole_stream_and_can_stop_it(bench, plan):
    seen = []
    bench.fit(plan, lambda *event: seen.append(event))
    texts = [(done, total) for stage, done, total in seen if stage == "Embedding texts"]
    assert [done for done, _ in texts] == sorted(done for done, _ in texts)
    assert texts[-1] == (2 * COUNT, 2 * COUNT)
    assert all(done <= total and abs(total - 2 * COUNT) < COUNT for done, total in texts)

    def stop(stage, done, total):
        if stage == "Embedding texts" and done > COUNT:
            raise Cancelled

    with pytest.raises(Cancelled):
        bench.fit(plan, stop)


def count_pairs() -> int:
    gc.collect()
    return sum(type(found) is Pair for found in gc.get_objects())


def test_long_file_begins_at_once_and_few_of_its_pairs_are_held(tmp_path):
    row = json.dumps({"prompt": "Late again?", "toxic": " you idiot", "civil": " no harm done"}) + "\n"
    (tmp_path / "long.jsonl").write_text(row * 200_000)
    # Studies that other tests keep have pairs of their own.
    before = count_pairs()
    stream = open_pairs(PairSpec(str(tmp_path / "long.jsonl")), tmp_path)
    pairs = iter(stream)
    next(pairs)
    assert stream.rows == 1
    assert abs(stream.expected - 200_000) < 20_000
    for _ in range(50_000):
        next(pairs)
    assert count_pairs() - before < 1000


def test_few_pairs_are_held_while_a_long_file_is_fitted(bench, tmp_path, monkeypatch):
    held = []

    def count_pairs(model, pairs, *arguments, **options):
        held.append(sum(type(found) is Pair for found in gc.get_objects()))
        return fit.Embeddings(*torch.randn(2, LAYERS, len(pairs), model.anatomy.hidden), 2 * len(pairs), ())

    gc.collect()
    before = sum(type(found) is Pair for found in gc.get_objects())
    monkeypatch.setattr(fit, "embed_pairs", count_pairs)
    # To count the pairs takes longer than to read a chunk.
    monkeypatch.setattr(fit, "CHUNK", 1000)
    study = bench.fit(FitPlan(PairSpec(str(write_pairs(tmp_path / "long.jsonl", 0, 8000))), keep=2))
    assert study.pair_count == 8000
    assert max(held) - before <= 2 * 1000 + 2 * SAMPLE + 1 < 8000


def test_flaws_that_a_stream_can_see_are_told(bench, plan, tmp_path):
    file = write_pairs(tmp_path / "flawed.jsonl", 0, 60)
    with file.open("a", encoding="utf-8") as lines:
        lines.write("broken\n" + json.dumps({"prompt": "", "toxic": "you idiot", "civil": "a b c d e f g h"}) + "\n")
    told = "\n".join(bench.fit(replace(plan, pairs=PairSpec(str(file)))).warnings)
    uneven = sum(map(is_uneven, read_pairs(PairSpec(str(file)), file).pairs))
    assert "1 of 62 rows make no pair" in told
    assert f"more than 3 times the words of the other: {uneven} (line" in told and uneven
    assert "repeated pairs were looked for among these alone" in told


def test_a_fit_to_a_folder_that_exists_does_no_work(tmp_path, plan):
    with pytest.raises(InputError, match="exists already"):
        fit_to_folder(ModelSpec("no/such-model"), plan, tmp_path)


def test_a_model_from_a_folder_makes_the_same_study_each_time(tmp_path, plan):
    folder = save_tiny_model("opt", tmp_path / "model")
    study = fit_to_folder(ModelSpec(str(folder), device="cpu"), plan, tmp_path / "study")
    assert study.model.weights_hash.startswith("sha256:")
    again = Workbench.load(ModelSpec(str(folder), device="cpu")).fit(plan)
    assert again.model.weights_hash == study.model.weights_hash
    assert torch.equal(again.subspaces[1].basis, study.subspaces[1].basis)


def test_bad_pairs_are_refused_before_the_model_is_loaded(tmp_path):
    plan = FitPlan(pairs=PairSpec(str(tmp_path / "missing.jsonl")))
    with pytest.raises(InputError, match="missing.jsonl"):
        fit_to_folder(ModelSpec("no/such-model"), plan, tmp_path / "study")
