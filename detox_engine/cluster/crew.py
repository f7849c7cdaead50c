"""Hands work out to workers, a bounded amount at a time, and has what a dead worker held done again.

Sums stay with the worker that computed them until a round of shards is done. Then they are fetched layer by layer and
added in a tree, so that no object holds more than a layer of a worker, however large the model; and what a worker had
since the round began is all that its death costs. A shard counts in a layer when that layer of its round has been added
up. What a dead worker had is computed anew for the layers that are still missing, so that each pair counts once.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from types import ModuleType
from typing import Any

from detox_engine.cluster.connection import connected
from detox_engine.cluster.trial import SharedTrial
from detox_engine.cluster.worker import Refused, Worker, name_project, place_of
from detox_engine.errors import InputError, Progress, ignore_progress
from detox_engine.model.load import OpenModel
from detox_engine.plans.edit import EditPlan
from detox_engine.plans.evaluation import SweepPlan
from detox_engine.plans.shared.cluster import LOCAL, ClusterPlan
from detox_engine.scoring.evaluation import Materials
from detox_engine.scoring.results import SweepPoint
from detox_engine.study.shards import Counted, LayerSums, Shard, Sums, Work
from detox_engine.study.study import Study

AT_ONCE = 2
"""Parts of the work that a worker has at a time: one that it does, and one to go on with."""
ROUND = 64
"""Shards of each worker before their sums are added up: what a death costs at most, against what adding up costs."""
MOST_DEATHS = 3
"""Workers that one part of the work may end; then it is the work."""
PATIENCE = 0.2
"""Seconds between two looks at whether somebody wants to stop."""

Call = Callable[[Any, Any], Any]
"""An actor and an item -> the reference of its result."""


@dataclass(eq=False)
class Member:
    """A worker's place, and who fills it."""

    actor: Any
    process: int = 0
    done: list[Shard] = field(default_factory=list)
    """What its sums hold and nobody else's."""


