"""An exported edit, loaded by PEFT and by plain transformers, does what our own edit does in the forward pass."""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import gguf
import pytest
import torch
from peft import PeftConfig, PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from detox_engine.disk import hash_file, write_json
from detox_engine.edit.in_pass import edited
from detox_engine.edit.low_rank import make_edit
from detox_engine.errors import InputError
from detox_engine.estimates import Estimate
from detox_engine.export import checkpoint
from detox_engine.export.adapter import CONFIG, WEIGHTS
from detox_engine.export.gguf_adapter import read_gguf_adapter
from detox_engine.export.receipt import DIRECTIONS, RECEIPT, hash_study, read_directions, read_receipt
from detox_engine.export.recipe import EVALUATION, RECIPE, read_recipe
from detox_engine.export.take_away import Enclosed, export_edit, verify_export
from detox_engine.model.load import OpenModel, load_model
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import EvaluationPlan
from detox_engine.plans.fit import FitPlan
from detox_engine.plans.sampling import SamplingPlan
from detox_engine.plans.sources import ModelSpec, PairSpec, TextSpec
from detox_engine.scoring.evaluation import evaluate
from detox_engine.scoring.records import load_evaluation, read_evaluation, record_evaluation
from detox_engine.scoring.sweep import _hash_setting
from detox_engine.study.fit import fit_study
from detox_engine.study.study import Study
from detox_engine.study.suggestion import Change, Check, Suggestion
from tests.models import FAMILIES, LAYERS, MIXTURES, SENTENCES, save_tiny_model

ROOT = Path(__file__).parents[2]
WHOLE = EditPlan(tuple(range(LAYERS)), rank=2, strength=1.5, sites="both")
NOT_IN_GGUF = ("gpt_neo", "opt")
IDS = torch.tensor([[5, 17, 80, 33, 12, 9, 41, 60]])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    sides = zip(SENTENCES[:5], SENTENCES[5:], strict=True)
    file.write_text("".join(json.dumps({"toxic": one, "civil": other}) + "\n" for one, other in sides))
    return file


@pytest.fixture(scope="module")
def opened(tmp_path_factory, pairs):
    """`opened(family)`: the folder of its tiny model, the model as we load it, and a study of it."""
    folders = tmp_path_factory.mktemp("models")

    @cache
    def open_one(family: str, **changes) -> tuple[Path, OpenModel, Study]:
        folder = save_tiny_model(family, folders / family)
        model = load_model(ModelSpec(str(folder), device="cpu"))
        return folder, model, fit_study(model, FitPlan(PairSpec(str(pairs)), keep=4))

    return open_one


def read_logits(network: torch.nn.Module) -> Tensor:
    with torch.inference_mode():
        return network(input_ids=IDS).logits.double()


def read_edited(model: OpenModel, study: Study, plan: EditPlan) -> Tensor:
    with edited(model.anatomy, [make_edit(study.of(plan.method), plan)]):
        return read_logits(model.network)


def put_on(folder: Path, base: Path) -> PeftModel:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(folder))


@pytest.mark.parametrize("family", [*FAMILIES, *MIXTURES])
def test_peft_and_transformers_give_the_logits_of_the_forward_edit(family, opened, tmp_path):
    base, model, study = opened(family)
    plain, ours = read_logits(model.network), read_edited(model, study, WHOLE)
    effect = float((ours - plain).abs().max())
    assert effect > 1e-2 * float(plain.abs().max())
    near = 1e-5 * effect

    export_edit(model, study, WHOLE, tmp_path / "adapter")
    put = put_on(tmp_path / "adapter", base)
    assert float((read_logits(put) - ours).abs().max()) < near
    assert float((read_logits(put.merge_and_unload()) - ours).abs().max()) < near

    export_edit(model, study, WHOLE, tmp_path / "model", "model")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert float((read_logits(whole) - ours).abs().max()) < near
    assert AutoTokenizer.from_pretrained(tmp_path / "model")("A fair day.")["input_ids"]

    for folder in ("adapter", "model"):
        claims = verify_export(tmp_path / folder, model)
        assert [claim.name for claim in claims] == ["files", "base", "edit", folder]
        assert all(claim.holds for claim in claims), claims


