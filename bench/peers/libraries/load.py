"""What the benchmark asks of a job library, for the one in Python. The same as load.mjs, where the commands are told."""

import asyncio
import json
import random
import string
import sys
import time

import procrastinate_driver as driver

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
        yield order(number, now(), TEXT[start : start + room])
        number += 1


def queues_of(options):
    return [f"q{n + 1}" for n in range(options["queues"])]


async def setup(options):
    await driver.setup(options)
    return {}


async def cleanup(options):
    await driver.cleanup(options)
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
    children = Children([("publish_part", part) for part in parts])
    await children.start()
    await children.until(lambda: all(report.get("ready") for report in children.reports))
    await children.tell()
    return await children.ended()


async def publish_part(options, told):
    queues = queues_of(options)
    orders = payloads(options["bytes"])
    left = options["count"] if options["count"] is not None else float("inf")
    handled = 0

    async def client():
        nonlocal left, handled
        while left > 0 and (now() - first) / 1e9 < options.get("seconds", float("inf")):
            size = min(options["batch"], left)
            left -= size
            messages = [next(orders) for _ in range(size)]
            await publisher.publish(queues, messages)
            handled += size

    async with driver.publisher(options, options["clients"]) as publisher:
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
            ("work_part", {**options, **mode, "queue": queue, "clients": (options["clients"] + n) // processes})
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


async def work_part(options, told):
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

    async with driver.worker(options, options["queue"], handle) as running:
        say(ready=True)
        while not told.done():
            await asyncio.wait([told, running], timeout=REPORT, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
            if said != handled:
                said = handled
                say(handled=handled, first=first)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        say(handled=handled, first=first, last=now(), millis=millis, outOfOrder=out_of_order)


async def latency(options):
    options = {"clients": 2, **options}
    children = Children([("work_part", {**options, "queue": "q1", "latency": True})])
    await children.start()
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
            await publisher.publish(["q1"], [next(orders)])

    async with driver.publisher(options, OUTSTANDING) as publisher:
        await children.until(lambda: children.reports[0].get("ready"))
        begun = now()
        await asyncio.gather(*(client() for _ in range(OUTSTANDING)))
        rate = published * 1e9 / (now() - begun)
    await children.until(lambda: children.handled() >= published)
    await children.tell()
    await children.ended()
    return {"millis": children.reports[0]["millis"], "rate": rate}


async def order(options):
    orders = payloads(options["bytes"])
    messages = [{**next(orders), "key": n % options["keys"]} for n in range(options["count"])]

    async def client(number):
        for message in messages:
            if message["key"] % OUTSTANDING == number:
                await publisher.publish(["q1"], [message], lock=f"k{message['key']}")

    async with driver.publisher(options, OUTSTANDING) as publisher:
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
                sys.executable, "-B", __file__, command, json.dumps(part),
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
CHILDREN = {"publish_part": publish_part, "work_part": work_part}

if __name__ == "__main__":
    command, options = sys.argv[1], json.loads(sys.argv[2])
    if command in CHILDREN:
        asyncio.run(child(CHILDREN[command], options))
    elif command in COMMANDS:
        print(json.dumps(asyncio.run(COMMANDS[command](options))))
    else:
        sys.exit(f"no such command: {command}")