class Crew:
    """Workers that each have the model."""

    def __init__(self, ray: ModuleType, model: OpenModel, workers: int, options: Mapping[str, Any]) -> None:
        self._ray, self._model, self._options = ray, model, options
        self._spec = place_of(model.spec, model.network.dtype, bool(options.get("num_gpus")))
        self._work: Work | None = None
        exceptions = ray.exceptions
        self._lost = (exceptions.RayActorError, exceptions.ObjectLostError, exceptions.OutOfMemoryError)
        self.members = [Member(self._hire()) for _ in range(workers)]

    @property
    def processes(self) -> tuple[int, ...]:
        """The workers' process ids, each on its machine."""
        return tuple(member.process for member in self.members)

    # Members

    def _hire(self) -> Any:
        return self._ray.remote(Worker).options(**self._options).remote()

    def open(self, progress: Progress) -> None:
        """Wait until every worker has the model.

        Raises:
            InputError: one runs other code, has other weights, or cannot open the model.
        """
        for number, member in enumerate(self.members):
            self._settle(member, lambda: progress("Starting workers", number, len(self.members)))  # noqa: B023
        progress("Starting workers", len(self.members), len(self.members))

    def _settle(self, member: Member, tick: Callable[[], None]) -> None:
        told = self._await(member.actor.introduce.remote(), tick)
        if told.project != name_project():
            raise InputError(
                f"A worker on {told.host} runs another version ({told.project}) than this process ({name_project()}): "
                "install the same one on every machine."
            )
        opened = self._await(member.actor.open.remote(self._spec), tick)
        if opened.weights_hash != self._model.weights_hash:
            raise InputError(
                f"A worker on {opened.host} has other weights under “{self._spec.name}” ({opened.weights_hash[:19]}) "
                f"than this process ({self._model.weights_hash[:19]}): copy the same model to every machine."
            )
        member.process = self._await(member.actor.find_process.remote(), tick)
        if self._work is not None:
            self._await(member.actor.begin.remote(self._work), tick)

    def _replace(self, member: Member, tick: Callable[[], None]) -> list[Shard]:
        """Fill the place of a dead worker; what its sums held."""
        self._ray.kill(member.actor)
        lost, member.done = member.done, []
        for left in reversed(range(MOST_DEATHS)):
            member.actor = self._hire()
            try:
                self._settle(member, tick)
                return lost
            except self._lost as error:
                if not left:
                    raise tell_death(error) from error
        return lost

    # Waiting

    def _await(self, reference: Any, tick: Callable[[], None]) -> Any:
        """A result, with a look at whether somebody wants to stop in between."""
        while not self._ray.wait([reference], timeout=PATIENCE)[0]:
            tick()
        return _unwrap(self._get(reference))

    def _get(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise cause from error

    def share(self, call: Call, items: Iterable[Any], tick: Callable[[], None]) -> Iterator[tuple[int, Any]]:
        """Each item's number and result, in any order, each once; `AT_ONCE` items of a worker are under way.

        Raises:
            InputError: an item cannot be done, or ends every worker that tries.
        """
        for _, number, _, result in self._hand_out(call, deque(), enumerate(items), tick, lambda member: ()):
            yield number, result

    def _hand_out(
        self,
        call: Call,
        again: deque[tuple[int, Any]],
        source: Iterator[tuple[int, Any]],
        tick: Callable[[], None],
        lost: Callable[[Member], Iterable[tuple[int, Any]]],
    ) -> Iterator[tuple[Member, int, Any, Any]]:
        """Member, number, item and result of everything in `again` and `source`, and of what dead workers had done."""
        running: dict[Any, tuple[Member, int, Any]] = {}
        deaths: Counter[int] = Counter()
        while True:
            tick()
            for member in self.members:
                while sum(one is member for one, _, _ in running.values()) < AT_ONCE:
                    following = again.popleft() if again else next(source, None)
                    if following is None:
                        break
                    running[call(member.actor, following[1])] = (member, *following)
            if not running:
                return
            ready, _ = self._ray.wait(list(running), timeout=PATIENCE)
            for reference in ready:
                if reference not in running:
                    continue
                member, number, item = running[reference]
                try:
                    result = self._get(reference)
                except self._lost as error:
                    deaths[number] += 1
                    if deaths[number] >= MOST_DEATHS:
                        raise tell_death(error) from error
                    # All that it had under way is gone with it.
                    gone = [each for each, (one, _, _) in running.items() if one is member]
                    again.extend(running.pop(each)[1:] for each in gone)
                    again.extend(lost(member))
                    self._replace(member, tick)
                    break
                del running[reference]
                yield member, number, item, _unwrap(result)

    # Sums

    def sum_shards(
        self, work: Work, shards: Iterable[Shard], total: Sums, progress: Progress
    ) -> Iterator[tuple[int, Counted]]:
        """See `detox_engine.study.fit.Crew`."""
        layers, source, texts, told = self._model.anatomy.layers, iter(shards), 0, set()
        owners: dict[int, int] = {}
        pending: deque[tuple[int, Shard]] = deque()

        def tick() -> None:
            progress("Embedding texts", texts, 0)

        def draw() -> Iterator[tuple[int, Shard]]:
            for shard in islice(source, ROUND * len(self.members)):
                owners.update(dict.fromkeys(shard.placed, shard.number))
                yield shard.number, shard

        def lose(member: Member) -> list[tuple[int, Shard]]:
            lost, member.done = member.done, []
            return [(shard.number, shard) for shard in lost]

        def run(source: Iterator[tuple[int, Shard]]) -> Iterator[tuple[int, Counted]]:
            nonlocal texts
            for member, number, shard, found in self._hand_out(_add, pending, source, tick, lose):
                member.done.append(shard)
                if number not in told:
                    told.add(number)
                    texts += 2 * len(shard.pairs)
                    yield number, found

        try:
            self._work = work
            while True:
                self._begin(tick)
                yield from run(draw())
                if not any(member.done for member in self.members):
                    break
                for layer in range(layers):
                    while (part := self._add_up(layer, owners, tick)) is None:
                        pending.extend(item for member in self._find_dead(tick) for item in member)
                        yield from run(iter(()))
                    total.put(layer, part)
                owners.clear()
            self._work = None
            self._begin(tick)
        finally:
            self._work = None

    def _begin(self, tick: Callable[[], None]) -> None:
        """Let every worker begin new sums."""
        for member in self.members:
            member.done = []
            try:
                self._await(member.actor.begin.remote(self._work), tick)
            except self._lost:
                self._replace(member, tick)

    def _add_up(self, layer: int, owners: Mapping[int, int], tick: Callable[[], None]) -> LayerSums | None:
        """A layer's sums of all workers; None where one of them has died."""
        parts = []
        for member in self.members:
            own = {shard.number for shard in member.done}
            if own:
                places = [place for place, number in owners.items() if number in own]
                parts.append((member.actor, member.actor.take.remote(layer, places)))
        while len(parts) > 1:
            pairs = zip(parts[::2], parts[1::2], strict=False)
            joined = [(actor, actor.join.remote(one, other)) for (actor, one), (_, other) in pairs]
            parts = joined + parts[2 * len(joined) :]
        try:
            return self._await(parts[0][1], tick)
        except self._lost:
            return None

    def _find_dead(self, tick: Callable[[], None]) -> list[list[tuple[int, Shard]]]:
        """Fill the places of the dead; what each of them had done."""
        found = []
        for member in self.members:
            try:
                self._await(member.actor.find_process.remote(), tick)
            except self._lost:
                found.append([(shard.number, shard) for shard in self._replace(member, tick)])
        return found

    # Measurements

    def begin_trial(self, *given: Any) -> SharedTrial:
        """A `Trial` whose prompts and texts the workers share."""
        return SharedTrial(self, *given)

    def measure(
        self,
        study: Study,
        plan: SweepPlan,
        materials: Materials,
        batches: Sequence[Sequence[EditPlan]],
        progress: Progress = ignore_progress,
    ) -> Iterator[tuple[Sequence[EditPlan], list[SweepPoint]]]:
        """The settings of each batch with their points, in any order."""
        others = {name: study.of(name) for name in {*study.methods[1:], plan.method} - {study.methods[0]}}
        bare = {"embeddings": None, "moments": None, "token_moments": None, "null_spectra": None, "pairs": ()}
        sent = self._ray.put(replace(study, others=others, **bare))
        told = self._ray.put(Materials((), materials.prompts, materials.texts, materials.sources))

        def call(actor: Any, batch: Sequence[EditPlan]) -> Any:
            return actor.measure.remote(sent, plan, told, batch)

        done = 0

        def tick() -> None:
            progress("Measuring settings", done, len(batches))

        for number, points in self.share(call, batches, tick):
            done += 1
            yield batches[number], points


def _add(actor: Any, shard: Shard) -> Any:
    return actor.add.remote(shard)


def _unwrap(result: Any) -> Any:
    if isinstance(result, Refused):
        raise InputError(result.sentence)
    return result


def tell_death(error: BaseException) -> InputError:
    """That workers die of a part of the work, in a sentence."""
    told = str(error)
    if "OutOfMemory" in type(error).__name__ or "OOM" in told or "out of memory" in told.lower():
        return InputError(
            "A worker was ended since its machine ran out of memory: ask for fewer --workers, a smaller --dtype or "
            "shorter texts."
        )
    if "ModuleNotFoundError" in told or "No module named" in told:
        return InputError(
            "A worker cannot import DeTox Explorer: install the same version on every machine of the cluster."
        )
    return InputError(
        f"{MOST_DEATHS} workers died one after the other at the same part of the work: look at their machines' memory, "
        "and at Ray's logs."
    )


@contextmanager
def open_crew(plan: ClusterPlan, model: OpenModel, progress: Progress = ignore_progress) -> Iterator[Crew | None]:
    """The workers that a plan asks for, with the model that is open here; None where it asks for none.

    Raises:
        InputError: the cluster cannot be had, or one of the workers is not as this process.
    """
    if plan.cluster is None:
        yield None
        return
    progress("Starting workers", 0, plan.workers or 1)
    with connected(plan) as ray:
        there = ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 1))
        machines = sum(node["Alive"] for node in ray.nodes())
        on_gpus = gpus > 0 and model.network.device.type != "cpu"
        workers = plan.workers or (gpus if on_gpus else machines)
        most = gpus if on_gpus else cores
        if plan.cluster != LOCAL and workers > most:
            kind = "GPUs" if on_gpus else "cores"
            raise InputError(f"{workers} workers are more than the cluster has {kind}, {most}: ask for fewer.")
        options = {"num_gpus": 1, "num_cpus": 1} if on_gpus else {"num_cpus": max(1, cores // workers)}
        crew = Crew(ray, model, workers, options)
        try:
            try:
                crew.open(progress)
            except crew._lost as error:
                raise tell_death(error) from error
            yield crew
        finally:
            with suppress(Exception):  # whose cluster is gone has no workers left either
                for member in crew.members:
                    ray.kill(member.actor)
