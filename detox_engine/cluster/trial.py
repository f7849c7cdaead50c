"""A trial whose prompts and texts workers share: luck belongs to a prompt, so that parts give what the whole does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from detox_engine.cluster.worker import pack
from detox_engine.edit.change import Change
from detox_engine.errors import Progress
from detox_engine.forward.compare import Continuation
from detox_engine.forward.likelihood import Likelihoods, Span
from detox_engine.scoring.trial import Trial, join_likelihoods

if TYPE_CHECKING:
    from detox_engine.cluster.crew import Crew

Part = TypeVar("Part")
PARTS = 4
"""Parts for each worker: fewer share more of each pass, more end together."""


class SharedTrial(Trial):
    def __init__(self, crew: Crew, *given: Any) -> None:
        super().__init__(*given)
        self._crew = crew

    def _write(self, start: int, end: int) -> list[list[list[Continuation]]]:
        edits, sampling = pack(self.edits), self.sampling

        def call(actor: Any, part: Sequence[str]) -> Any:
            return actor.write.remote(edits, part, sampling)

        def go_on(stage: str, done: int, _: int) -> None:
            self.progress(stage, start + done, len(self.prompts))

        written = self._share(call, self.prompts[start:end], "continuations", go_on)
        return [prompt for part in written for prompt in part]

    def read_spans(
        self,
        spans: Sequence[Span],
        stage: str,
        edits: Sequence[Change | None] | None = None,
        listed: Sequence[int] = (),
        progress: Progress | None = None,
    ) -> Likelihoods:
        under = pack(self.edits if edits is None else edits)

        def call(actor: Any, part: Sequence[Span]) -> Any:
            return actor.read.remote(under, part, tuple(listed))

        return join_likelihoods(self._share(call, spans, stage, progress or self.progress))

    def _share(
        self, call: Callable[[Any, Sequence[Part]], Any], items: Sequence[Part], stage: str, progress: Progress
    ) -> list[Any]:
        """What each part of the items came to, in their order."""
        size = max(1, -(-len(items) // (PARTS * len(self._crew.members))))
        parts = [items[start : start + size] for start in range(0, len(items), size)]
        found: dict[int, Any] = {}

        def tick() -> None:
            progress(stage, sum(len(parts[number]) for number in found), len(items))

        for number, result in self._crew.share(call, parts, tick):
            found[number] = result
        tick()
        return [found[number] for number in range(len(parts))]
