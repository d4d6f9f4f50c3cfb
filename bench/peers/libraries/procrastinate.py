"""procrastinate, for the benchmark: the same commands as load.mjs has, as lines of JSON.

As its documentation has it (https://procrastinate.readthedocs.io): asynchronous tasks on psycopg's pool, batch_defer
for batches (howto/basics/batch_defer), a worker with concurrency (howto/basics/worker) that is woken by NOTIFY, its
default, and deletes what is done (howto/production/delete_finished_jobs), locks for order (howto/advanced/locks).
"""

import asyncio
import json
import random
import string
import sys
import time

from procrastinate import App, PsycopgConnector

# Processes that share the clients of a queue, if it is the only one, and those that publish: Python runs on one core.
PROCESSES = 2

# Publishing calls that may be under way when latency is measured.
OUTSTANDING = 8

# A worker that has handled nothing for so long, in seconds, has lost messages or never gets any.
STALLED = 60

# How often, in seconds, a worker's process says how far it is.
REPORT = 0.002

# Ids and times have always as many digits.
FIRST_ID = 100_000_000
DIGITS = 20

# Random text to cut from: enough that hardly two messages have the same.
TEXT = "".join(random.choices(string.ascii_letters + string.digits, k=1 << 20))

now = time.monotonic_ns  # of the machine: the same for all processes


def payloads(size):
    """Makes orders as JSON of exactly so many bytes, without blanks. What fills them up doesn't compress."""

    def order(number, sent, note):
        return {
            "id": number,
            "type": "order.paid",
            "customer": "c-1029384",
            "amount": 129.95,
            "currency": "EUR",
            "sent": str(sent).rjust(DIGITS, "0"),
            "note": note,
        }

    room = size - len(json.dumps(order(FIRST_ID, 0, ""), separators=(",", ":")))
    if room < 0:
        raise ValueError(f"a message has at least {size - room} bytes")
    number = FIRST_ID
    while True:
        start = random.randrange(len(TEXT) - room)
        sent = yield order(number, now(), TEXT[start : start + room])
        number += 1


def open_app(options, connections, handle=None):
    """An app of so many connections at most, all of them open from the start."""
    server = {"host": options["host"], "port": options["port"], "user": options["user"], "dbname": options["database"]}
    app = App(connector=PsycopgConnector(kwargs=server, min_size=connections, max_size=connections))

    @app.task(name="order")
    async def order(**message):
        handle(message)

    return app, order


def queues_of(options):
    return [f"q{n + 1}" for n in range(options["queues"])]


async def setup(options):
    app, _ = open_app(options, 1)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
    return {}


async def cleanup(options):
    app, _ = open_app(options, 1)
    async with app.open_async():
        await app.connector.execute_query_async(
            "TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers"
        )
    return {}


async def publish(options):
    """Shares the clients among processes, which begin when all are ready."""
    processes = min(PROCESSES, options["clients"])
    parts = [
        {
            **options,
            "clients": (options["clients"] + n) // processes,
            "count": (options["count"] + n) // processes if "count" in options else None,
        }
        for n in range(processes)
    ]
    children = Children([("publisher", part) for part in parts])
    await children.start()
    await children.until(lambda: all(report.get("ready") for report in children.reports))
    await children.tell()
    return await children.ended()


async def publisher(options, told):
    app, order = open_app(options, options["clients"])
    deferrers = [order.configure(queue=queue) for queue in queues_of(options)]
    orders = payloads(options["bytes"])
    left = options["count"] if options["count"] is not None else float("inf")
    handled = 0

    async def client():
        nonlocal left, handled
        while left > 0 and (now() - first) / 1e9 < options.get("seconds", float("inf")):
            size = min(options["batch"], left)
            left -= size
            messages = [next(orders) for _ in range(size)]
            for deferrer in deferrers:
                if size == 1:
                    await deferrer.defer_async(**messages[0])
                else:
                    await deferrer.batch_defer_async(*messages)
            handled += size

    async with app.open_async():
        await app.connector.pool.wait()
        say(ready=True)
        await told
        first = now()
        await asyncio.gather(*(client() for _ in range(options["clients"])))
        say(handled=handled, first=first, last=now())