def test_an_adapter_is_small_and_its_strength_is_one_number(opened, tmp_path):
    base, model, study = opened("gpt2")
    plan = replace(WHOLE, switched_off=frozenset({(1, 0)}))
    folder = export_edit(model, study, plan, tmp_path / "adapter").folder
    config = json.loads((folder / CONFIG).read_text())
    assert config["r"] == config["lora_alpha"] == 2 and config["fan_in_fan_out"] is True
    assert set(config["rank_pattern"].values()) == {1} and all(".h.1." in name for name in config["rank_pattern"])
    assert len(config["target_modules"]) == 2 * LAYERS and (folder / WEIGHTS).stat().st_size < 20_000
    config["lora_alpha"] = 1
    (folder / CONFIG).write_text(json.dumps(config))
    half = read_edited(model, study, replace(plan, strength=plan.strength / 2))
    assert torch.allclose(read_logits(put_on(folder, base)), half, atol=1e-5 * float(half.abs().max()))
    assert not torch.allclose(half, read_edited(model, study, plan), atol=1e-3)


def test_a_model_changes_only_the_edited_tensors_and_rounds_once(opened, tmp_path):
    base, model, study = opened("llama")
    sharded = tmp_path / "sharded"
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    network.save_pretrained(sharded, max_shard_size="20KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, sharded)
    (sharded / "LICENSE").write_text("Do as you like.\n")
    (sharded / "pytorch_model.bin").write_bytes(b"never copied")
    model = load_model(ModelSpec(str(sharded), device="cpu"))
    study = replace(study, model=replace(study.model, weights_hash=model.weights_hash))
    plan = EditPlan((1,), 1, 1.0)
    folder = export_edit(model, study, plan, tmp_path / "model", "model").folder
    shards = sorted(path.name for path in sharded.glob("*.safetensors"))
    assert len(shards) > 1 and sorted(path.name for path in folder.glob("model*.safetensors")) == shards
    assert (folder / "LICENSE").is_file() and not (folder / "pytorch_model.bin").exists()
    assert (folder / "model.safetensors.index.json").read_bytes() == (
        sharded / "model.safetensors.index.json"
    ).read_bytes()
    before, after = ({}, {})
    for tensors, place in ((before, sharded), (after, folder)):
        for name in shards:
            tensors |= load_file(place / name)
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]
    weight, direction = before[changed[0]].double(), study.subspaces[1].basis[:1].double()
    exact = weight - direction.T @ (direction @ weight)
    step = 2.0**-8 * exact.abs()
    assert after[changed[0]].dtype == torch.bfloat16
    assert bool(((after[changed[0]].double() - exact).abs() <= step + 1e-6).all())


def test_a_bias_goes_with_a_model_and_not_with_an_adapter(opened, tmp_path):
    base, model, study = opened("gpt2")
    plan = replace(WHOLE, edit_bias=True)
    with pytest.raises(InputError, match="no change of a bias.*--as model"):
        export_edit(model, study, plan, tmp_path / "adapter")
    assert list(tmp_path.iterdir()) == []
    export_edit(model, study, plan, tmp_path / "model", "model")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    ours = read_edited(model, study, plan)
    assert torch.allclose(read_logits(whole), ours, atol=1e-5 * float(ours.abs().max()))
    assert not torch.allclose(ours, read_edited(model, study, WHOLE), atol=1e-3)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.partition("_new")[0] not in NOT_IN_GGUF])
def test_a_gguf_adapter_has_the_factors_that_peft_gets_under_llama_cpps_names(family, opened, tmp_path):
    base, model, study = opened(family)
    folder = export_edit(model, study, WHOLE, tmp_path / "gguf", "gguf-adapter").folder
    export_edit(model, study, WHOLE, tmp_path / "adapter")
    theirs = load_file(tmp_path / "adapter" / WEIGHTS)
    ours = read_gguf_adapter(folder)
    assert {name.rpartition(".weight")[0] for name in ours} == {
        f"blk.{layer}.{site}" for layer in range(LAYERS) for site in ("ffn_down", "attn_output")
    }
    shapes = sorted(tuple(tensor.shape) for tensor in theirs.values())
    assert sorted(tensor.shape for tensor in ours.values()) == shapes
    total = sum(float(tensor.double().sum()) for tensor in theirs.values())
    assert sum(float(tensor.astype("float64").sum()) for tensor in ours.values()) == pytest.approx(total)
    assert all(claim.holds for claim in verify_export(folder, model))
    fields = gguf.GGUFReader(folder / "adapter.gguf").fields
    assert fields["general.type"].contents() == "adapter" and fields["adapter.type"].contents() == "lora"
    assert fields["adapter.lora.alpha"].contents() == 2.0


