"""Work that a page asks for and what is found: a question goes to a worker, its answer is kept under it.

A page's `work.py` declares its tasks, each with a function that answers a question and knows no Streamlit. The task
owns what is around it: the job, the study and the model, the answers, and the search for words to blur.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import streamlit as st

from detox_engine.errors import Progress
from ui.session import kept_results, shared_models
from ui.session.kept import Kept
from ui.session.kept_results import KeptResult, Shape
from ui.session.places import keeps_results
from ui.show import notes
from ui.words import rude_words
from ui.work import jobs

if TYPE_CHECKING:
    from detox_engine.study.study import Study
    from ui.session.view import Fitted


class Question(Hashable, Protocol):
    """A frozen value that holds all that its answer depends on."""

    @property
    def fitted(self) -> Fitted: ...


A = TypeVar("A", bound=Question)
R = TypeVar("R")
Tell = Callable[[Any], None]
"""Takes an answer as far as it is found; the next one, or what is returned, stands in its place."""


@dataclass(eq=False)
class Task(Generic[A, R]):
    """One kind of work; a page's `work.py` has it as a constant, so that all sessions share its answers.

    Attributes:
        title: what its jobs are called in the sidebar, where not as their kind.
        kind: names its jobs; a session has one at a time of a kind, and a new one stops it.
        answer: finds the answer in a worker, without a call of Streamlit; it may tell it in part on the way.
            It is given no model where none is needed.
        keep: answers that stay.
        words: texts of an answer in which words are to be blurred; they are looked for in the worker, in one go,
            because a page asks word by word.
        each: what tells questions apart that do not stop each other; a part of their jobs' kind.
        private: whether only the session that asked finds the answer.
        shape: of questions and answers, where these stay on disk with the study; on a server for others, which keeps
            nothing of its visitors, only the session that asked finds them.
        patience: seconds for which `ask` waits, so that short work is drawn without a progress bar.
    """

    kind: str
    answer: Callable[[Any, Study, A, Progress, Tell], R]
    keep: int
    words: Callable[[R], Iterable[str]] | None = None
    each: Callable[[A], str] | None = None
    private: bool = False
    shape: Shape[A, R] | None = None
    title: str = ""
    needs_model: bool = True
    patience: float = 0.8
    _shared: Kept[A, tuple[R, bool]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._shared = Kept(self.keep)

    def find(self, asked: A) -> R | None:
        """The answer to `asked`, as far as it is found."""
        self._settle(asked)
        return self._find(asked)[0]

    def answers(self) -> dict[A, R]:
        """All that is in memory, the latest last."""
        self._settle(None)
        return {asked: found for asked, (found, _) in self._kept().all().items()}

    def results(self, study: Study, fitted: Fitted) -> list[KeptResult[A, R]]:
        """All that was found with a study, the latest last; what is being found as far as it is.

        Only of a task whose answers have a shape.
        """
        self._settle(None)
        on_disk = kept_results.list_results(self.shape, study, fitted) if keeps_results() else []
        kept = {each.asked: each for each in on_disk}
        for asked, (found, whole) in self._kept().all().items():
            if asked.fitted == fitted and not (whole and asked in kept):
                before = kept.pop(asked, None)
                kept[asked] = kept_results.hold_result(asked, found, whole, before)
        return list(kept.values())

    def delete(self, result: KeptResult[A, R]) -> None:
        """Take an answer away, from memory and from the disk.

        Raises:
            InputError: it cannot be taken away.
        """
        self._kept().drop(result.asked)
        kept_results.delete_result(result)

    def job(self, asked: A | None = None) -> jobs.Job | None:
        """This session's latest job of the kind; None before there is one, and once its answer has been looked up."""
        return jobs.find_job(self._kind_of(asked))

    def begin(self, asked: A) -> jobs.Job:
        """Answer in a worker, anew where there is an answer; what that comes to stands in its place."""
        shelf, kept, stays = shared_models.shelf(), self._kept(), self.shape is not None and keeps_results()

        def work(progress: Progress) -> None:
            study = shelf.fit(asked.fitted.study, progress)
            model = shelf.workbench(asked.fitted.study.model, progress) if self.needs_model else None

            def tell(found: R, whole: bool = False) -> None:
                if self.words is not None:
                    progress("Finding words to blur", 0, 0)
                    rude_words.find_rude_words(self.words(found))
                kept.keep(asked, (found, whole))

            earlier = kept.find(asked)
            try:
                found = self.answer(model, study, asked, progress, tell)
            except Exception:
                self._keep_part(kept, study, asked, earlier, stays)
                raise
            tell(found, whole=True)
            if stays:
                kept_results.keep_result(self.shape, study, asked, found, True, self._texts_of(found))

        return jobs.start_job(self._kind_of(asked), asked, work, self.title)

    def ask(self, asked: A, patience: float | None = None) -> R | None:
        """The answer, as far as it is found; begins the work where nothing has, and waits a moment for it.

        Where it takes longer, was stopped or failed, `draw_unfinished` says so.

        Args:
            patience: seconds to wait, where not as long as usual: 0 begins work beside which other work is asked for.
        """
        self._settle(asked)
        job = self.job(asked)
        mine = job is not None and job.key == asked
        found, whole = self._find(asked)
        if found is not None and (whole or mine):
            return found
        if not mine:
            # Nobody has asked yet, or other answers have pushed it out.
            job = self.begin(asked)
        end = time.monotonic() + (self.patience if patience is None else patience)
        while job.running and time.monotonic() < end:
            time.sleep(0.02)
        return self.find(asked)

    def forget(self, asked: A) -> None:
        """Drop what became of the latest job, so that the next `ask` begins anew."""
        jobs.forget_job(self._kind_of(asked))

    def _keep_part(
        self, kept: Kept[A, tuple[R, bool]], study: Study, asked: A, earlier: tuple[R, bool] | None, stays: bool
    ) -> None:
        """Of work that was stopped or failed what it told stays, unless it was answered whole before."""
        found, _ = kept.find(asked) or (None, False)
        if earlier is not None and earlier[1]:
            kept.keep(asked, earlier)
        elif found is not None and stays:
            part = kept_results.keep_result(self.shape, study, asked, found, False, self._texts_of(found))
            if part is None:
                # The whole is on disk, from before this process.
                kept.drop(asked)

    def _texts_of(self, found: R) -> Iterable[str]:
        return () if self.words is None else self.words(found)

    def _settle(self, asked: A | None) -> None:
        """Drop a job that is done; before its answer is looked up, which a worker may be about to keep."""
        job = self.job(asked)
        if job is not None and job.snapshot.state == "done":
            jobs.forget_job(job.kind)

    def _find(self, asked: A) -> tuple[R | None, bool]:
        return self._kept().find(asked) or (None, False)

    def _kind_of(self, asked: A | None) -> str:
        return self.kind if self.each is None or asked is None else f"{self.kind} {self.each(asked)}"

    def _kept(self) -> Kept[A, tuple[R, bool]]:
        if not (self.private or (self.shape is not None and not keeps_results())):
            return self._shared
        return st.session_state.setdefault(f"answers of {self.kind}", Kept(self.keep))