async def work(options, **mode):
    is_shared = options["queues"] == 1 and not mode
    processes = min(PROCESSES, options["clients"]) if is_shared else 1
    children = Children(
        [
            ("worker", {**options, **mode, "queue": queue, "clients": (options["clients"] + n) // processes})
            for queue in queues_of(options)
            for n in range(processes)
        ]
    )
    await children.start()
    wanted = options["count"] * options["queues"] if "count" in options else float("inf")
    duration = options.get("seconds", float("inf")) * 1e9

    def is_done():
        first = children.first()
        return children.handled() >= wanted or (first is not None and now() - first >= duration)

    await children.until(is_done)
    await children.tell()
    return await children.ended()


async def worker(options, told):
    """Tells its parent how far it is, until it is told to stop."""
    handled, first, said = 0, None, 0
    millis, newest, out_of_order = [], {}, 0

    def handle(message):
        nonlocal handled, first, out_of_order
        time_of_start = now()
        first = first or time_of_start
        handled += 1
        if options.get("latency"):
            millis.append((time_of_start - int(message["sent"])) / 1e6)
        if options.get("ordered"):
            out_of_order += newest.get(message["key"], 0) > message["id"]
            newest[message["key"]] = message["id"]

    app, _ = open_app(options, options["clients"] + 1, handle)  # one more to listen
    async with app.open_async():
        await app.connector.pool.wait()
        running = asyncio.create_task(
            app.run_worker_async(
                queues=[options["queue"]],
                concurrency=options["clients"],
                delete_jobs="successful",
                install_signal_handlers=False,
            )
        )
        say(ready=True)
        while not told.done():
            await asyncio.wait([told, running], timeout=REPORT, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
            if said != handled:
                said = handled
                say(handled=handled, first=first)
        running.cancel()  # waits for what is under way, and for its completion in the database
        await asyncio.gather(running, return_exceptions=True)
        say(handled=handled, first=first, last=now(), millis=millis, outOfOrder=out_of_order)


async def latency(options):
    options = {"clients": 2, **options}
    children = Children([("worker", {**options, "queue": "q1", "latency": True})])
    await children.start()
    app, order = open_app(options, OUTSTANDING)
    orders = payloads(options["bytes"])
    published = 0

    async def client():
        nonlocal published
        while (due := published / options["rate"]) < options["seconds"]:
            published += 1
            await asyncio.sleep(max(0, due - (now() - begun) / 1e9))
            if (now() - begun) / 1e9 >= options["seconds"]:
                published -= 1
                return
            await order.configure(queue="q1").defer_async(**next(orders))

    async with app.open_async():
        await app.connector.pool.wait()
        await children.until(lambda: children.reports[0].get("ready"))
        begun = now()
        await asyncio.gather(*(client() for _ in range(OUTSTANDING)))
        rate = published * 1e9 / (now() - begun)
    await children.until(lambda: children.handled() >= published)
    await children.tell()
    await children.ended()
    return {"millis": children.reports[0]["millis"], "rate": rate}


async def order(options):
    app, task = open_app(options, OUTSTANDING)
    orders = payloads(options["bytes"])
    messages = [{**next(orders), "key": n % options["keys"]} for n in range(options["count"])]

    async def client(number):
        for message in messages:
            if message["key"] % OUTSTANDING == number:
                await task.configure(queue="q1", lock=f"k{message['key']}").defer_async(**message)

    async with app.open_async():
        await asyncio.gather(*(client(number) for number in range(OUTSTANDING)))
    return await work({**options, "queues": 1}, ordered=True)


class Children:
    """Processes of their own, and what they have said last."""

    def __init__(self, parts):
        self.parts = parts
        self.reports = [{"handled": 0} for _ in parts]
        self.changed = now()

    async def start(self):
        self.processes = []
        for command, part in self.parts:
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-I", __file__, command, json.dumps(part),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 28,
            )  # fmt: skip
            self.processes.append(child)
        self.readers = [asyncio.create_task(self.read(n)) for n in range(len(self.processes))]

    async def read(self, n):
        async for line in self.processes[n].stdout:
            self.changed = now()
            self.reports[n].update(json.loads(line))
        if await self.processes[n].wait() != 0:
            raise RuntimeError(f"a process has failed: {self.processes[n].returncode}")

    def handled(self):
        return sum(report["handled"] for report in self.reports)

    def first(self):
        return min((report["first"] for report in self.reports if report.get("first")), default=None)

    async def until(self, condition):
        while not condition():
            for reader in self.readers:
                if reader.done():
                    reader.result()
            if now() - self.changed > STALLED * 1e9:
                raise RuntimeError(f"no message for {STALLED} s, after {self.handled()}")
            await asyncio.sleep(REPORT)

    async def tell(self):
        for child in self.processes:
            child.stdin.write(b"\n")
            await child.stdin.drain()

    async def ended(self):
        await asyncio.gather(*self.readers)
        last = max(report["last"] for report in self.reports)
        figures = {"messages": self.handled(), "seconds": (last - self.first()) / 1e9}
        if self.parts[0][1].get("ordered"):
            figures["outOfOrder"] = sum(report["outOfOrder"] for report in self.reports)
        return figures


def say(**report):
    print(json.dumps(report), flush=True)


async def child(body, options):
    """Told, and ends with its parent, by what comes on stdin."""
    told = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await body(options, told)


COMMANDS = {"setup": setup, "publish": publish, "work": work, "latency": latency, "order": order, "cleanup": cleanup}
CHILDREN = {"publisher": publisher, "worker": worker}

if __name__ == "__main__":
    command, options = sys.argv[1], json.loads(sys.argv[2])
    if command in CHILDREN:
        asyncio.run(child(CHILDREN[command], options))
    elif command in COMMANDS:
        print(json.dumps(asyncio.run(COMMANDS[command](options))))
    else:
        sys.exit(f"no such command: {command}")
