"""Twenty visitors at once, each with an edit of its own: what they wait for, and whether each gets its own answer.

The visitors speak a browser's protocol with the server and draw nothing: each would have a machine of its own, and
twenty browsers beside the server would take its two cores from it. What a session is told while nineteen others work
is held against what the same link tells to one visitor alone.
"""

import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import psutil

from benchmarks.dashboard import ROOT, environment, run_server
from benchmarks.side_by_side import Figure
from detox_engine.plans.edit import EditPlan, describe_edit

if TYPE_CHECKING:
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.asyncio.client import ClientConnection

SESSIONS = 20
LONGEST = 180.0
"""Seconds that a visitor waits for one thing."""
THINKING = 3.0
"""Seconds within which the visitors, who do not know of one another, press their buttons."""
WRITE = "Write before and after"
"""The button that is there once the study is."""
LARGEST = 2**26
"""Bytes of one message of the server's."""


class Visit(NamedTuple):
    """What one visitor saw, and how long it took."""

    opened: float
    """Seconds to a usable first page."""
    written: float
    """Seconds from the button to both continuations."""
    turned: float
    """Seconds from a click in the sidebar to the next page."""
    texts: list[str]
    """The continuations before and after."""


def plan_of(session: int) -> EditPlan:
    """A plan that no other session has."""
    return EditPlan(tuple(range(session % 8, 8)), 1 + session % 3, 0.5 + session / 10)


def link_of(session: int) -> str:
    """What a link to the session's plan asks for."""
    plan = plan_of(session)
    asked = f"layers={plan.layers[0]}-{plan.layers[-1]}&rank={plan.rank}&strength={plan.strength:g}"
    return f"method={plan.method}&{asked}"


