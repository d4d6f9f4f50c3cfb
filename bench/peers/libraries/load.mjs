// What the benchmark asks of a job library, for those in Node. procrastinate.py does the same in Python.
//
//   setup    makes the schema, and the queues q1 to qn
//   publish  every message to every queue, by so many clients          -> messages (not copies), seconds
//   work     the library's own workers, until all are done in the database, or for some time -> messages, seconds
//   latency  from the start of a publishing call to the beginning of the handler             -> millis, rate
//   order    messages of some keys, published before, worked off in order -> messages, seconds, outOfOrder
//   cleanup  removes all jobs
//
// A driver has setup, cleanup, publisher and worker. Workers have processes of their own, as they would have
// elsewhere: one thread of Node would otherwise be what is measured.
import { fork } from "node:child_process";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { payloads } from "./payload.mjs";

/** The libraries are not here, but where bench/peers/install.sh has put them. */
export const library = createRequire(new URL("../../../target/peers/node/package.json", import.meta.url));

/** What node-postgres wants to know; `host` is the directory of the socket. */
export const connection = ({ host, port, user, database }, max) => ({ host, port, user, database, max });

/** Processes that share the clients of a queue, if it is the only one: one thread is busy before the server is, and
 * more than two are slower on small machines. With several queues each has one of its own. */
const PROCESSES = 2;

/** Publishing calls that may be under way when latency is measured. */
const OUTSTANDING = 8;

/** Messages of an ordered run in one call. Never two of a key: libraries order by time, and it is the same for all. */
const ORDERED_BATCH = 100;

/** A worker that has handled nothing for so long has lost messages, or never gets any. */
const STALLED_MS = 60_000;

/** How often a worker's process says how far it is. */
const REPORT_MS = 2;

export async function run(driver) {
  const [command, json] = process.argv.slice(2);
  const options = JSON.parse(json);
  try {
    if (process.send) return await serve(driver, options);
    const commands = { setup, publish, work, latency, order, cleanup };
    if (!commands[command]) throw new Error(`no such command: ${command}`);
    console.log(JSON.stringify(await commands[command](driver, options)));
    process.exit(0);
  } catch (error) {
    console.error(error);
    console.error(`error: ${error.message || error.code}`);
    process.exit(1);
  }
}

const queuesOf = ({ queues }) => Array.from({ length: queues }, (_, n) => `q${n + 1}`);

/** Of the machine, in nanoseconds: the same for all processes. */
const now = () => process.hrtime.bigint();
const seconds = (from, to) => Number(to - from) / 1e9;

async function setup(driver, options) {
  await driver.setup(options, queuesOf(options));
  return {};
}

async function cleanup(driver, options) {
  await driver.cleanup(options);
  return {};
}

async function publish(driver, options) {
  const publisher = await driver.publisher(options, options.clients);
  const next = payloads(options.bytes);
  const started = now();
  const ended = () => options.seconds !== undefined && seconds(started, now()) >= options.seconds;
  let left = options.count ?? Infinity;
  let messages = 0;
  const client = async () => {
    while (left > 0 && !ended()) {
      const size = Math.min(options.batch, left);
      left -= size;
      await publisher.publish(queuesOf(options), Array.from({ length: size }, next));
      messages += size;
    }
  };
  await Promise.all(Array.from({ length: options.clients }, client));
  const done = now();
  await publisher.close();
  return { messages, seconds: seconds(started, done) };
}

async function work(driver, options) {
  const workers = startWorkers(driver, options, {});
  const wanted = (options.count ?? Infinity) * options.queues;
  await workers.until((handled, first) => {
    return handled >= wanted || (first && seconds(first, now()) >= options.seconds);
  });
  return workers.stop();
}

async function latency(driver, options) {
  const workers = startWorkers(driver, { clients: 2, batch: 100, ...options }, { latency: true });
  const publisher = await driver.publisher({ ...options, latency: true }, OUTSTANDING);
  const next = payloads(options.bytes);
  await workers.ready();
  const started = now();
  let messages = 0;
  const client = async () => {
    for (;;) {
      const due = messages / options.rate;
      if (due >= options.seconds) return;
      messages++;
      const early = due - seconds(started, now());
      if (early > 0) await sleep(early * 1e3);
      if (seconds(started, now()) >= options.seconds) return void messages--;
      await publisher.publish(["q1"], [next(now())]);
    }
  };
  await Promise.all(Array.from({ length: OUTSTANDING }, client));
  const rate = messages / seconds(started, now());
  await workers.until((handled) => handled >= messages);
  const { millis } = await workers.stop();
  await publisher.close();
  return { millis, rate };
}