def draw_task(
    task: Task[A, R],
    asked: A | None,
    key: str,
    label: str,
    note: str = "",
    stopped: str = "",
    *,
    again: bool = False,
    icon: str = ":material/play_arrow:",
    draw: Callable[[jobs.Snapshot], None] = jobs.draw_progress,
    stop_label: str = "Stop",
    help: str | None = None,
) -> None:
    """The button that begins a task, and its progress, or why it ended without an answer.

    Args:
        asked: None where something is missing, and there is nothing to begin.
        key: of the button.
        note: beside the button, as Markdown; what is missing, or what the work is about.
        stopped: what work that was stopped leaves; nothing is said where this is empty.
        again: whether there is an answer already, so that the button stands back.
        draw: draws the progress.
    """
    job = task.job(asked)
    running = job is not None and job.running
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            label,
            key=key,
            type="secondary" if again else "primary",
            icon=icon,
            disabled=asked is None or running,
            on_click=task.begin,
            args=(asked,),
            help=help,
        )
        if note:
            st.caption(note)
    # It has its place before and after, too: what stands below is not drawn anew elsewhere when the work ends, where
    # for a moment a browser would have it twice.
    with st.container():
        if running:
            _watch(task, job, draw, stop_label)
        elif job is not None:
            _draw_end(task, job, stopped)


def draw_stale(task: Task[A, R], asked: A, key: str, what: str, label: str, help: str | None = None) -> None:
    """Say that `what` has changed since the answer on the page, and offer to ask as things are now."""
    job = task.job(asked)
    with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"{task.kind}_stale"):
        st.markdown(f":material/history: {what} since.", width="stretch")
        st.button(
            label,
            key=key,
            icon=":material/refresh:",
            disabled=job is not None and job.running,
            on_click=task.begin,
            args=(asked,),
            help=help,
        )


def draw_unfinished(task: Task[A, R], asked: A, key: str, label: str, stopped: str) -> None:
    """How the work that `ask` began is going, or why there is no answer, with a button `key` to try once more."""
    job = task.job(asked)
    if job is None:
        st.rerun()
    if job.running:
        _watch(task, job, jobs.draw_progress, "Stop")
        return
    _draw_end(task, job, stopped)
    st.button(label, key=key, on_click=task.forget, args=(asked,))


def _watch(task: Task[A, R], job: jobs.Job, draw: Callable[[jobs.Snapshot], None], stop_label: str) -> None:
    """Draw a running job; the whole page runs again whenever more of the answer is told."""
    drawn = task.find(job.key)

    def look(snapshot: jobs.Snapshot) -> None:
        draw(snapshot)
        if task.find(job.key) is not drawn:
            st.rerun()

    jobs.watch_job(job, look, stop_label)


def _draw_end(task: Task[A, R], job: jobs.Job, stopped: str) -> None:
    """Why a job ended; the page runs again where it has found its answer since the page looked it up."""
    if job.snapshot.state == "done":
        task.forget(job.key)
        st.rerun()
    if job.snapshot.state == "failed":
        notes.draw_error(job.snapshot.error)
    elif job.snapshot.state == "stopped" and stopped:
        st.info(stopped, icon=":material/info:")