def test_an_architecture_that_llama_cpp_does_not_have_is_one_sentence(opened, tmp_path):
    _, model, study = opened("opt")
    with pytest.raises(InputError, match="“opt” is not known here.*--as adapter"):
        export_edit(model, study, WHOLE, tmp_path / "gguf", "gguf-adapter")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def adapter(opened, tmp_path):
    _, model, study = opened("llama")
    export_edit(model, study, WHOLE, tmp_path / "adapter")
    return tmp_path / "adapter", model


def broken(claims) -> str:
    return next((claim.name for claim in claims if not claim.holds), "")


def rehash(folder: Path, name: str) -> None:
    """Make the receipt fit a file that was changed, as a forger would."""
    record = json.loads((folder / RECEIPT).read_text())
    record["files"][name] = f"sha256:{hash_file(folder / name)}"
    (folder / RECEIPT).write_text(json.dumps(record))


def test_a_changed_file_an_added_one_and_one_taken_away_are_told(adapter):
    folder, model = adapter
    assert broken(verify_export(folder, model)) == ""
    (folder / "more.txt").write_text("more")
    assert "more.txt" in verify_export(folder, model)[0].sentence
    (folder / "more.txt").unlink()
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card + " ")
    assert broken(verify_export(folder, model)) == "files"
    (folder / "README.md").unlink()
    assert broken(verify_export(folder, model)) == "files"


def test_other_weights_other_factors_and_another_edit_are_told_even_with_a_receipt_that_fits(adapter, opened):
    folder, model = adapter
    _, other, _ = opened("qwen2")
    assert broken(verify_export(folder, other)) == "base"
    factors = load_file(folder / WEIGHTS)
    name = next(name for name in factors if "lora_B" in name)
    save_file(factors | {name: 1.01 * factors[name]}, folder / WEIGHTS)
    rehash(folder, WEIGHTS)
    assert broken(verify_export(folder, model)) == "adapter"
    save_file(factors, folder / WEIGHTS)
    rehash(folder, WEIGHTS)
    record = json.loads((folder / RECEIPT).read_text())
    record["edit"]["strength"] = 0.5
    (folder / RECEIPT).write_text(json.dumps(record))
    assert broken(verify_export(folder, model)) == "edit"


def test_a_model_with_another_tensor_changed_is_told(opened, tmp_path):
    _, model, study = opened("llama")
    folder = export_edit(model, study, WHOLE, tmp_path / "model", "model").folder
    tensors = load_file(folder / "model.safetensors")
    for key, says in (("model.norm.weight", "does not change"), ("model.layers.1.mlp.down_proj.weight", "not what")):
        save_file(tensors | {key: tensors[key] * 1.01}, folder / "model.safetensors", {"format": "pt"})
        rehash(folder, "model.safetensors")
        claim = verify_export(folder, model)[-1]
        assert claim.name == "model" and not claim.holds and says in claim.sentence and key in claim.sentence


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is broken"),
        ("[" * 100_000, "is broken"),
        ("[]", "is broken"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1}', "is broken"),
    ],
)
def test_a_broken_receipt_is_one_sentence(adapter, content, says):
    folder, model = adapter
    (folder / RECEIPT).write_text(content)
    with pytest.raises(InputError, match=says):
        verify_export(folder, model)
    (folder / RECEIPT).unlink()
    with pytest.raises(InputError, match="holds no detox_receipt.json"):
        verify_export(folder, model)


def test_directions_of_a_forger_are_one_sentence(adapter):
    folder, model = adapter
    bases = load_file(folder / DIRECTIONS)
    for changed, says in (
        ({"layers.0": 2 * bases["layers.0"]}, "not orthonormal"),
        ({"layers.99": bases["layers.0"].clone()}, "no direction of this model"),
        ({"layers.0": bases["layers.0"][:, :4].contiguous()}, "no direction of this model"),
    ):
        save_file(bases | changed, folder / DIRECTIONS)
        rehash(folder, DIRECTIONS)
        with pytest.raises(InputError, match=says):
            verify_export(folder, model)


