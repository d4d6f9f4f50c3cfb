// pg-boss, as its reference has it (https://pgboss.io/api/workers and /api/queues): insert() for batches, batchSize for
// workers, one worker for each client, a table of its own for each queue, LISTEN and NOTIFY where latency counts.
// A worker waits for its polling interval between two batches, unless it is notified. burstWhenBatchFull lifts that
// only for full batches of more than one; so the handler notifies its own worker, which then looks for more until
// there is nothing (notifyWorker()).
import { connection, library, run } from "./load.mjs";

const { PgBoss } = library("pg-boss");

/** The least that it takes. */
const POLLING_SECONDS = 0.5;

/** The order of these is kept by key; a policy is for good, so it is a queue of its own. */
const ORDERED = (queue) => `${queue}_ordered`;
const NOTIFIED = (queue) => `${queue}_notified`;

async function open(server, max, options) {
  const boss = new PgBoss({ ...connection(server, max), schedule: false, supervise: false, ...options });
  boss.on("error", (error) => console.error(error));
  await boss.start();
  return boss;
}

async function setup(server, queues) {
  const boss = await open(server, 2);
  for (const queue of queues) {
    await boss.createQueue(queue, { partition: true });
  }
  await boss.createQueue(NOTIFIED("q1"), { partition: true, notify: true });
  await boss.createQueue(ORDERED("q1"), { partition: true, policy: "key_strict_fifo" });
  await boss.stop();
}

async function cleanup(server) {
  const boss = await open(server, 1);
  await boss.getDb().executeSql("TRUNCATE pgboss.job");
  await boss.stop();
}

/** Which of the queues it is. */
const queueFor = ({ ordered, latency }, queue) => (ordered ? ORDERED(queue) : latency ? NOTIFIED(queue) : queue);

async function publisher(server, clients) {
  const boss = await open(server, clients);
  return {
    async publish(queues, messages, keys) {
      for (const queue of queues.map((queue) => queueFor(server, queue))) {
        if (messages.length === 1) await boss.send(queue, messages[0], keys && { singletonKey: keys[0] });
        else await boss.insert(queue, messages.map((data, n) => ({ data, singletonKey: keys?.[n] })));
      }
    },
    close: () => boss.stop(),
  };
}

async function worker(server, queue, handle) {
  const { clients, batch } = server;
  const boss = await open(server, clients, { supervise: true, useListenNotify: Boolean(server.latency) });
  const options = { batchSize: batch, pollingIntervalSeconds: POLLING_SECONDS };
  const name = queueFor(server, queue);
  for (let n = 0; n < clients; n++) {
    const id = await boss.work(name, options, async (jobs) => {
      jobs.forEach(({ data }) => handle(data));
      boss.notifyWorker(id);
    });
  }
  // Waits for the batches under way, and for their completion in the database.
  return { stop: () => boss.offWork(name, { wait: true }) };
}

await run({ setup, cleanup, publisher, worker });
