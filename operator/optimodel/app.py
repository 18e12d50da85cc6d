"""The operator's process: health, Lease, watches, barrier, workers. `python -m optimodel.app`."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import kopf
import uvloop

from . import handlers
from .adapters import complaints, inference, progress
from .adapters.kinds import WATCHED
from .adapters.kube import Kube
from .adapters.polling import PodHttp, Poller
from .api.contract import Progress
from .api.names import FIELD_MANAGER
from .controller import Controller
from .errors import ApiError, Conflict, NotLeading, TooMany, Transient
from .handlers import Key, Router
from .machinery.events import Recorder
from .machinery.health import Health
from .machinery.leader import Leader, Lost
from .machinery.metrics import Metrics
from .machinery.queue import WorkQueue, work
from .machinery.store import Store
from .machinery.sweep import Sweeper
from .plan.types import ComplaintTarget, Platform, ProbeResult, ProbeTarget, ProgressTarget
from .settings import Settings
from .snapshot import COMPLAINT, PROBE, PROGRESS
from .writer import Writer

log = logging.getLogger("optimodel")


def patience(error: BaseException) -> tuple[float, float | None]:
    """Shortest and longest wait in seconds after an error: as long as the server asks for, short where it passes by itself, and
    after one that is an answer until time alone changes something (None = never)."""
    if isinstance(error, TooMany):
        return error.retry_after, max(1.0, error.retry_after)
    if isinstance(error, Conflict):
        return 0.0, 2.0
    if isinstance(error, Transient | NotLeading):
        return 0.0, 3.0
    return 0.0, error.look_again if isinstance(error, ApiError) else None


class Polls:
    """The pollers behind the controller's one wish per reconcile."""

    def __init__(self, http: PodHttp, kube: Kube, router: Router, queue: WorkQueue[Key]) -> None:
        def learnt(kind: str) -> Any:
            def tell(key: Key, uid: str, result: object) -> None:
                if router.learn(kind, uid, result) and result is not None:
                    queue.add(key)

            return tell

        asker, reader, listener = inference.Inference(http), progress.Pages(http), complaints.Complaints(kube)
        self.probes: Poller[ProbeTarget, ProbeResult] = Poller(asker.ask, inference.pause, learnt(PROBE), 16)
        self.pages: Poller[ProgressTarget, Progress] = Poller(reader.ask, progress.pause, learnt(PROGRESS), 4)
        self.complaints: Poller[ComplaintTarget, str] = Poller(listener.ask, complaints.pause, learnt(COMPLAINT), 2)

    def want(self, key: Key, probes: Any, pages: Any, podless: Any) -> None:
        """From now on poll exactly these for this object."""
        self.probes.want(key, tuple(probes))
        self.pages.want(key, tuple(pages))
        self.complaints.want(key, tuple(podless))


class Reconciler(Protocol):
    """What the workers call."""

    async def reconcile(self, key: Key) -> float | None: ...