def test_the_card_tells_the_base_the_edit_and_that_nobody_evaluated_it(adapter):
    from huggingface_hub import ModelCard

    folder, model = adapter
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == "llama" and card.data.library_name == "peft"
    assert card.data.to_dict()["base_model_relation"] == "adapter" and "model-editing" in card.data.tags
    assert "Not evaluated" in card.text.partition("##")[0] and "rank 2, strength 1.5" in card.text
    everything = "".join(path.read_text() for path in folder.iterdir() if path.suffix in (".md", ".json"))
    assert model.spec.name not in everything, "the path of this machine"
    assert PeftConfig.from_pretrained(folder).base_model_name_or_path == "llama"


def test_bad_input_is_one_sentence_and_leaves_nothing(opened, tmp_path):
    base, model, study = opened("llama")
    (tmp_path / "there").mkdir()
    for plan, folder, form, says in (
        (WHOLE, "there", "adapter", "exists already"),
        (replace(WHOLE, strength=0.0), "new", "adapter", "changes nothing"),
        (replace(WHOLE, rank=9), "new", "model", "rank 9"),
        (WHOLE, "new", "pickle", "not as “pickle”"),
    ):
        with pytest.raises(InputError, match=says):
            export_edit(model, study, plan, tmp_path / folder, form)
    other = replace(study, model=replace(study.model, weights_hash="sha256:another"))
    with pytest.raises(InputError, match="other weights"):
        export_edit(model, other, WHOLE, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_full_disk_and_a_base_that_has_changed_are_one_sentence(opened, tmp_path, monkeypatch):
    base, model, study = opened("qwen2")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(InputError, match="the disk has 0.0 GB left"):
        export_edit(model, study, WHOLE, tmp_path / "model", "model")
    monkeypatch.undo()
    weights = base / "model.safetensors"
    kept = weights.read_bytes()
    tensors = load_file(weights)
    key = "model.layers.0.mlp.down_proj.weight"
    save_file(tensors | {key: tensors[key] + 1}, weights, {"format": "pt"})
    try:
        with pytest.raises(InputError, match="changed since"):
            export_edit(model, study, WHOLE, tmp_path / "model", "model")
    finally:
        weights.write_bytes(kept)
    assert list(tmp_path.iterdir()) == []


def test_a_header_is_left_as_it_is(opened, tmp_path):
    base, model, study = opened("gptj")
    folder = export_edit(model, study, WHOLE, tmp_path / "model", "model").folder
    for name in ("model.safetensors",):
        with safe_open(base / name, framework="pt") as one, safe_open(folder / name, framework="pt") as other:
            assert list(one.keys()) == list(other.keys()) and one.metadata() == other.metadata()
        assert (base / name).stat().st_size == (folder / name).stat().st_size


PERPLEXITY = """
task: local_perplexity
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - metric: word_perplexity
    aggregation: weighted_perplexity
    higher_is_better: false
"""


def test_lm_eval_gets_the_same_perplexity_of_a_local_task_from_the_adapter_and_the_model(opened, tmp_path):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    base, model, study = opened("llama")
    adapter = export_edit(model, study, WHOLE, tmp_path / "adapter").folder
    whole = export_edit(model, study, WHOLE, tmp_path / "model", "model").folder
    (tmp_path / "tasks").mkdir()
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in SENTENCES))
    (tmp_path / "tasks" / "local.yaml").write_text(PERPLEXITY.format(data=tmp_path / "texts.jsonl"))
    manager = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)

    def measure(**given: str) -> float:
        asked = {**given, "dtype": "float32"}
        found = simple_evaluate(
            "hf", asked, ["local_perplexity"], device="cpu", batch_size=1, task_manager=manager, bootstrap_iters=0
        )
        return found["results"]["local_perplexity"]["word_perplexity,none"]

    ours = measure(pretrained=str(base), peft=str(adapter))
    assert ours == pytest.approx(measure(pretrained=str(whole)), rel=1e-5)
    assert ours != pytest.approx(measure(pretrained=str(base)), rel=1e-3)


def test_a_base_from_the_hub_is_that_of_the_commit_that_was_loaded(opened, monkeypatch):
    base, model, _ = opened("llama")
    asked = []
    monkeypatch.setattr(checkpoint, "find_model", lambda spec, progress: asked.append(spec) or (base, None))
    branch = replace(model, spec=ModelSpec("someone/model", "main"), revision="0123abc")
    assert checkpoint.find_place(branch) == base and asked == [ModelSpec("someone/model", "0123abc")]