@dataclass(eq=False)
class Visitor:
    """A session as a browser has it: the elements of the page, and the parts of it that run again by themselves."""

    socket: "ClientConnection"
    query: str
    shown: dict[tuple[int, ...], str] = field(default_factory=dict)
    """Place on the page -> the words of what stands there."""
    buttons: dict[str, str] = field(default_factory=dict)
    """Label -> what the server calls the button."""
    page: str = ""
    """What the server calls the page."""
    pages: dict[str, str] = field(default_factory=dict)
    """Address -> what the server calls the page there."""
    running: bool = False
    _listening: asyncio.Task | None = None
    _again: dict[str, asyncio.Task] = field(default_factory=dict)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def connect(cls, address: str, query: str) -> Self:
        from websockets.asyncio.client import connect

        socket = f"{address.replace('http', 'ws', 1)}/_stcore/stream"
        visitor = cls(await connect(socket, subprotocols=["streamlit"], max_size=LARGEST), query)
        visitor._listening = asyncio.create_task(visitor._listen())
        return visitor

    async def leave(self) -> None:
        for task in self._again.values():
            task.cancel()
        self._listening.cancel()
        await self.socket.close()

    async def go_to(self, page: str) -> None:
        """Ask for a page and wait until its run has ended."""
        self.page = self.pages.get(page, "")
        await self._ask(page_name="" if self.page else page)
        await self.see("")

    async def press(self, label: str) -> None:
        from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates

        pressed = WidgetState(id=self.buttons[label], trigger_value=True)
        await self._ask(widget_states=WidgetStates(widgets=[pressed]))

    async def see(self, words: str) -> None:
        """Wait until the page holds `words` and nothing runs."""
        async with asyncio.timeout(LONGEST):
            while self.running or not any(words in text for text in self.shown.values()):
                self._heard.clear()
                await self._heard.wait()

    async def _ask(self, **asked: object) -> None:
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ClientState_pb2 import ClientState

        self.running = True
        state = ClientState(query_string=self.query, page_script_hash=self.page, **asked)
        await self.socket.send(BackMsg(rerun_script=state).SerializeToString())

    async def _listen(self) -> None:
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        async for received in self.socket:
            self._hear(ForwardMsg.FromString(received))
            self._heard.set()

    def _hear(self, message: "ForwardMsg") -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.running = True
            if not message.metadata.run.fragment_ids:
                self._stop()
                self.shown.clear()
        elif kind == "script_finished":
            self.running = False
        elif kind == "navigation":
            self.page = message.navigation.page_script_hash
            self.pages = {page.url_pathname: page.page_script_hash for page in message.navigation.app_pages}
        elif kind == "auto_rerun":
            again = message.auto_rerun
            if again.fragment_id in self._again:
                self._again[again.fragment_id].cancel()
            self._again[again.fragment_id] = asyncio.create_task(self._repeat(again.fragment_id, again.interval))
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            # Words that mean nothing in Markdown are told with a backslash before their signs.
            words = element.markdown.body.replace("\\", "") or element.html.body or element.button.label
            self.shown[tuple(message.metadata.delta_path)] = words
            if element.WhichOneof("type") == "button":
                self.buttons[words] = element.button.id

    async def _repeat(self, fragment: str, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self._ask(fragment_id=fragment, is_auto_rerun=True)

    def _stop(self) -> None:
        for task in self._again.values():
            task.cancel()
        self._again.clear()


async def visit(address: str, session: int, wait: float = 0.0) -> Visit:
    """Open the session's link, write, turn to another page."""
    await asyncio.sleep(wait)
    start = time.perf_counter()
    visitor = await Visitor.connect(address, link_of(session))
    await visitor.go_to("compare")
    await visitor.see(WRITE)
    opened = time.perf_counter() - start
    start = time.perf_counter()
    await visitor.press(WRITE)
    await visitor.see(f"edit: {describe_edit(plan_of(session))};")
    written = time.perf_counter() - start
    texts = [text for shown in visitor.shown.values() for text in re.findall('<p class="written">(.*?)</p>', shown)]
    start = time.perf_counter()
    await visitor.go_to("spectrum")
    turned = time.perf_counter() - start
    await visitor.leave()
    return Visit(opened, written, turned, texts)


async def welcome(address: str) -> None:
    """The first visitor to a server, who waits for imports: that is what `dashboard` measures."""
    while True:
        try:
            await visit(address, SESSIONS)
            return
        except OSError:
            await asyncio.sleep(0.2)


async def visit_all(address: str, waits: list[float], at_once: bool) -> list[Visit]:
    """A visitor for each wait, all of them at once or one after the other."""
    visits = [visit(address, session, wait) for session, wait in enumerate(waits)]
    return list(await asyncio.gather(*visits)) if at_once else [await one for one in visits]


def serve(waits: list[float], at_once: bool) -> tuple[list[Visit], float]:
    """What the visitors of a new dashboard saw, which keeps nothing of another, and the bytes that it grew by."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        subprocess.run((sys.executable, "-m", "ui.session.kept_study"), cwd=ROOT, env=environment(cache), check=True)
        with run_server(cache) as server:
            asyncio.run(welcome(server.address))
            process = psutil.Process(server.process.pid)
            before = process.memory_info().rss
            found = asyncio.run(visit_all(server.address, waits, at_once))
            return found, process.memory_info().rss - before


def measure(quick: bool) -> list[Figure]:
    sessions = 3 if quick else SESSIONS
    together, grown = serve([THINKING * session / sessions for session in range(sessions)], at_once=True)
    alone, _ = serve([0.0] * sessions, at_once=False)
    wrong = sum(one.texts != other.texts or len(one.texts) < 2 for one, other in zip(together, alone, strict=True))
    distinct = len({tuple(one.texts) for one in alone})
    if distinct < 2:
        raise RuntimeError("All edits wrote the same, so that nothing tells the sessions apart.")

    def figure(name: str, of: Callable[[Visit], float]) -> Figure:
        many, few = (sorted(map(of, visits)) for visits in (together, alone))
        ratio = statistics.median(many) / statistics.median(few)
        told = {"at once": many, "alone": few}
        return Figure(f"{name}, median ({ratio:.1f} × alone)", statistics.median(many), "s", details=told)

    return [
        Figure(f"{sessions} sessions at once: those shown another's answer", wrong, "", 0),
        Figure(f"{sessions} sessions: different answers among them", distinct, ""),
        figure(f"{sessions} sessions at once: link to a usable page", lambda one: one.opened),
        figure(f"{sessions} sessions at once: button to both texts", lambda one: one.written),
        figure(f"{sessions} sessions at once: page to page", lambda one: one.turned),
        Figure(f"{sessions} sessions at once: what the server grew by", grown / 1e6, "MB"),
    ]
