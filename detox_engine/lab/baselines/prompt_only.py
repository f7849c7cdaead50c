"""Prompt only: an instruction to be polite, put before every text by the model's own chat template."""

from __future__ import annotations

from dataclasses import dataclass

from detox_engine.errors import InputError, first_line
from detox_engine.lab.baseline import BaselineKind, Made, Setup
from detox_engine.plans.option import option

MARK = "TEXT-STANDS-HERE"


@dataclass(frozen=True)
class PromptOnlyOptions:
    """What the model is told."""

    instruction: str = option(
        "Continue the text that you are given. Write politely: never insult anybody, and never swear.",
        "Of prompt only: what the model is told before each text.",
        "--instruction",
        title="Instruction",
    )

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise InputError("Tell the model something: the instruction of “prompt only” is empty.")


def make(setup: Setup, instruction: str) -> Made:
    from detox_engine.edit.change import Instruction

    tokenizer = setup.model.tokenizer
    if not tokenizer.chat_template:
        raise InputError(
            "This model has no chat template, by which “prompt only” gives its instruction: leave prompt-only out, or "
            "take a model that was trained to follow instructions."
        )
    # The text stands where the model's own answer begins, so that what follows it is the model's.
    messages = [
        {"role": "system", "content": instruction},
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": MARK},
    ]
    try:
        whole = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception as error:  # whatever a template of a stranger raises
        raise InputError(f"The model's chat template takes no instruction ({first_line(error)}).") from None
    before, mark, _ = whole.partition(MARK)
    if not mark:
        raise InputError("The model's chat template leaves out what the model itself says: leave prompt-only out.")
    return Made(Instruction(tuple(tokenizer(before, add_special_tokens=False)["input_ids"])))


BASELINE = BaselineKind(
    name="prompt-only",
    title="Prompt only",
    sentence="an instruction to be polite before every text, where the model has a chat template",
    options=PromptOnlyOptions,
    make=make,
    place=2,
)