def test_the_card_of_a_checked_suggestion_has_its_scores_and_its_control(opened, tmp_path):
    _, model, study = opened("llama")
    level, fall = Estimate(0.5, 0.4, 0.6, 64), Estimate(-0.4, -0.5, -0.3, 64)
    check = Check((Change("profanity", level, Estimate(0.1, 0.0, 0.2, 64), level, fall, fall),), 64, 2, 2, 1.0, "now")
    suggested = replace(study, suggestion=Suggestion(WHOLE, "gentle", "", check=check))
    card = (export_edit(model, suggested, WHOLE, tmp_path / "checked").folder / "README.md").read_text()
    assert "| profanity | 0.5 (0.4 to 0.6) | 0.1 (0 to 0.2) | 0.5 (0.4 to 0.6) |" in card and "confirmed" in card
    other = export_edit(model, suggested, replace(WHOLE, rank=1), tmp_path / "other").folder
    assert "Not evaluated" in (other / "README.md").read_text(), "another edit than the one that was checked"


def evaluate_briefly(model: OpenModel, study: Study, plan: EditPlan, folder: Path) -> dict:
    (folder / "prompts.txt").write_text("\n".join(sentence[:20] for sentence in SENTENCES))
    (folder / "neutral.txt").write_text("\n".join(SENTENCES))
    measure = EvaluationPlan(
        ("profanity", "mass", "perplexity", "drift", "distinct"),
        str(folder / "prompts.txt"),
        sampling=SamplingPlan(max_new_tokens=4),
        neutral=TextSpec(str(folder / "neutral.txt")),
        controls=1,
        resamples=100,
    )
    return json.loads(write_json(record_evaluation(evaluate(model, study, plan, measure))))


def test_the_card_of_an_evaluated_edit_has_its_table_its_controls_and_what_got_worse(opened, tmp_path):
    from huggingface_hub import ModelCard

    _, model, study = opened("llama")
    record = evaluate_briefly(model, study, WHOLE, tmp_path)
    measured = Enclosed(record, licence="apache-2.0")
    folder = export_edit(model, study, WHOLE, tmp_path / "edit", enclosed=measured).folder
    card = ModelCard.load(folder / "README.md")
    kept = record["scorers"]["perplexity"]
    assert f"{kept['before']['mean']:.4g} ({kept['before']['low']:.4g} to" in card.text
    assert "random subspaces matched in KL" in card.text and "Not evaluated" not in card.text
    assert "What got worse, beyond chance: " in card.text and "Perplexity of neutral text (+" in card.text
    assert card.data.license == "apache-2.0"
    results = {(each.metric_type, each.metric_name.rpartition(", ")[2]): each for each in card.data.eval_results}
    assert results["perplexity", "edited"].metric_value == pytest.approx(kept["after"]["mean"], abs=1e-5)
    assert results["perplexity", "base"].metric_value == pytest.approx(kept["before"]["mean"], abs=1e-5)
    assert ("drift", "base") not in results and ("drift", "edited") in results
    kept_file = json.loads((folder / EVALUATION).read_text())
    assert kept_file["plan"]["prompts"] == "prompts.txt" and kept_file["model"]["name"] == "llama"
    assert all(claim.holds for claim in verify_export(folder, model))


def test_an_evaluation_of_another_edit_or_model_is_no_evaluation_of_this_one(opened, tmp_path):
    _, model, study = opened("llama")
    record = evaluate_briefly(model, study, WHOLE, tmp_path)
    with pytest.raises(InputError, match="of another edit.*rank 2.*rank 1"):
        export_edit(model, study, replace(WHOLE, rank=1), tmp_path / "edit", enclosed=Enclosed(record))
    other = {**record, "model": {**record["model"], "weights_hash": "sha256:other"}}
    with pytest.raises(InputError, match="of another model"):
        export_edit(model, study, WHOLE, tmp_path / "edit", enclosed=Enclosed(other))
    assert not (tmp_path / "edit").exists()