class App:
    """Everything wired together; `controller` builds what reconciles."""

    def __init__(
        self, settings: Settings, controller: Callable[[Store, Writer, Polls, Platform], Reconciler] = Controller
    ) -> None:
        self.settings = settings
        self._build = controller
        self.metrics = Metrics(FIELD_MANAGER)
        self.store = handlers.new_store()
        self.queue: WorkQueue[Key] = WorkQueue()
        self.router = Router(self.store, self.queue)
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    async def run(self) -> int:
        """Serve until SIGTERM (0), or until another process holds the Lease (1)."""
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, self._stop.set)
        count = self.metrics.writes
        self.kube = await Kube.connect(
            namespaces=self.settings.namespaces, wrote=lambda verb, kind: count.labels(verb, kind).inc()
        )
        self.leader = Leader(self.kube, self.settings.lease_namespace, self.settings.lease_name)
        self.kube.budget = self.leader.budget
        self.metrics.watch(lambda: self.queue.depth, lambda: len(self.store), lambda: float(self.leader.leading))
        health = Health(self.settings.health_port, lambda: True, self.metrics.render)
        await health.start()
        http = PodHttp()
        try:
            return await self._serve(http)
        finally:
            await self._end()
            await asyncio.gather(health.stop(), http.close(), self.kube.close(), return_exceptions=True)

    async def _serve(self, http: PodHttp) -> int:
        if not await self._unless_stopped(self.leader.acquire()):
            return 0
        log.info("leading as %s", self.leader.identity)
        sweeper = Sweeper(
            self.store, self.kube, [kind.kind for kind in WATCHED], self.router.changed, self.router.all,
            self.settings.sweep_interval,
        )  # fmt: skip
        polls = Polls(http, self.kube, self.router, self.queue)
        recorder = Recorder(self.kube, FIELD_MANAGER)
        writer = Writer(self.kube, self.store, recorder.record, self.queue.add)
        self._controller = self._build(self.store, writer, polls, self.settings.platform)

        def regained() -> None:
            self.queue.flush()
            sweeper.poke()

        background = [
            self.leader.hold(regained),
            recorder.run(),
            polls.probes.run(),
            polls.pages.run(),
            polls.complaints.run(),
            self._work(sweeper),
        ]
        self._tasks = [asyncio.create_task(each) for each in background]
        self._tasks.append(asyncio.create_task(self._watch()))
        stopped = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([stopped, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        return 0 if stopped in done else self._explain(done)

    def _explain(self, done: set[asyncio.Task[Any]]) -> int:
        for task in done:
            error = task.exception() if not task.cancelled() else None
            if isinstance(error, Lost):
                log.error("%s: ending", error)
            else:
                log.critical("a task of the operator ended", exc_info=error)
        return 1

    async def _work(self, sweeper: Sweeper) -> None:
        """Barrier, then the workers and the sweeps."""
        await sweeper.barrier()
        log.info("%d objects known, %d keys to look at", len(self.store), self.queue.depth)
        self.router.restarted = sweeper.poke
        async with asyncio.TaskGroup() as group:
            for _ in range(self.settings.workers):
                group.create_task(
                    work(self.queue, self._controller.reconcile, self.leader, patience, self.metrics.reconciled)
                )
            group.create_task(sweeper.run())

    async def _watch(self) -> None:
        """Run kopf for ever: whatever ends it, the watches begin again and the store stays."""
        while True:
            registry, settings = kopf.OperatorRegistry(), handlers.transport()
            handlers.register(registry, self.router, settings)
            ours = set(asyncio.all_tasks())
            tasks = await kopf.spawn_tasks(
                registry=registry,
                settings=settings,
                standalone=True,
                **handlers.scope(self.settings.namespaces),
            )
            for sign in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(sign, self._stop.set)
            try:
                await kopf.run_tasks(tasks, ignored=ours)
            except Exception as error:
                log.error("the watches ended (%s) and begin again", error)
            await asyncio.sleep(1.0)

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> bool:
        """Whether `work` ended before the stop signal."""
        tasks = [asyncio.create_task(work), asyncio.create_task(self._stop.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finished = tasks[0].done()
        for task in tasks:
            task.cancel()
        if finished:
            tasks[0].result()
        return finished

    async def _end(self) -> None:
        """Stop writing first, free the Lease, then end everything else."""
        self.queue.close()
        workers, watches = self._tasks[:-1], self._tasks[-1:]
        for task in workers:
            task.cancel()
        if workers:
            await asyncio.wait(workers, timeout=1.0)
        try:
            await self.leader.release()
        except ApiError as error:
            log.warning("%s", error)
        for task in watches:
            task.cancel()
        if watches:
            await asyncio.wait(watches, timeout=0.5)


def main() -> int:
    """Run the operator."""
    try:
        settings = Settings.read()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    gc.freeze()
    gc.set_threshold(
        50_000, 20, 20
    )  # bodies come and go without cycles: looking for them as often as usual costs 5 % of CPU

    async def run() -> int:
        return await App(settings).run()

    return uvloop.run(run())


if __name__ == "__main__":
    sys.exit(main())
