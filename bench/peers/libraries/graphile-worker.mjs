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

async function worker(server, queue, handle) {
  const { clients, batch } = server;
  const pgPool = open(server, clients + 1);
  const runner = await startRunner({
    pgPool,
    logger,
    noHandleSignals: true,
    taskList: { [queue]: async (payload) => handle(payload) },
    preset: {
      worker: {
        concurrentJobs: clients,
        maxPoolSize: clients + 1,
        // The page's "sensible default" is the least there is: with less, workers wait for each other.
        localQueue: { size: Math.max(batch, clients + 1) },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
  });
  // Stopping waits for what is under way, and for its completion in the database.
  return { stop: () => runner.stop(null) };
}

await run({ setup, cleanup, publisher, worker });
