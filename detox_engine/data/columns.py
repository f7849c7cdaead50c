"""Which columns of a table hold the toxic text, the civil text and their prompt, and how a row becomes a pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from os.path import commonprefix
from typing import Any

from detox_engine.data.chat import BrokenChat, Message, read_messages
from detox_engine.errors import InputError
from detox_engine.plans.sources import PairSpec


@dataclass(frozen=True)
class Pair:
    """A toxic text and its civil twin: two continuations of one prompt, or two whole texts where it is empty."""

    prompt: str
    toxic: str
    civil: str

    @property
    def toxic_text(self) -> str:
        return _join(self.prompt, self.toxic)

    @property
    def civil_text(self) -> str:
        return _join(self.prompt, self.civil)


@dataclass(frozen=True)
class Layout:
    """The columns that make a pair."""

    toxic: str
    civil: str
    prompt: str | None
    """None where the table has no column for it."""

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.toxic, self.civil) if self.prompt is None else (self.prompt, self.toxic, self.civil)

    def make_pair(self, cells: Mapping[str, Any]) -> Pair:
        """The pair in one row.

        A cell is a text or holds chat messages, of which the last by the assistant counts. Without a
        prompt column, the prompt is what both conversations share. A prompt that both texts repeat at their
        start is taken off them. An empty prompt is none.

        Raises:
            UnusableRow: a side is missing, empty or no text, or both sides are the same.
        """
        toxic, civil = _read_text(cells, self.toxic), _read_text(cells, self.civil)
        if self.prompt is not None:
            prompt = _read_prompt(cells, self.prompt)
        else:
            prompt = _find_shared_prompt(cells[self.toxic], cells[self.civil])
        whole = prompt and toxic.startswith(prompt) and civil.startswith(prompt)
        if whole and len(prompt) < min(len(toxic.rstrip()), len(civil.rstrip())):
            toxic, civil = toxic[len(prompt) :], civil[len(prompt) :]
        if toxic.strip() == civil.strip():
            raise UnusableRow(IDENTICAL)
        return Pair(prompt, toxic, civil)


@dataclass(frozen=True)
class SafetyLayout:
    """PKU-SafeRLHF: two answers, each marked safe or not; a row is a pair where exactly one of them is safe."""

    prompt: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        prompt = () if self.prompt is None else (self.prompt,)
        return (*prompt, "response_0", "response_1", "is_response_0_safe", "is_response_1_safe")

    def make_pair(self, cells: Mapping[str, Any]) -> Pair:
        """The pair in one row; raises UnusableRow as `Layout.make_pair`, and where the marks are the same."""
        safe = [_read_mark(cells, f"is_response_{answer}_safe") for answer in (0, 1)]
        if safe[0] == safe[1]:
            raise UnusableRow("both answers are safe" if safe[0] else "neither answer is safe")
        toxic, civil = ("response_1", "response_0") if safe[0] else ("response_0", "response_1")
        return Layout(toxic, civil, self.prompt).make_pair(cells)


@dataclass(frozen=True)
class AnswersLayout:
    """Two answers in one list, the better one first, as LLaMA-Factory writes preferences."""

    answers: str
    prompt: str | None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.answers,) if self.prompt is None else (self.prompt, self.answers)

    def make_pair(self, cells: Mapping[str, Any]) -> Pair:
        """The pair in one row; raises UnusableRow as `Layout.make_pair`, and where there are not two answers."""
        both = cells.get(self.answers)
        if not isinstance(both, list) or len(both) != 2:
            raise UnusableRow(f"“{self.answers}” is no list of two answers")
        sides = {"chosen": both[0], "rejected": both[1]}
        return Layout("rejected", "chosen", self.prompt).make_pair({**cells, **sides})


IDENTICAL = "both sides are the same"


class UnusableRow(Exception):
    """Why a row makes no pair, in words that count many such rows together."""


PAIRS = Layout("toxic", "civil", "prompt")
LEE = Layout("pert_gen_text", "unpert_gen_text", "prompt_text")
"""Lee et al. 2024: GPT-2's own continuation is the preferred one, the one steered by PPLM the toxic one."""
PREFERENCES = Layout("rejected", "chosen", "prompt")
PARADETOX = (Layout("en_toxic_comment", "en_neutral_comment", None), Layout("toxic_sentence", "neutral_sentence", None))
"""s-nlp/paradetox and textdetox/multilingual_paradetox: a comment and how somebody would say it civilly."""
PROMPTS = ("prompt", "question", "instruction", "conversations", "context")
"""What the prompt of preferences is called."""
SINGLE = ({"prompt", "completion", "label"}, {"prompt", "response", "label"})
"""Columns of single answers with a label (KTO), of which no two are a pair."""


