// graphile-worker, as its page on performance has it (https://worker.graphile.org/docs/performance): a local queue,
// jobs completed in batches without delay, one connection more than there are concurrent jobs, prepared statements
// (its default), LISTEN (its default). Queues are task identifiers, since what it calls a queue is worked off one by
// one: that is what keeps order here.
import { connection, library, run } from "./load.mjs";

const { Logger, makeWorkerUtils, run: startRunner } = library("graphile-worker");
const pg = library("pg");

const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

/** A lost connection is told by the query it was lost in. */
const open = (server, max) => new pg.Pool(connection(server, max)).on("error", () => {}).on("connect", ignoreErrors);
const ignoreErrors = (client) => client.on("error", () => {});

async function setup(server, queues) {
  const pgPool = open(server, 1);
  const utils = await makeWorkerUtils({ pgPool, logger });
  await utils.migrate();
  await utils.release();
  await pgPool.end();
}

async function cleanup(server) {
  const pool = open(server, 1);
  await pool.query("TRUNCATE graphile_worker._private_jobs, graphile_worker._private_job_queues");
  await pool.end();
}

async function publisher(server, clients) {
  const pgPool = open(server, clients);
  const utils = await makeWorkerUtils({ pgPool, logger });
  return {
    /** All in one call: it takes jobs of any task. */
    async publish(queues, messages, keys = []) {
      if (queues.length === 1 && messages.length === 1) {
        return utils.addJob(queues[0], messages[0], { queueName: keys[0] });
      }
      const job = (identifier) => (payload, n) => ({ identifier, payload, queueName: keys[n] });
      return utils.addJobs(queues.flatMap((queue) => messages.map(job(queue))));
    },
    async close() {
      await utils.release();
      await pgPool.end();
    },
  };
}

/** The page's "sensible default" for the local queue is the least there is: with less, workers wait for each other. */
const batching = ({ batch, clients }) => ({
  concurrentJobs: clients,
  localQueue: { size: Math.max(batch, clients + 1) },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
});

/** Who looks for a job while the one before it of its queue is being completed finds nothing, and waits for the next
 * poll, two seconds by default. Fewer workers than keys and frequent polls are what helps; a local queue doesn't. */
const inOrder = ({ clients, keys }) => ({ concurrentJobs: Math.min(clients, keys), pollInterval: 10 });

async function worker(server, queue, handle) {
  const options = server.ordered ? inOrder(server) : batching(server);
  const maxPoolSize = options.concurrentJobs + 1;
  const pgPool = open(server, maxPoolSize);
  const runner = await startRunner({
    pgPool,
    logger,
    noHandleSignals: true,
    taskList: { [queue]: async (payload) => handle(payload) },
    preset: { worker: { ...options, maxPoolSize } },
  });
  // Stopping waits for what is under way, and for its completion in the database.
  return { stop: () => runner.stop(null) };
}

await run({ setup, cleanup, publisher, worker });
