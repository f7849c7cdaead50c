"""The README of an exported folder: what it is, what was measured, and how it is loaded."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from detox_engine.edit.in_weights import LayerChange
from detox_engine.estimates import Estimate
from detox_engine.plans.edit import EditPlan, ExportForm, describe_edit
from detox_engine.study.study import ModelIdentity, Study
from detox_engine.study.suggestion import Check

TAGS = ["model-editing", "profs", "detox", "toxicity"]
PAPER = "https://arxiv.org/abs/2405.13967"
LIBRARIES = {"adapter": "peft", "model": "transformers", "gguf-adapter": "llama.cpp"}
NOT_EVALUATED = "**Not evaluated.** Nobody has measured here what this edit costs or what it does."


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


def write_card(
    folder: Path,
    name: str,
    form: ExportForm,
    base: ModelIdentity,
    loading: Loading,
    study: Study,
    plan: EditPlan,
    changes: tuple[LayerChange, ...],
    license: str | None,
) -> None:
    """Write README.md: front matter as the Hub reads it, then the words.

    Args:
        name: what the folder will be called.
    """
    data = ModelCardData(
        base_model=base.name,
        base_model_relation="finetune" if form == "model" else "adapter",
        library_name=LIBRARIES[form],
        pipeline_tag="text-generation",
        license=license,
        tags=TAGS,
    )
    parts = (
        f"---\n{data.to_yaml()}\n---",
        f"# {base.name.rpartition('/')[2]}, with {_count_directions(plan)} removed",
        _tell_evaluation(study, plan),
        _tell_edit(base, study, plan, changes),
        _tell_loading(form, loading, name),
        _tell_proof(base, loading),
        _tell_license(license),
    )
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def read_license(folder: Path) -> str | None:
    """What the base model's own card says its licence is; None where it has no card or the card does not say."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    try:
        return ModelCard.load(card, ignore_metadata_errors=True).data.get("license")
    except Exception:  # the front matter is anybody's, and fails in as many ways as YAML does
        return None


def _count_directions(plan: EditPlan) -> str:
    removed = plan.rank * len(plan.layers) - len(plan.switched_off)
    return f"{removed} toxic direction{'s' * (removed != 1)}"


def _tell_evaluation(study: Study, plan: EditPlan) -> str:
    suggestion = study.suggestion
    check = suggestion.check if suggestion is not None and suggestion.edit == plan else None
    if check is None:
        return NOT_EVALUATED
    return _tell_check(check)


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
        "The strength is a dial: `lora_alpha` in adapter_config.json scales the whole edit, so that half of it is half "
        "of the edit."
    )


def _tell_proof(base: ModelIdentity, loading: Loading) -> str:
    return (
        "## Proof\n\n"
        f"`detox_receipt.json` names the base weights ({base.weights_hash}), the edit, what it does to each matrix, "
        f"and the hash of every file. `detox verify FOLDER --base {'FILE.gguf' if loading.is_gguf else base.name}` "
        "recomputes all of it."
    )


def _tell_license(license: str | None) -> str:
    if license is None:
        return (
            "## Licence\n\nThat of the base model, whose files here do not name it: look it up before you pass this on."
        )
    return f"## Licence\n\n{license}, that of the base model."