def find_layout(columns: Sequence[str], spec: PairSpec, shown: str) -> "Layout | SafetyLayout | AnswersLayout":
    """The layout of a table with these columns; a column that `spec` names replaces a recognised one.

    Where `spec` names both sides, nothing is guessed: the prompt is the one it names, or none.

    Raises:
        InputError: a named column is missing, the sides share one, or nothing is recognised.
    """
    found = ", ".join(f"“{name}”" for name in columns) or "none"
    for name in (spec.toxic, spec.civil, spec.prompt):
        if name is not None and name not in columns:
            raise InputError(f"{shown} has no column “{name}”; choose among those it has: {found}.")
    mapped = spec.toxic is not None and spec.civil is not None
    named = next((name for name in PROMPTS if name in columns), None)
    candidates: list[Layout | SafetyLayout | AnswersLayout] = []
    for known in (PAIRS, LEE, PREFERENCES, *PARADETOX):
        own = known.prompt if known.prompt in columns else named if known.prompt == "prompt" else None
        prompt = spec.prompt or (None if mapped else own)
        candidates.append(Layout(spec.toxic or known.toxic, spec.civil or known.civil, prompt))
    if spec.toxic is None and spec.civil is None:
        candidates.append(SafetyLayout(spec.prompt or named))
        candidates.append(AnswersLayout("output", spec.prompt or named))
    layout = next((layout for layout in candidates if set(layout.columns) <= set(columns)), None)
    if layout is None and any(single <= set(columns) for single in SINGLE):
        raise InputError(
            f"{shown} holds single answers, each with a label, and no pairs: put a good and a bad answer to the same "
            "prompt into one row, as prompt, chosen and rejected."
        )
    if layout is None:
        raise InputError(
            f"{shown} has no columns for the toxic and the civil text that are known by their names "
            f"(found: {found}): say which column is which, or rename them to toxic and civil."
        )
    if len(set(layout.columns)) < len(layout.columns):
        raise InputError(f"{shown}: toxic text, civil text and prompt must be different columns (found: {found}).")
    return layout


LONGEST_CELL = 1_000_000
"""Characters of a text of a pair; a model reads a thousandth of that."""


def check_text(value: Any, name: str) -> str:
    """`value` itself where it is a text that can be written as UTF-8; raises UnusableRow where not.

    Control characters stay as they are. Half of a surrogate pair can come from a JSON escape.
    """
    if not isinstance(value, str):
        raise UnusableRow(f"“{name}” is null" if value is None else f"“{name}” is not text")
    if len(value) > LONGEST_CELL:
        raise UnusableRow(f"“{name}” is longer than {LONGEST_CELL:,} characters")
    if holds_half_character(value):
        raise UnusableRow(f"“{name}” holds half of a surrogate pair")
    return value


def holds_half_character(text: str) -> bool:
    """Whether a part of `text` is half of a surrogate pair, which stands for no character and cannot be written."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _join(prompt: str, continuation: str) -> str:
    if not prompt or not continuation or prompt[-1].isspace() or continuation[0].isspace():
        return prompt + continuation
    return f"{prompt} {continuation}"


def _read_text(cells: Mapping[str, Any], name: str) -> str:
    if name not in cells:
        raise UnusableRow(f"“{name}” is missing")
    value = cells[name]
    messages = _find_messages(value, name)
    if messages is not None:
        spoken = [message.text for message in messages if message.role == "assistant"]
        if not spoken:
            raise UnusableRow(f"“{name}” holds no message of the assistant")
        value = spoken[-1]
    text = check_text(value, name)
    if not text.strip():
        raise UnusableRow(f"“{name}” is empty")
    return text


def _read_prompt(cells: Mapping[str, Any], name: str) -> str:
    value = cells.get(name)
    if value is None:
        return ""
    messages = _find_messages(value, name)
    text = check_text(value if messages is None else _join_messages(messages), name)
    return text if text.strip() else ""


def _find_messages(value: Any, name: str) -> tuple[Message, ...] | None:
    try:
        return read_messages(value)
    except BrokenChat:
        raise UnusableRow(f"“{name}” begins as a list of messages and cannot be read as one") from None


def _find_shared_prompt(toxic: Any, civil: Any) -> str:
    rude, kind = read_messages(toxic), read_messages(civil)
    if rude is not None and kind is not None:
        shared = takewhile(lambda both: both[0] == both[1], zip(rude[:-1], kind[:-1], strict=False))
        return check_text(_join_messages([message for message, _ in shared]), "prompt")
    if isinstance(toxic, str) and isinstance(civil, str):
        # a transcript in the manner of Anthropic's HH-RLHF; in free text a shared beginning is no prompt
        before, turn, _ = commonprefix([toxic, civil]).rpartition("\n\nAssistant:")
        return before + turn
    return ""


def _join_messages(messages: Sequence[Message]) -> str:
    return "\n".join(message.text for message in messages)


def _read_mark(cells: Mapping[str, Any], name: str) -> bool:
    mark = {"true": True, "false": False, "1": True, "0": False}.get(str(cells.get(name)).strip().lower())
    if mark is None:
        raise UnusableRow(f"“{name}” is neither true nor false")
    return mark