async function order(driver, options) {
  const publisher = await driver.publisher({ ...options, ordered: true }, 1);
  const next = payloads(options.bytes);
  const size = Math.min(options.keys, ORDERED_BATCH);
  for (let n = 0; n < options.count; n += size) {
    const indexes = Array.from({ length: Math.min(size, options.count - n) }, (_, i) => n + i);
    const keys = indexes.map((index) => `k${index % options.keys}`);
    await publisher.publish(["q1"], indexes.map((index) => ({ ...next(), key: index % options.keys })), keys);
  }
  await publisher.close();
  const workers = startWorkers(driver, { batch: 1, ...options, queues: 1 }, { ordered: true });
  await workers.until((handled) => handled >= options.count);
  return workers.stop();
}

/** Starts the processes, and keeps the sum of what they say. */
function startWorkers(driver, options, mode) {
  const isShared = options.queues === 1 && !mode.latency && !mode.ordered;
  const processes = isShared ? Math.min(PROCESSES, options.clients) : 1;
  const share = (n) => Math.floor((options.clients + n) / processes);
  const parts = queuesOf(options).flatMap((queue) =>
    Array.from({ length: processes }, (_, n) => ({ ...options, ...mode, queue, clients: share(n) })),
  );
  const children = parts.map((part) => fork(process.argv[1], ["serve", JSON.stringify(part)]));
  const reports = children.map(() => ({ handled: 0 }));
  let changed = Date.now();
  let failure;
  children.forEach((child, n) => {
    child.on("message", (report) => {
      changed = Date.now();
      reports[n] = { ...reports[n], ...report };
    });
    child.on("exit", (status) => {
      if (status !== 0) failure = new Error(`a worker has failed: ${status}`);
    });
  });
  const sum = () => reports.reduce((sum, { handled }) => sum + handled, 0);
  const of = (name) => reports.map((report) => report[name]).filter((value) => value).map(BigInt);
  const least = (values) => values.reduce((a, b) => (a < b ? a : b), values[0]);
  const most = (values) => values.reduce((a, b) => (a > b ? a : b), values[0]);
  const wait = async (condition) => {
    while (!condition()) {
      if (failure) throw failure;
      if (Date.now() - changed > STALLED_MS) throw new Error(`no message for ${STALLED_MS} ms, after ${sum()}`);
      await sleep(REPORT_MS);
    }
  };
  return {
    ready: () => wait(() => reports.every(({ ready }) => ready)),
    until: (condition) => wait(() => condition(sum(), least(of("first")))),
    async stop() {
      children.forEach((child) => child.send("stop"));
      await wait(() => reports.every(({ last }) => last));
      const ended = { messages: sum(), seconds: seconds(least(of("first")), most(of("last"))) };
      if (mode.latency) ended.millis = reports.flatMap(({ millis }) => millis);
      if (mode.ordered) ended.outOfOrder = reports.reduce((sum, { outOfOrder }) => sum + outOfOrder, 0);
      return ended;
    },
  };
}

/** A worker's process: tells its parent how far it is, until it is told to stop. */
async function serve(driver, part) {
  let handled = 0;
  let first, timer;
  const millis = [];
  const newest = [];
  let outOfOrder = 0;
  const handle = (message) => {
    first ??= now();
    handled++;
    if (part.latency) millis.push(Number(now() - BigInt(message.sent)) / 1e6);
    if (part.ordered && newest[message.key] > message.id) outOfOrder++;
    if (part.ordered) newest[message.key] = message.id;
    timer ??= setTimeout(report, REPORT_MS);
  };
  const report = () => {
    timer = undefined;
    process.send({ handled, first: String(first) });
  };
  const worker = await driver.worker(part, part.queue, handle);
  process.send({ ready: true });
  process.on("disconnect", () => process.exit(1));
  await new Promise((resolve) => process.on("message", resolve));
  await worker.stop();
  clearTimeout(timer);
  const ended = { handled, last: String(now()), millis, outOfOrder };
  process.send(first ? { ...ended, first: String(first) } : ended, () => process.exit(0));
}
