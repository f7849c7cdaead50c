"""The README of an exported folder: what it is, what was measured, and how it is loaded and made again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCardData

from detox_engine.data.files import names_hub
from detox_engine.estimates import Estimate
from detox_engine.export.recipe import RECIPE
from detox_engine.plans.edit import EditPlan, ExportForm, describe_edit
from detox_engine.plans.evaluation import RANDOM
from detox_engine.plans.sources import BUNDLED

if TYPE_CHECKING:
    from detox_engine.edit.in_weights import LayerChange
    from detox_engine.export.licence import Licence
    from detox_engine.scoring.evaluation import Score
    from detox_engine.scoring.records import KeptEvaluation
    from detox_engine.study.study import ModelIdentity, Study
    from detox_engine.study.suggestion import Check

TAGS = ["model-editing", "profs", "detox", "toxicity"]
PAPER = "https://arxiv.org/abs/2405.13967"
LIBRARIES = {"adapter": "peft", "model": "transformers", "gguf-adapter": "llama.cpp"}
NOT_EVALUATED = "**Not evaluated.** Nobody has measured here what this edit costs or what it does."
CLAIMED = ("profanity", "mass", "perplexity", "drift", "fluency")
"""The scores that go into the card's results for programs."""


@dataclass(frozen=True)
class Loading:
    """How the base model is called where it is loaded."""

    name: str
    """A Hub id, or the name of a folder or a GGUF file."""
    is_gguf: bool
    """Whether the weights at hand were those of a GGUF file, dequantised."""

    @property
    def given(self) -> str:
        """The arguments of `from_pretrained`."""
        if self.name == BUNDLED:
            return '"assets/demo/model"'  # in the repository
        return f'"FOLDER", gguf_file="{self.name}"' if self.name.endswith(".gguf") else f'"{self.name}"'

    @property
    def note(self) -> str:
        """What has to be known of weights that were quantised."""
        if not self.is_gguf:
            return ""
        return (
            "It was made on the weights of a GGUF file, dequantised, and is exact on these; on the model before it was "
            "quantised it removes the same directions, and of what lies along them nearly the same.\n\n"
        )


@dataclass(frozen=True, eq=False)
class Measured:
    """What a card can tell of an edit besides what it is."""

    evaluation: KeptEvaluation | None = None
    verdict: str = ""
    """Markdown that stands first, such as “**Ship.** …”."""
    sets: Mapping[str, Any] | None = None
    """How the texts were divided that fitted, chose and reported; None where they were not."""


def write_card(
    folder: Path,
    name: str,
    form: ExportForm,
    base: ModelIdentity,
    loading: Loading,
    study: Study,
    plan: EditPlan,
    changes: tuple[LayerChange, ...],
    licence: Licence,
    measured: Measured,
) -> None:
    """Write README.md: front matter as the Hub reads it, then the words.

    Args:
        name: what the folder will be called.
    """
    results = list(_list_results(measured.evaluation)) if measured.evaluation is not None else None
    data = ModelCardData(
        base_model=base.name,
        base_model_relation="finetune" if form == "model" else "adapter",
        library_name=LIBRARIES[form],
        pipeline_tag="text-generation",
        license=licence.id,
        license_name=licence.name,
        license_link=licence.link,
        tags=TAGS,
        eval_results=results,
        model_name=name if results else None,
    )
    parts = (
        f"---\n{data.to_yaml()}\n---",
        f"# {_title(base.name)}, with {_count_directions(plan)} removed",
        _tell_first(study, plan, measured),
        _tell_edit(base, study, plan, changes),
        _tell_evaluation(measured),
        _tell_loading(form, loading, name),
        _tell_proof(base, loading, name),
        _tell_licence(licence),
    )
    (folder / "README.md").write_text("\n\n".join(filter(None, parts)) + "\n", encoding="utf-8")


def _title(name: str) -> str:
    return "The bundled model" if name == BUNDLED else name.rpartition("/")[2]


def _count_directions(plan: EditPlan) -> str:
    removed = plan.rank * len(plan.layers) - len(plan.switched_off)
    return f"{removed} toxic direction{'s' * (removed != 1)}"


def _list_results(evaluation: KeptEvaluation) -> Iterator[EvalResult]:
    """The main scores of the base and of the edited model, as the Hub reads them."""
    for name in CLAIMED:
        score = evaluation.find(name)
        if score is None:
            continue
        of_prompts = score.items == "prompts"
        source = evaluation.plan.prompts if of_prompts else evaluation.plan.neutral.source
        kind = "prompts that provoke" if of_prompts else "neutral text"
        for side, estimate in (("base", score.effect.before), ("edited", score.effect.after)):
            if estimate.mean == estimate.mean and not (side == "base" and score.is_change):
                yield EvalResult(
                    task_type="text-generation",
                    task_name="Text generation",
                    dataset_type=source if names_hub(source) else kind.replace(" ", "-"),
                    dataset_name=f"{estimate.n:,} {score.items}, {kind}",
                    metric_type=name,
                    metric_name=f"{score.title}, {side}",
                    metric_value=round(estimate.mean, 6),
                )


def _tell_first(study: Study, plan: EditPlan, measured: Measured) -> str:
    """What comes first, since it decides whether to read on."""
    if measured.verdict:
        return measured.verdict
    if measured.evaluation is not None:
        return ""
    suggestion = study.suggestion
    check = suggestion.check if suggestion is not None and suggestion.edit == plan else None
    return NOT_EVALUATED if check is None else _tell_check(check)


