"""procrastinate, as its documentation has it (https://procrastinate.readthedocs.io): asynchronous tasks on psycopg's pool,
batch_defer for batches (howto/basics/batch_defer), a worker with concurrency (howto/basics/worker) that NOTIFY wakes,
its default, and that deletes what is done (howto/production/delete_finished_jobs), locks for order (howto/advanced/locks).
Not named after the library: Python would import it instead.
"""

import asyncio
import contextlib

from procrastinate import App, PsycopgConnector

# A worker looks for jobs when it is notified, and after this many seconds. A job whose lock has become free doesn't
# notify, so where locks are few it is polling that counts; five seconds is the default.
POLLING_FOR_LOCKS = 0.01


def open_app(options, connections, handle=None):
    """Of so many connections, all of them open from the start."""
    server = {"host": options["host"], "port": options["port"], "user": options["user"], "dbname": options["database"]}
    app = App(connector=PsycopgConnector(kwargs=server, min_size=connections, max_size=connections))

    @app.task(name="order")
    async def order(**message):
        handle(message)

    return app, order


async def setup(options):
    app, _ = open_app(options, 1)
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()


async def cleanup(options):
    app, _ = open_app(options, 1)
    async with app.open_async():
        await app.connector.execute_query_async(
            "TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers"
        )


class Publisher:
    def __init__(self, order):
        self.order = order

    async def publish(self, queues, messages, lock=None):
        for queue in queues:
            deferrer = self.order.configure(queue=queue, lock=lock)
            if len(messages) == 1:
                await deferrer.defer_async(**messages[0])
            else:
                await deferrer.batch_defer_async(*messages)


@contextlib.asynccontextmanager
async def publisher(options, clients):
    app, order = open_app(options, clients)
    async with app.open_async():
        await app.connector.pool.wait()
        yield Publisher(order)


@contextlib.asynccontextmanager
async def worker(options, queue, handle):
    """Yields the task that runs it. Cancelled, it waits for jobs under way, and for their completion in the database."""
    settings, clients = {}, options["clients"]
    if options.get("ordered"):
        clients = min(clients, options["keys"])  # more would find nothing, and wait for the next poll
        settings = {"fetch_job_polling_interval": POLLING_FOR_LOCKS}
    app, _ = open_app(options, clients + 1, handle)  # one more to listen
    async with app.open_async():
        await app.connector.pool.wait()
        running = asyncio.create_task(
            app.run_worker_async(
                queues=[queue],
                concurrency=clients,
                delete_jobs="successful",
                install_signal_handlers=False,
                **settings,
            )
        )
        yield running