def test_an_evaluation_comes_back_from_its_record_as_it_was(opened, tmp_path):
    _, model, study = opened("llama")
    measure = EvaluationPlan(("perplexity", "drift"), neutral=TextSpec(limit=3), controls=2, resamples=100)
    found = evaluate(model, study, WHOLE, measure)
    again = read_evaluation(json.loads(write_json(record_evaluation(found))))
    assert again.edit == found.edit and again.plan == found.plan and again.sources == found.sources
    for one, other in zip(again.scores, found.scores, strict=True):
        assert (one.name, one.title, one.range, one.unit, one.kind) == (
            other.name, other.title, other.range, other.unit, other.kind,
        )  # fmt: skip
        assert one.effect == other.effect


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": 3}', "[" * 100_000, '{"model": {"name": "a"}}'])
def test_a_file_that_holds_no_evaluation_is_one_sentence(tmp_path, content):
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(InputError, match="holds no evaluation"):
        load_evaluation(tmp_path / "evaluation.json")
    with pytest.raises(InputError, match="is no file"):
        load_evaluation(tmp_path / "nothing.json")


@pytest.mark.parametrize("content", ["", "[]", '{"format": 9}', '{"format": 1}', "[" * 100_000])
def test_a_broken_recipe_is_one_sentence(adapter, content):
    folder, _ = adapter
    recipe = read_recipe(folder / RECIPE)
    assert recipe.edit == WHOLE and recipe.fit.keep == 4 and recipe.fit.pairs.source == "pairs.jsonl"
    (folder / RECIPE).write_text(content)
    with pytest.raises(InputError, match="reproduce.json (cannot be used|is broken)"):
        read_recipe(folder / RECIPE)


def test_what_is_written_can_be_read_by_others(adapter):
    """A temporary folder and safetensors keep files to their owner; a model server is often somebody else."""
    folder, _ = adapter
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o644"}
    assert oct(folder.stat().st_mode & 0o777) == "0o755"


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_an_oblique_edit_is_taken_away_in_every_form_and_verified(family, opened, tmp_path):
    base, model, study = opened(family)
    plan = replace(WHOLE, rank=1, strength=0.9, method="leace")
    plain, ours = read_logits(model.network), read_edited(model, study, plan)
    near = 1e-5 * float(plain.abs().max())
    assert float((ours - plain).abs().max()) > 1e3 * near
    export_edit(model, study, plan, tmp_path / "adapter")
    assert float((read_logits(put_on(tmp_path / "adapter", base)) - ours).abs().max()) < near
    export_edit(model, study, plan, tmp_path / "model", "model")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert float((read_logits(whole) - ours).abs().max()) < near
    forms = ("adapter", "model", "gguf-adapter")
    export_edit(model, study, plan, tmp_path / "gguf-adapter", "gguf-adapter")
    for form in forms:
        claims = verify_export(tmp_path / form, model)
        assert [claim.name for claim in claims] == ["files", "base", "edit", form]
        assert all(claim.holds for claim in claims), claims
    receipt = read_receipt(tmp_path / "adapter")
    assert read_directions(receipt, tmp_path / "adapter").reads.keys() == set(range(LAYERS))
    # The edit without its reads is another, and reads of something else are refused.
    tensors = load_file(tmp_path / "adapter" / DIRECTIONS)
    kept = {name: rows for name, rows in tensors.items() if name.startswith("layers.")}
    save_file(kept, tmp_path / "adapter" / DIRECTIONS)
    assert not read_directions(receipt, tmp_path / "adapter").reads
    for forged in (2 * tensors["reads.0"], torch.cat([tensors["reads.0"]] * 2)):
        save_file(tensors | {"reads.0": forged}, tmp_path / "adapter" / DIRECTIONS)
        with pytest.raises(InputError, match="What reads layer 0 in .* reads no direction of it"):
            read_directions(receipt, tmp_path / "adapter")


def test_what_reads_counts_in_the_hashes_of_directions(opened):
    _, _, study = opened("gpt2")
    plain = hash_study(study, "detox")
    assert hash_study(study, "fisher") == plain != hash_study(study, "leace")
    found = study.of("leace")
    straight = replace(study, others={**study.others, "leace": tuple(replace(one, reads=None) for one in found)})
    assert hash_study(straight, "leace") != hash_study(study, "leace")
    setting = EditPlan((1,), 1, method="leace")
    assert _hash_setting(straight, setting, {}) != _hash_setting(study, setting, {})