def _tell_check(check: Check) -> str:
    rows = "\n".join(
        f"| {change.name} | {_show(change.before)} | {_show(change.after)} | {_show(change.control)} |"
        for change in check.changes
    )
    verdict = "confirmed" if check.confirmed else "not confirmed"
    return (
        f"**Checked briefly, {verdict}; not evaluated further.** {check.prompts} prompts that provoke, {check.samples} "
        "continuations each. The control removes random directions of the same rank from the same layers; in brackets "
        "95 % intervals; lower is better.\n\n"
        f"| score | before | after | control |\n| --- | --- | --- | --- |\n{rows}"
    )


def _show(estimate: Estimate) -> str:
    return f"{estimate.mean:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"


def _tell_edit(base: ModelIdentity, study: Study, plan: EditPlan, changes: tuple[LayerChange, ...]) -> str:
    largest = max(change.change for change in changes)
    return (
        "## What was done\n\n"
        f"From {base.name} the directions were removed along which toxic texts differ from civil ones, "
        f"as in [Model editing as a robust and denoised variant of DPO]({PAPER}): {describe_edit(plan)}. They were "
        f"fitted on {study.pair_count:,} pairs. {len(changes)} weight matrices changed, by at most {largest:.2%} of "
        "their norm."
    )


def _tell_evaluation(measured: Measured) -> str:
    """The table of all scores, beside their controls, and what got worse."""
    evaluation = measured.evaluation
    if evaluation is None:
        return ""
    kinds = evaluation.plan.kinds
    heads = ("score", "before", "after", "change", *(RANDOM[kind] for kind in kinds))
    lines = [_row(heads), _row(["---"] * len(heads))]
    for score in evaluation.scores:
        effect = score.effect
        better = "lower" if score.lower_is_better else "higher"
        sides = (effect.before, effect.after, effect.difference, *(each.level for each in effect.controls))
        lines.append(_row((f"{score.title} ({score.unit}; {better} is better)", *map(_show, sides))))
    worse = [score for score in evaluation.scores if _got_worse(score)]
    told = (
        "What got worse, beyond chance: " + ", ".join(f"{score.title} ({_rise(score)})" for score in worse) + "."
        if worse
        else "No score got worse beyond chance."
    )
    samples = evaluation.plan.sampling
    return "\n\n".join(
        (
            "## Evaluation",
            f"{_tell_sets(measured.sets)}{samples.samples} continuation{'s' * (samples.samples > 1)} of each prompt, "
            f"of up to {samples.max_new_tokens} tokens, with the same luck before, after and under the controls, which "
            "are random directions of the same rank in the same layers. In brackets 95 % intervals.",
            "\n".join(lines),
            told,
        )
    )


def _row(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _tell_sets(sets: Mapping[str, Any] | None) -> str:
    if sets is None:
        return ""
    fit, choose, report = (sets[name] for name in ("fit", "choose", "report"))
    return (
        f"Three sets that share nothing: {fit['pairs']:,} pairs fitted the directions, {choose['pairs']:,} pairs and "
        f"{choose['prompts']:,} prompts chose the edit, and what stands here was measured on others "
        f"({report['prompts']:,} prompts and {report['texts']:,} texts are set apart for it). "
    )


def _got_worse(score: Score) -> bool:
    change = score.effect.difference
    if score.is_change:
        return False  # it is how far the edit moves what it reads, and stands in the table
    return change.low > 0 if score.lower_is_better else change.high < 0


def _rise(score: Score) -> str:
    """How much a score moved: as a share of what it was, where it was something."""
    before, change = score.effect.before.mean, score.effect.difference.mean
    return f"{change:+.4g}" if score.is_change or not before else f"{change / before:+.1%}"


def _tell_loading(form: ExportForm, loading: Loading, name: str) -> str:
    if form == "model":
        return (
            "## How to load it\n\n"
            "It is an ordinary checkpoint:\n\n```python\n"
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f'model = AutoModelForCausalLM.from_pretrained("{name}")\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n```\n\n'
            f"vLLM: `vllm serve {name}`. lm-evaluation-harness: `--model_args pretrained={name}`."
        )
    if form == "gguf-adapter":
        return (
            "## How to load it\n\nWith llama.cpp, on a GGUF of the base model in any quantisation:\n\n"
            f"```sh\nllama-cli -m BASE.gguf --lora {name}/adapter.gguf\n```\n\n"
            "The strength is a dial: `--lora-scaled` takes a number after the file, so that 0.5 is half of the edit."
        )
    return (
        "## How to load it\n\n```python\n"
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({loading.given})\n"
        f'model = PeftModel.from_pretrained(base, "{name}")\n'
        f"tokenizer = AutoTokenizer.from_pretrained({loading.given})\n```\n\n"
        f"{loading.note}vLLM: `vllm serve {loading.name} --enable-lora --lora-modules detox={name}`. "
        f"lm-evaluation-harness: `--model_args pretrained={loading.name},peft={name}`.\n\n"
        "llama.cpp takes it as a file of its own: `detox export STUDY --as gguf-adapter`.\n\n"
        "The strength is a dial: `lora_alpha` in adapter_config.json scales the whole edit, so that half of it is half "
        "of the edit."
    )


def _tell_proof(base: ModelIdentity, loading: Loading, name: str) -> str:
    where = "FILE.gguf" if loading.is_gguf else base.name
    return (
        "## Proof\n\n"
        f"`detox_receipt.json` names the base weights ({base.weights_hash}), the edit, what it does to each matrix, "
        f"and the hash of every file. `detox verify {name} --base {where}` recomputes all of it.\n\n"
        f"`{RECIPE}` names every input by its commit or hash, all plans and seeds. `detox reproduce {name}/{RECIPE} "
        "--check` makes the edit and its figures again and compares them."
    )


def _tell_licence(licence: Licence) -> str:
    told = f"{licence.shown}, that of the base model." if licence.shown else ""
    return "\n\n".join(filter(None, ("## Licence", told, licence.warning)))
