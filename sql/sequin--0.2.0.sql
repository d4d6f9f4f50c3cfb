-- Made of the sources by scripts/schema.sh.
\echo Use "CREATE EXTENSION sequin" to load this file. \quit

-- bootstrap
-- What the extension owns. Config refers to streams and consumers by name, so that a dump restores; the
-- journals refer to a consumer by the id of its row, which a dump carries too.
--
-- No table that is dumped has a foreign key: those of an extension's tables are there before the rows, and
-- pg_restore --jobs loads tables in any order. The functions see to it that nothing refers to what is not there.

-- First of all: in a schema of somebody else's, nothing that follows would be safe from him.
CREATE FUNCTION sequin._check_installation() RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_check_installation';
SELECT sequin._check_installation();
DROP FUNCTION sequin._check_installation();

-- Streams' tables live here and are no members of the extension: pg_dump, GRANT and COPY treat them as the
-- user's own.
CREATE SCHEMA sequin_stream;
COMMENT ON SCHEMA sequin_stream IS 'One table for each stream of sequin, made by sequin.create_stream()';
-- The partitions of streams with retention: no members either.
CREATE SCHEMA sequin_partition;
COMMENT ON SCHEMA sequin_partition IS 'Partitions of the streams of sequin that have retention, made and dropped by sequin';
GRANT USAGE ON SCHEMA sequin, sequin_stream, sequin_partition TO PUBLIC;

-- Written by: create_stream, alter_stream, repair_stream, drop_stream, the janitor; and by what finds the table of a stream that isn't in it, as after
-- a dump of schemas only.
CREATE TABLE sequin.streams (
    name text COLLATE "C" PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Counts calls of repair_stream: what the dispatcher has seen of the sequence before is void.
    repairs integer NOT NULL DEFAULT 0,
    one_message_per_key boolean NOT NULL DEFAULT false,
    -- How long dedup_ids are remembered.
    dedup_window interval NOT NULL DEFAULT '2 min',
    -- What is kept: NULL is everything.
    retain_for interval,
    retain_messages bigint,
    retain_bytes bigint,
    retain_until_acked boolean NOT NULL DEFAULT false,
    -- What is in the way of that. Written by: the janitor.
    retention_blocked text
);

-- For names of partitions: each is used once.
CREATE SEQUENCE sequin.partition_id AS bigint;

-- Whoever publishes a key of a stream with one message per key holds its row's lock until his transaction ends. It holds
-- nothing else: a crash may empty it. Written by: the streams' trigger on_upsert.
CREATE UNLOGGED TABLE sequin.key_locks (
    stream oid NOT NULL,
    -- A hash of it.
    key bigint NOT NULL,
    PRIMARY KEY (stream, key)
);

-- The tables that have the dedup_ids of messages, and whose turn it is: those that are current or closing are written by
-- publishers, and closed ones are only read. 1 to 4 are for streams with a dedup_window of up to 10 minutes, the others for
-- longer ones. None is in a dump: ids are remembered for a while only. Written by: the janitor.
CREATE TABLE sequin.dedup_tables (
    number smallint PRIMARY KEY,
    turn text NOT NULL CHECK (turn IN ('free', 'current', 'closing', 'closed')),
    since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO sequin.dedup_tables (number, turn)
SELECT n, CASE n WHEN 1 THEN 'current' WHEN 5 THEN 'current' ELSE 'free' END FROM pg_catalog.generate_series(1, 8) n;

-- The janitor empties them by TRUNCATE: there is nothing for autovacuum to do. Written by: publish, publish_many.
CREATE TABLE sequin.dedup_1 (
    -- The stream's table.
    stream oid NOT NULL,
    id text COLLATE "C" NOT NULL,
    -- Of the message that was published with it, at that time.
    seq bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (stream, id)
) WITH (autovacuum_enabled = false);
CREATE TABLE sequin.dedup_2 (LIKE sequin.dedup_1 INCLUDING ALL) WITH (autovacuum_enabled = false);
CREATE TABLE sequin.dedup_3 (LIKE sequin.dedup_1 INCLUDING ALL) WITH (autovacuum_enabled = false);
CREATE TABLE sequin.dedup_4 (LIKE sequin.dedup_1 INCLUDING ALL) WITH (autovacuum_enabled = false);
CREATE TABLE sequin.dedup_5 (LIKE sequin.dedup_1 INCLUDING ALL) WITH (autovacuum_enabled = false);
CREATE TABLE sequin.dedup_6 (LIKE sequin.dedup_1 INCLUDING ALL) WITH (autovacuum_enabled = false);
CREATE TABLE sequin.dedup_7 (LIKE sequin.dedup_1 INCLUDING ALL) WITH (autovacuum_enabled = false);
CREATE TABLE sequin.dedup_8 (LIKE sequin.dedup_1 INCLUDING ALL) WITH (autovacuum_enabled = false);

-- Messages that are to be published later, each as the role that has scheduled it. Written by: publish, schedule, unschedule,
-- drop_stream; the scheduler deletes what is published.
CREATE TABLE sequin.schedules (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    headers jsonb,
    deliver_at timestamptz NOT NULL,
    owner regrole NOT NULL,
    scheduled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Why it was refused when it was due: then it is not tried again.
    reason text
);
CREATE INDEX schedules_due ON sequin.schedules (deliver_at, id) WHERE reason IS NULL;
CREATE INDEX schedules_stream ON sequin.schedules (stream);

-- Written by: create_consumer, alter_consumer, drop_consumer, pause_, resume_consumer, rewind.
CREATE TABLE sequin.consumers (
    name text COLLATE "C" PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    owner regrole NOT NULL,
    filters text[] NOT NULL,
    ack_wait interval NOT NULL,
    max_ack_pending integer NOT NULL,
    max_deliver integer,
    backoff interval[],
    ordered boolean NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    id integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    -- Counts rewinds: what the journals say of an earlier generation is void.
    generation integer NOT NULL DEFAULT 1,
    -- Where this generation starts: after this seq ..
    start_after bigint NOT NULL,
    -- .. and without these, as pairs of first and last seq.
    start_done bigint[] NOT NULL DEFAULT '{}',
    -- The last seq of the stream when the consumer was made: a sequence that is at a lower one has been set back.
    start_last bigint NOT NULL DEFAULT 0
);

-- Each start of a dispatcher takes one; it makes ack_ids unique for ever.
CREATE SEQUENCE sequin.epoch AS bigint MINVALUE 1 MAXVALUE 8388607;

-- The journal of the dispatcher, which alone writes it: what has happened to deliveries since the last
-- checkpoint. kind: d delivered, r returned, e extended, f finished, x dead.
CREATE TABLE sequin.outbox (
    consumer_id integer NOT NULL,
    id bigint NOT NULL,
    generation integer NOT NULL,
    kind "char" NOT NULL,
    ack_id bigint,
    due timestamptz,
    seqs bigint[] NOT NULL,
    keys bigint[],
    deliveries integer[],
    PRIMARY KEY (consumer_id, id)
);

-- One row for each call of ack, reject or redeliver, written by the caller's transaction; the dispatcher
-- deletes it when it is part of a checkpoint. kind: a acked, x rejected, r redelivered. And one for each call
-- of drop_consumer, until the journals have forgotten the consumer: g gone.
CREATE TABLE sequin.acks (
    consumer_id integer NOT NULL,
    id bigint NOT NULL,
    generation integer NOT NULL,
    kind "char" NOT NULL,
    seqs bigint[] NOT NULL,
    PRIMARY KEY (consumer_id, id)
);
CREATE INDEX acks_gone ON sequin.acks (consumer_id) WHERE kind = 'g';

-- The state of each consumer, about once a second while it changes; the highest id counts. Written by the
-- dispatcher.
CREATE TABLE sequin.checkpoints (
    consumer_id integer NOT NULL,
    id bigint NOT NULL,
    generation integer NOT NULL,
    floor bigint NOT NULL,
    done bigint[] NOT NULL,
    seqs bigint[] NOT NULL,
    keys bigint[] NOT NULL,
    deliveries integer[] NOT NULL,
    ack_ids bigint[] NOT NULL,
    due bigint[] NOT NULL,
    acked_total bigint NOT NULL,
    redelivered_total bigint NOT NULL,
    dead_total bigint NOT NULL,
    -- Rows of acks with a lower id that may still come: their transactions were open. All others with a lower id
    -- are part of it, and deleted.
    open_acks bigint[] NOT NULL,
    PRIMARY KEY (consumer_id, id)
);

-- Written by: reject, redrive, drop_consumer, and the dispatcher for messages delivered max_deliver times.
CREATE TABLE sequin.all_dead_letters (
    consumer text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    headers jsonb,
    deliver_count integer NOT NULL,
    reason text,
    dead_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, seq)
);

-- Written by: create_source, alter_source, pause_source, resume_source, drop_source.
CREATE TABLE sequin.sources (
    name text COLLATE "C" PRIMARY KEY,
    stream text COLLATE "C" NOT NULL,
    -- Inserts into the stream as this role.
    owner regrole NOT NULL,
    publication text NOT NULL,
    -- The tables that the publication had by name when the source was last created, altered or resumed.
    table_oids oid[] NOT NULL DEFAULT '{}',
    table_names text[] NOT NULL DEFAULT '{}',
    -- Made by sequin, dropped by sequin.
    owns_publication boolean NOT NULL,
    key_format text NOT NULL,
    -- resume_source after a lost slot backfills again if true.
    backfill boolean NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Random, not from a sequence: the slot is named after it and made before anything is written, and nextval
    -- writes. Never 0.
    id integer NOT NULL UNIQUE,
    -- Counts its slots: a source that starts anew gets a new one.
    generation integer NOT NULL DEFAULT 1,
    -- Of the slot: the server's system_identifier and the database's oid. A dump that is restored elsewhere has no
    -- slot, and its sources wait for resume_source.
    system bigint NOT NULL,
    database oid NOT NULL
);

-- How far a source is, written by its capturer in the transaction of the messages. The row with the highest id
-- counts; rows are added and deleted, never updated. Not dumped, since slots are not.
CREATE TABLE sequin.source_progress (
    source_id integer NOT NULL,
    generation integer NOT NULL,
    id bigint NOT NULL,
    lsn pg_lsn NOT NULL,
    commit_time timestamptz,
    captured_total bigint NOT NULL,
    PRIMARY KEY (source_id, generation, id)
);

-- Written by: backfill, cancel_backfill, create_source, alter_source, resume_source, and the capturer. Not dumped:
-- oids of tables are not.
CREATE TABLE sequin.backfills (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text COLLATE "C" NOT NULL REFERENCES sequin.sources (name) ON DELETE CASCADE,
    -- As the publication has it: the root, if published via the root.
    tbl oid NOT NULL,
    -- A SQL boolean over the table's columns, run as `owner`.
    condition text,
    owner regrole NOT NULL,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'done', 'cancelled', 'failed')),
    -- The key of the last row of the last chunk that was written, as text.
    last_key text[],
    -- Which columns that key was made of, and when they were last altered: after that it means nothing.
    key_version text,
    rows_read bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    error text
);
CREATE INDEX backfills_unfinished ON sequin.backfills (source, id) WHERE status IN ('pending', 'running');

-- The journals are small and churn: vacuum them by count, not by share.
ALTER TABLE sequin.outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
ALTER TABLE sequin.acks SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
ALTER TABLE sequin.checkpoints SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE sequin.source_progress SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE FUNCTION sequin.on_publish() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_on_publish';
CREATE FUNCTION sequin.on_upsert() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_on_upsert';
CREATE FUNCTION sequin.on_schedule() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_on_schedule';
CREATE FUNCTION sequin.on_config_change() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_on_config_change';

REVOKE EXECUTE ON FUNCTION sequin.on_config_change() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION sequin.on_schedule() FROM PUBLIC;

-- The scheduler wakes up for it.
CREATE TRIGGER on_schedule AFTER INSERT OR UPDATE OF deliver_at, reason ON sequin.schedules
    FOR EACH ROW WHEN (NEW.reason IS NULL) EXECUTE FUNCTION sequin.on_schedule();
ALTER TABLE sequin.schedules ENABLE ALWAYS TRIGGER on_schedule;

-- Which rows have changed, for the dispatcher.
CREATE TRIGGER on_config_change AFTER INSERT OR UPDATE OR DELETE ON sequin.streams
    FOR EACH ROW EXECUTE FUNCTION sequin.on_config_change();
CREATE TRIGGER on_truncate AFTER TRUNCATE ON sequin.streams
    FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_config_change();
CREATE TRIGGER on_config_change AFTER INSERT OR UPDATE OR DELETE ON sequin.consumers
    FOR EACH ROW EXECUTE FUNCTION sequin.on_config_change();
-- Owners are looked through: not for other settings.
CREATE TRIGGER on_owner_change AFTER INSERT OR UPDATE OF owner OR DELETE OR TRUNCATE ON sequin.consumers
    FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_config_change();
CREATE TRIGGER on_config_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sequin.sources
    FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_config_change();
-- Not for the progress of each chunk.
CREATE TRIGGER on_config_change AFTER INSERT OR UPDATE OF status OR DELETE OR TRUNCATE ON sequin.backfills
    FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_config_change();

SELECT pg_catalog.pg_extension_config_dump('sequin.streams', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.partition_id', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.consumers', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.consumers_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.sources', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.schedules', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.schedules_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.epoch', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.outbox', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.acks', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.checkpoints', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.all_dead_letters', '');
--

CREATE FUNCTION "_consumer_stats"() RETURNS TABLE (
	"consumer_id" INT,
	"ready" bigint,
	"in_flight" bigint,
	"delayed" bigint,
	"withheld" bigint,
	"ack_floor" bigint,
	"cursor" bigint,
	"redelivered_total" bigint,
	"acked_total" bigint,
	"dead_total" bigint,
	"first_unfinished" bigint,
	"waiting" bigint,
	"last_error" TEXT,
	"is_damaged" bool
)
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'consumer_stats_wrapper';
--

CREATE FUNCTION "_duplicates"(
	"stream" TEXT
) RETURNS bigint

LANGUAGE c
AS 'MODULE_PATHNAME', 'duplicates_wrapper';
--

CREATE FUNCTION "_inserted_at"(
	"stream" TEXT,
	"seq" bigint
) RETURNS timestamptz

LANGUAGE c
AS 'MODULE_PATHNAME', 'inserted_at_wrapper';
--

CREATE FUNCTION "_last_seq"(
	"stream" TEXT
) RETURNS bigint

LANGUAGE c
AS 'MODULE_PATHNAME', 'last_seq_wrapper';
--

CREATE FUNCTION "_partitions"(
	"stream" TEXT
) RETURNS INT

LANGUAGE c
AS 'MODULE_PATHNAME', 'partitions_wrapper';
--

CREATE FUNCTION "_source_faults"() RETURNS TABLE (
	"source_id" INT,
	"fault" TEXT
)
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'source_faults_wrapper';
--

CREATE FUNCTION "_source_workers"() RETURNS TABLE (
	"source_id" INT,
	"pid" INT,
	"last_error" TEXT
)
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'source_workers_wrapper';
--

CREATE FUNCTION "_stream_stats"(
	"stream" TEXT
) RETURNS TABLE (
	"messages" bigint,
	"bytes" bigint,
	"first_seq" bigint,
	"last_seq" bigint,
	"open_publishers" INT,
	"oldest_publisher_pid" INT,
	"oldest_publisher_since" timestamptz
)

LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_stats_wrapper';
--

CREATE FUNCTION "_workers"() RETURNS TABLE (
	"process" TEXT,
	"database" TEXT,
	"pid" INT,
	"state" TEXT,
	"since" timestamptz,
	"last_error" TEXT
)
STRICT
LANGUAGE c
AS 'MODULE_PATHNAME', 'workers_wrapper';
--

-- What there is to look at. Each view's numbers come from the dispatcher, or are NULL while it doesn't run.

CREATE VIEW sequin.stream_stats AS
SELECT s.name AS stream,
       t.messages,
       t.bytes,
       t.first_seq,
       t.last_seq,
       t.last_seq AS published_total,
       t.open_publishers,
       t.oldest_publisher_pid,
       t.oldest_publisher_since,
       sequin._duplicates(s.name) AS duplicates_total,
       sequin._partitions(s.name) AS partitions,
       s.retention_blocked
FROM sequin.streams s
LEFT JOIN LATERAL sequin._stream_stats(s.name) t ON true;

CREATE VIEW sequin.consumer_stats AS
SELECT c.name AS consumer,
       c.stream,
       s.ready,
       s.in_flight,
       s.delayed,
       s.withheld,
       s.ack_floor,
       greatest(l.last_seq - s.cursor, 0) AS lag,
       s.redelivered_total,
       s.acked_total,
       s.dead_total,
       sequin._inserted_at(c.stream, s.first_unfinished) AS oldest_unacked_at,
       s.waiting,
       CASE WHEN o.is_gone THEN 'ownerless'
            WHEN s.consumer_id IS NULL THEN 'unknown'
            WHEN s.is_damaged THEN 'damaged'
            WHEN c.paused THEN 'paused'
            ELSE 'active' END AS status,
       CASE WHEN o.is_gone
            THEN 'the role that owned the consumer is gone; give it to another by sequin.alter_consumer(.., owner => ..)'
            ELSE s.last_error END AS last_error
FROM sequin.consumers c
CROSS JOIN LATERAL (SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = c.owner) AS is_gone) o
LEFT JOIN sequin._consumer_stats() s ON s.consumer_id = c.id
LEFT JOIN LATERAL sequin._last_seq(c.stream) l(last_seq) ON true;

-- A source that is not here came with a dump: its slot stayed where it was.
CREATE VIEW sequin.source_stats AS
SELECT s.name AS source,
       s.stream,
       x.slot,
       t.status,
       pg_catalog.pg_wal_lsn_diff(h.lsn, r.confirmed_flush_lsn)::bigint AS lag_bytes,
       pg_catalog.pg_wal_lsn_diff(h.lsn, r.restart_lsn)::bigint AS retained_bytes,
       p.lsn AS last_commit_lsn,
       p.commit_time AS last_commit_time,
       coalesce(p.captured_total, 0) AS captured_total,
       b.pending AS backfills_pending,
       b.tbl AS backfill_table,
       b.rows_read AS backfill_rows,
       CASE t.status
           WHEN 'ownerless'
               THEN 'the role that owned the source is gone; give it to another by sequin.alter_source(.., owner => ..)'
           WHEN 'restored' THEN 'the source was restored from a dump, without its slot; call sequin.resume_source()'
           WHEN 'lost' THEN 'the slot of the source is lost, and changes with it; call sequin.resume_source()'
           -- It has no entry in shared memory: the dispatcher says why.
           WHEN 'starting' THEN coalesce(q.fault, w.last_error, CASE WHEN w.source_id IS NULL THEN e.last_error END)
           ELSE coalesce(q.fault, w.last_error, f.what) END AS last_error
FROM (SELECT c.system_identifier AS system, d.oid AS database,
             CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                  ELSE pg_catalog.pg_current_wal_lsn() END AS lsn
      FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d
      WHERE d.datname = pg_catalog.current_database()) h
CROSS JOIN sequin.sources s
LEFT JOIN LATERAL (
    SELECT pg_catalog.format('sequin_%s_%s_%s', s.database, s.id, s.generation) AS slot
    WHERE s.system = h.system AND s.database = h.database) x ON true
LEFT JOIN pg_catalog.pg_replication_slots r ON r.slot_name = x.slot
LEFT JOIN LATERAL (
    SELECT q.lsn, q.commit_time, q.captured_total
    FROM sequin.source_progress q
    WHERE q.source_id = s.id AND q.generation = s.generation
    ORDER BY q.source_id DESC, q.generation DESC, q.id DESC LIMIT 1) p ON true
LEFT JOIN LATERAL (
    SELECT count(*) FILTER (WHERE f.status = 'pending') AS pending,
           min(f.tbl::regclass::text) FILTER (WHERE f.status = 'running') AS tbl,
           min(f.rows_read) FILTER (WHERE f.status = 'running') AS rows_read
    FROM sequin.backfills f
    WHERE f.source = s.name AND f.status IN ('pending', 'running')) b ON true
-- One that has failed, and that none has made up for since.
LEFT JOIN LATERAL (
    SELECT pg_catalog.format(
               E'backfill %s of table %s has failed: %s. Changes are captured. Mend it and call sequin.backfill(%L, %L, ..), or '
               'forget it: sequin.cancel_backfill(%s)',
               o.id, o.tbl::regclass,
               CASE WHEN pg_catalog.pg_has_role(s.owner, 'USAGE') THEN o.error
                    ELSE 'members of the source''s owner see why in sequin.backfills' END,
               s.name, o.tbl::regclass, o.id) AS what
    FROM sequin.backfills o
    WHERE o.source = s.name AND o.status = 'failed' AND NOT EXISTS (
        SELECT FROM sequin.backfills n
        WHERE n.source = o.source AND n.tbl = o.tbl AND n.id > o.id AND n.status <> 'cancelled'
          AND (n.condition IS NULL OR n.condition = o.condition))
    ORDER BY o.id DESC LIMIT 1) f ON true
LEFT JOIN sequin._source_workers() w ON w.source_id = s.id
LEFT JOIN sequin._source_faults() q ON q.source_id = s.id
LEFT JOIN sequin._workers() e ON e.process = 'dispatcher' AND e.database = pg_catalog.current_database()
CROSS JOIN LATERAL (
    SELECT CASE WHEN x.slot IS NULL THEN 'restored'
                WHEN r.wal_status = 'lost' OR r.slot_name IS NULL AND p.lsn IS NOT NULL THEN 'lost'
                WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE o.oid = s.owner) THEN 'ownerless'
                WHEN s.paused THEN 'paused'
                WHEN q.fault IS NOT NULL OR w.pid IS NULL AND w.last_error IS NOT NULL THEN 'failed'
                WHEN w.pid IS NULL OR p.lsn IS NULL THEN 'starting'
                WHEN w.last_error IS NOT NULL OR f.what IS NOT NULL THEN 'failed'
                WHEN b.tbl IS NOT NULL THEN 'backfilling'
                ELSE 'streaming' END AS status) t;

-- What users see of the dead letters: those of consumers whose owner they are members of. No row-level security on the
-- table, which a role that only makes backups could not dump then. Who may read the table sees all.
CREATE VIEW sequin.dead_letters WITH (security_barrier) AS
SELECT d.consumer, d.seq, d.key, d.data, d.headers, d.deliver_count, d.reason, d.dead_at
FROM sequin.all_dead_letters d
WHERE pg_catalog.has_table_privilege('sequin.all_dead_letters'::pg_catalog.regclass, 'SELECT')
   OR EXISTS (
        SELECT FROM sequin.consumers c
        WHERE c.name = d.consumer AND pg_catalog.pg_has_role(c.owner, 'USAGE'));

-- The same for what is scheduled: for members of the role that has scheduled it.
CREATE VIEW sequin.scheduled WITH (security_barrier) AS
SELECT s.id, s.stream, s.key, s.data, s.headers, s.deliver_at, s.owner, s.scheduled_at, s.reason
FROM sequin.schedules s
WHERE pg_catalog.has_table_privilege('sequin.schedules'::pg_catalog.regclass, 'SELECT')
   OR pg_catalog.pg_has_role(s.owner, 'USAGE');

CREATE VIEW sequin.workers AS
SELECT w.process, w.database, w.pid, w.state, w.since, w.last_error
FROM sequin._workers() w;

-- Changes nothing, but runs the trigger: has the launcher start a dispatcher when CREATE EXTENSION commits.
TRUNCATE sequin.streams;
--

-- Settings and statistics are for everybody, dead letters for members of the consumer's owner, backfills for those of
-- the source's owner, journals for nobody. Functions check their caller themselves.

GRANT SELECT ON sequin.streams, sequin.consumers, sequin.dead_letters, sequin.scheduled, sequin.sources, sequin.backfills TO PUBLIC;
GRANT SELECT ON sequin.stream_stats, sequin.consumer_stats, sequin.source_stats, sequin.workers TO PUBLIC;

-- No policy may be on a table that is dumped: it would keep a role without BYPASSRLS from dumping it.
ALTER TABLE sequin.backfills ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_the_sources_owner ON sequin.backfills FOR SELECT USING (
    EXISTS (
        SELECT FROM sequin.sources s
        WHERE s.name = backfills.source AND pg_catalog.pg_has_role(s.owner, 'USAGE')
    )
);
--

CREATE FUNCTION "ack"(
	"consumer" TEXT,
	"ack_ids" bigint[]
) RETURNS INT
LANGUAGE c
AS 'MODULE_PATHNAME', 'ack_wrapper';
--

CREATE FUNCTION "alter_consumer"(
	"name" TEXT,
	"filters" TEXT[] DEFAULT NULL,
	"ack_wait" interval DEFAULT NULL,
	"max_ack_pending" INT DEFAULT NULL,
	"max_deliver" INT DEFAULT NULL,
	"backoff" interval[] DEFAULT NULL,
	"ordered" bool DEFAULT NULL,
	"condition" TEXT DEFAULT NULL,
	"transform" regproc DEFAULT NULL,
	"owner" regrole DEFAULT NULL
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'alter_consumer_wrapper';
--

CREATE FUNCTION "alter_source"(
	"name" TEXT,
	"stream" TEXT DEFAULT NULL,
	"tables" regclass[] DEFAULT NULL,
	"key_format" TEXT DEFAULT NULL,
	"owner" regrole DEFAULT NULL
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'alter_source_wrapper';
--

--

CREATE FUNCTION "alter_stream"(
	"name" TEXT,
	"retain_for" interval DEFAULT NULL,
	"retain_messages" bigint DEFAULT NULL,
	"retain_bytes" bigint DEFAULT NULL,
	"retain_until_acked" bool DEFAULT NULL,
	"dedup_window" interval DEFAULT NULL,
	"reset" TEXT[] DEFAULT '{}'
) RETURNS VOID

LANGUAGE c
AS 'MODULE_PATHNAME', 'alter_stream_v2_wrapper';
--

CREATE FUNCTION "backfill"(
	"source" TEXT,
	"tbl" regclass,
	"condition" TEXT DEFAULT NULL
) RETURNS bigint
LANGUAGE c
AS 'MODULE_PATHNAME', 'backfill_wrapper';
--

CREATE FUNCTION "cancel_backfill"(
	"id" bigint
) RETURNS bool
LANGUAGE c
AS 'MODULE_PATHNAME', 'cancel_backfill_wrapper';
--

CREATE FUNCTION "check_key"(
	"key" TEXT
) RETURNS bool
IMMUTABLE PARALLEL SAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'check_key_wrapper';
--

CREATE FUNCTION "create_consumer"(
	"stream" TEXT,
	"name" TEXT,
	"filters" TEXT[] DEFAULT '{>}',
	"ack_wait" interval DEFAULT '30 s',
	"max_ack_pending" INT DEFAULT 10000,
	"max_deliver" INT DEFAULT NULL,
	"backoff" interval[] DEFAULT NULL,
	"ordered" bool DEFAULT true,
	"start_seq" bigint DEFAULT NULL,
	"start_time" timestamp with time zone DEFAULT NULL,
	"new_only" bool DEFAULT false,
	"condition" TEXT DEFAULT NULL,
	"transform" regproc DEFAULT NULL
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'create_consumer_wrapper';
--

CREATE FUNCTION "create_source"(
	"name" TEXT,
	"stream" TEXT,
	"tables" regclass[] DEFAULT NULL,
	"publication" TEXT DEFAULT NULL,
	"key_format" TEXT DEFAULT '{schema}.{table}.{pk}',
	"backfill" bool DEFAULT true
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'create_source_wrapper';
--

--

CREATE FUNCTION "create_stream"(
	"name" TEXT,
	"one_message_per_key" bool DEFAULT false,
	"retain_for" interval DEFAULT NULL,
	"retain_messages" bigint DEFAULT NULL,
	"retain_bytes" bigint DEFAULT NULL,
	"index_keys" bool DEFAULT true,
	"retain_until_acked" bool DEFAULT false,
	"dedup_window" interval DEFAULT '2 min'
) RETURNS regclass

LANGUAGE c
AS 'MODULE_PATHNAME', 'create_stream_v2_wrapper';
--

CREATE FUNCTION "delete_key"(
	"stream" TEXT,
	"key" text
) RETURNS bigint
LANGUAGE c
AS 'MODULE_PATHNAME', 'delete_key_wrapper';
--

CREATE FUNCTION "drop_consumer"(
	"name" TEXT
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'drop_consumer_wrapper';
--

CREATE FUNCTION "drop_source"(
	"name" TEXT
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'drop_source_wrapper';
--

CREATE FUNCTION "drop_stream"(
	"name" TEXT,
	"force" bool DEFAULT false
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'drop_stream_wrapper';
--

CREATE FUNCTION "extend"(
	"consumer" TEXT,
	"ack_ids" bigint[],
	"ack_wait" interval DEFAULT NULL
) RETURNS INT
LANGUAGE c
AS 'MODULE_PATHNAME', 'extend_wrapper';
--

CREATE FUNCTION "grant_consume"(
	"stream" TEXT,
	"role" regrole
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'grant_consume_wrapper';
--

CREATE FUNCTION "grant_publish"(
	"stream" TEXT,
	"role" regrole
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'grant_publish_wrapper';
--

CREATE FUNCTION "in_flight"(
	"consumer" TEXT
) RETURNS TABLE (
	"ack_id" bigint,
	"seq" bigint,
	"key" TEXT,
	"deliver_count" INT,
	"deadline" timestamptz,
	"pid" INT
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'in_flight_wrapper';
--

CREATE FUNCTION "key_matches"(
	"key" TEXT,
	"filter" TEXT
) RETURNS bool
IMMUTABLE PARALLEL SAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'key_matches_wrapper';
--

CREATE FUNCTION "messages"(
	"stream" TEXT,
	"filter" TEXT DEFAULT '>',
	"after_seq" bigint DEFAULT 0,
	"max_messages" INT DEFAULT 100
) RETURNS TABLE (
	"seq" bigint,
	"key" text,
	"data" jsonb,
	"headers" jsonb,
	"inserted_at" timestamptz
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'messages_wrapper';
--

CREATE FUNCTION "nack"(
	"consumer" TEXT,
	"ack_ids" bigint[],
	"delay" interval DEFAULT NULL
) RETURNS INT
LANGUAGE c
AS 'MODULE_PATHNAME', 'nack_wrapper';
--

CREATE FUNCTION "pause_consumer"(
	"name" TEXT
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'pause_consumer_wrapper';
--

CREATE FUNCTION "pause_source"(
	"name" TEXT
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'pause_source_wrapper';
--

CREATE FUNCTION "publish"(
	"stream" TEXT,
	"key" text,
	"data" jsonb,
	"headers" jsonb DEFAULT NULL,
	"deliver_at" timestamp with time zone DEFAULT NULL,
	"dedup_id" TEXT DEFAULT NULL
) RETURNS bigint
LANGUAGE c
AS 'MODULE_PATHNAME', 'publish_wrapper';
--

--

CREATE FUNCTION "publish_many"(
	"stream" TEXT,
	"keys" text[],
	"data" jsonb[],
	"headers" jsonb[] DEFAULT NULL,
	"dedup_ids" text[] DEFAULT NULL
) RETURNS SETOF bigint

LANGUAGE c
AS 'MODULE_PATHNAME', 'publish_many_v2_wrapper';
--

CREATE FUNCTION "published_before"(
	"stream" TEXT,
	"dedup_id" TEXT
) RETURNS bigint
LANGUAGE c
AS 'MODULE_PATHNAME', 'published_before_wrapper';
--

CREATE FUNCTION "purge"(
	"stream" TEXT,
	"before_seq" bigint DEFAULT NULL,
	"before_time" timestamp with time zone DEFAULT NULL
) RETURNS bigint
LANGUAGE c
AS 'MODULE_PATHNAME', 'purge_wrapper';
--

CREATE FUNCTION "receive"(
	"consumer" TEXT,
	"batch_size" INT DEFAULT 1,
	"wait" interval DEFAULT '0',
	"ack_wait" interval DEFAULT NULL
) RETURNS TABLE (
	"ack_id" bigint,
	"seq" bigint,
	"key" text,
	"data" jsonb,
	"headers" jsonb,
	"deliver_count" INT,
	"inserted_at" timestamptz
)
LANGUAGE c
AS 'MODULE_PATHNAME', 'receive_wrapper';
--

CREATE FUNCTION "redeliver"(
	"consumer" TEXT,
	"seqs" bigint[]
) RETURNS INT
LANGUAGE c
AS 'MODULE_PATHNAME', 'redeliver_wrapper';
--

CREATE FUNCTION "redrive"(
	"consumer" TEXT,
	"seqs" bigint[] DEFAULT NULL
) RETURNS INT
LANGUAGE c
AS 'MODULE_PATHNAME', 'redrive_wrapper';
--

CREATE FUNCTION "reject"(
	"consumer" TEXT,
	"ack_ids" bigint[],
	"reason" TEXT DEFAULT NULL
) RETURNS INT
LANGUAGE c
AS 'MODULE_PATHNAME', 'reject_wrapper';
--

CREATE FUNCTION "repair_stream"(
	"name" TEXT
) RETURNS SETOF TEXT
LANGUAGE c
AS 'MODULE_PATHNAME', 'repair_stream_wrapper';
--

CREATE FUNCTION "resume_consumer"(
	"name" TEXT
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'resume_consumer_wrapper';
--

CREATE FUNCTION "resume_source"(
	"name" TEXT
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'resume_source_wrapper';
--

CREATE FUNCTION "rewind"(
	"consumer" TEXT,
	"to_seq" bigint DEFAULT NULL,
	"to_time" timestamp with time zone DEFAULT NULL
) RETURNS VOID
LANGUAGE c
AS 'MODULE_PATHNAME', 'rewind_wrapper';
--

CREATE FUNCTION "schedule"(
	"stream" TEXT,
	"key" text,
	"data" jsonb,
	"deliver_at" timestamp with time zone,
	"headers" jsonb DEFAULT NULL
) RETURNS bigint
LANGUAGE c
AS 'MODULE_PATHNAME', 'schedule_wrapper';
--

CREATE FUNCTION "unschedule"(
	"id" bigint
) RETURNS bool
LANGUAGE c
AS 'MODULE_PATHNAME', 'unschedule_wrapper';
--

-- finalize
-- What users read with \df+, \d+ and \dn+. For each function: arguments with units and ranges, NULLs, result,
-- effects, rights, errors with SQLSTATE, an example. Run after all functions and views exist.

COMMENT ON SCHEMA sequin IS 'Message streams: the functions, views and own tables of the extension sequin';
COMMENT ON SCHEMA sequin_stream IS
$$One table for each stream, made by sequin.create_stream(). CREATE on this schema is the right to create streams.
DROP EXTENSION sequin CASCADE drops the schema with every message in it.$$;

-- ---- keys and filters ----

COMMENT ON FUNCTION sequin.key_matches(text, text) IS
$$True if the key matches the filter.

key     1 to 16 tokens joined by ".", at most 255 bytes. A token is one or more characters other than
        ".", "*", ">", white space and control characters.
filter  a key in which a whole token may be "*" (exactly one token) and the last may be ">" (one or
        more tokens). ">" matches every key; "a.b.>" does not match "a.b".

NULL: neither may be NULL.
Immutable and parallel safe. Upper and lower case differ.
Errors: 22023 not a key, or not a filter; 22004 NULL.

Example: SELECT sequin.key_matches('order.17.paid', 'order.*.paid');$$;

-- ---- streams ----

COMMENT ON FUNCTION sequin.create_stream(text, boolean, interval, bigint, bigint, boolean, boolean, interval) IS
$$Creates a stream: the table sequin_stream.NAME (seq, key, data, headers, inserted_at). Returns the table.

name                 1 to 48 of A-Z a-z 0-9 _; case is kept. Unique in the database.
index_keys           true: an index on key, which sequin.messages() uses. Delivering needs none.
one_message_per_key  true: a new message replaces the one of its key, in whatever way it is inserted, and takes a new seq. What
                     says the same as the one that is there, data and headers, is not written. Who publishes a key waits until
                     other transactions that have published it end. See sequin.delete_key().
dedup_window         how long a dedup_id of publish() is remembered after the commit: 1 second to 7 days
retain_for           for how long a message is kept at least: 1 second to 100 years
retain_messages      how many of the newest messages are kept at least: 1 or more
retain_bytes         how many bytes of the newest messages are kept at least, with indexes and TOAST: 1 or more
retain_until_acked   true: no message goes before all consumers of the stream have finished it. Without a consumer, none goes.

What a limit doesn't keep goes, some time after: by whole partitions, which last for a tenth of retain_for, retain_messages or
retain_bytes (at least a second, 100 messages), and when no transaction is open that reads or has published them. One limit is enough. NULL:
no such limit; without any, messages stay until you DELETE them. With retain_until_acked alone, a message goes when all have finished it. A
message that goes is not delivered any more, whether or not a consumer has had it.

NULL: name, index_keys, one_message_per_key, retain_until_acked and dedup_window may not be NULL.
With any retain_ setting the table is partitioned by seq: see schema sequin_partition. The table is the caller's own: GRANT INSERT on it to publishers, SELECT to consumers. DELETE old messages
as you like; do not change seq, nor name it yourself in INSERT or COPY: a message with a seq that consumers have passed is never
delivered, and no error says so. Its sequence only goes forward: commands that RESTART it are refused with 0A000. After what else would have
messages lost (setval() to a lower seq, CACHE, a dropped or disabled trigger, a crash after SET UNLOGGED, dropped columns, a restore
without the sequence) receive fails with 55000, which says what was found: see sequin.repair_stream().
Takes effect at commit.
Right: CREATE on schema sequin_stream.
Errors: 42602 bad name, 42710 exists, 42501 no right, 22004 NULL, 22023 bad dedup_window or limit, 0A000 retention with one_message_per_key, 55000 the schema is
older than the library.

Example: SELECT sequin.create_stream('orders', retain_for => '7 days');$$;

COMMENT ON FUNCTION sequin.alter_stream(text, interval, bigint, bigint, boolean, interval, text[]) IS
$$Changes settings of a stream.

name           the stream
dedup_window   how long a dedup_id of publish() is remembered after the commit: 1 second to 7 days. Ids that were published
               before are remembered for the new time too, unless they are forgotten already.
retain_for, retain_messages, retain_bytes, retain_until_acked
               what is kept: see sequin.create_stream()
reset          names of settings to set to their defaults, such as '{retain_for, dedup_window}'

NULL: name and reset may not be NULL; a setting that is NULL stays as it is.
A change of dedup_window waits until open transactions that have published to the stream end, and keeps others from
publishing until yours does. The first limit makes the table a partitioned one, whose first partition it becomes: that reads all of it
and keeps everybody out meanwhile; 55000 says what would be lost and is therefore in the way, such as views, foreign keys,
triggers and policies. Takes effect at commit.
Right: the owner of the stream's table.
Errors: 42704 no such stream, 42501 not the owner, 22004 name or reset is NULL, 42602 bad name, 22023 bad dedup_window or limit, or
reset names no setting, 0A000 retention with one_message_per_key, 55000 something is in the way, or the schema is older than the library.

Example: SELECT sequin.alter_stream('orders', dedup_window => '1 hour');$$;

COMMENT ON FUNCTION sequin.grant_publish(text, regrole) IS
$$Lets a role publish to a stream: by sequin.publish(), publish_many() and delete_key(), by INSERT and by COPY.

stream  the stream
role    the role

NULL: neither may be NULL.
It is GRANT INSERT on the stream's table; REVOKE takes it back. Takes effect at commit.
Right: the owner of the stream's table.
Errors: 42704 no such stream or role, 42501 not the owner, 42602 bad name, 22004 NULL.

Example: SELECT sequin.grant_publish('orders', 'web_app');$$;

COMMENT ON FUNCTION sequin.grant_consume(text, regrole) IS
$$Lets a role create consumers of a stream, and receive as their owner; and look at its messages by sequin.messages() and by
SELECT. A consumer that is there already is for members of the role that owns it: see alter_consumer(.., owner => ..).

stream  the stream
role    the role

NULL: neither may be NULL.
It is GRANT SELECT on the stream's table; REVOKE takes it back. Takes effect at commit.
Right: the owner of the stream's table.
Errors: 42704 no such stream or role, 42501 not the owner, 42602 bad name, 22004 NULL.

Example: SELECT sequin.grant_consume('orders', 'billing');$$;

COMMENT ON FUNCTION sequin.purge(text, bigint, timestamptz) IS
$$Deletes messages of a stream, whether consumers have received them or not. Returns how many.

stream       the stream
before_seq   only those with a lower seq
before_time  only those that were inserted earlier

NULL: stream may not be NULL, nor may both of the others: before_time => 'infinity' deletes all. With both given, a message
must be before both.
It is a DELETE in your transaction: consumers receive none of them once it commits, and a delivery that is out does not come
back. Seqs are not used again. The room is free for new messages after a VACUUM, as after any DELETE.
Right: DELETE and SELECT on the stream's table; policies of row-level security apply.
Errors: 42704 no such stream, 42501 no right, 42602 bad name, 22004 stream, or both of the others, are NULL, 23503 a foreign key refers to a message,
25006 read-only transaction or standby.

Example: SELECT sequin.purge('orders', before_time => now() - interval '30 days');$$;

COMMENT ON FUNCTION sequin.repair_stream(text) IS
$$Repairs the table of a stream that receive calls damaged. Returns what was found, a line each; no rows: nothing.

name  the stream; may not be NULL

Makes the primary key, the trigger, the identity of seq and the sequence's options as sequin.create_stream() does, the
table logged, and sets the sequence behind all seqs that the table, its consumers and the dispatcher know of. Where the
sequence had been set back, messages that were published after that may have a seq that a consumer has finished
before, and count as delivered: have them delivered by sequin.redeliver(). Columns that are gone are not brought back.
Takes effect at commit. Locks the table against everybody until then.
Right: the owner of the stream's table.
Errors: 42704 no such stream, 42501 not the owner, 42602 bad name, 22004 NULL, 42809 columns are gone, 23505 seqs that are
there twice keep the primary key from being made.

Example: SELECT * FROM sequin.repair_stream('orders');$$;

COMMENT ON FUNCTION sequin.drop_stream(text, boolean) IS
$$Drops a stream: its table, with all messages.

name   the stream
force  false: an error if the stream has consumers, or sources feed it. true: drops them too, whoever owns them,
       the consumers with their dead letters.

NULL: neither may be NULL.
Waits for transactions that use the table, as DROP TABLE does. Views on the table are not dropped: an error.
Right: the owner of the stream's table; a superuser if the table has been dropped by hand.
Errors: 42704 no such stream, 2BP01 it has consumers or sources, or something depends on the table, 42501 not the owner,
22004 NULL, 42602 bad name.

Example: SELECT sequin.drop_stream('orders', force => true);$$;

-- ---- publishing ----

COMMENT ON FUNCTION sequin.publish(text, text, jsonb, jsonb, timestamptz, text) IS
$$Publishes one message. Returns its seq, its number in the stream; NULL if it is to be published later.

stream      the stream
key         what filters match, and what order is kept by; see sequin.key_matches()
data        the message, any JSON; the JSON value null is allowed
headers     more JSON beside it, or NULL
deliver_at  when to publish it, or NULL for now; a time that is past is now. See sequin.schedule()
dedup_id    1 to 255 bytes that stand for this message, or NULL: see below

NULL: stream, key and data may not be NULL.
It is an INSERT into sequin_stream.NAME in your transaction: a consumer gets the message once that commits,
and never if it rolls back. An INSERT or COPY of (key, data, headers) does the same. A seq that was rolled
back is not used again, so seqs have gaps. PREPARE TRANSACTION is refused after this.
In a stream with one message per key it replaces the message of its key; where data and headers are the same, nothing is written,
and the seq of the message that is there is returned. It waits until other transactions that have published the key end.
With a dedup_id, nothing is written if a message with the same one was published to the stream, and committed no longer ago than
the stream's dedup_window: the seq of that message is returned, whatever key and data are now. While a transaction is open that
has published the id, others that publish it wait for its end. So a publisher that does not know whether its commit has reached
the server just publishes again. Ids are no part of the message, nor of a dump. After the server has been restarted, ids are
remembered for longer, by up to the window.
Right: INSERT on the stream's table.
Errors: 42704 no such stream, 22023 bad key, dedup_id or deliver_at, or both of these, 42501 no right, 22004 NULL, 42602 bad name, 09000 a trigger or
a rule on the table keeps the message out, 25006 read-only transaction or standby; with
one message per key, or dedup_ids, 40P01 deadlock with another session, 40001 in REPEATABLE READ.

Example: SELECT sequin.publish('orders', 'order.17.paid', '{"amount": 20}');$$;

COMMENT ON FUNCTION sequin.publish_many(text, text[], jsonb[], jsonb[], text[]) IS
$$Publishes many messages in one statement. Returns their seqs, one row each, in the order given.

stream   the stream
keys     a key for each message
data     a JSON value for each message
headers  one for each message, each of which may be NULL; or NULL for no headers at all
dedup_ids
         one for each message, each of which may be NULL; or NULL for none at all: see sequin.publish(). Of messages with the
         same one in a call, the first is published

All arrays must have the same length. Empty arrays publish nothing and return no rows.
NULL: stream, keys and data may not be NULL, and keys and data may not contain NULL.
Effects and rights as for sequin.publish(). Call it in FROM. Batches of 100 or more cost the least per message.
In a stream with one message per key, the last message of a key in the call is the one that stays; the keys are locked in one
order, so that calls do not get into deadlocks with each other.
Errors: 22023 arrays of different length, or a bad key or dedup_id: then none is published; 42704 no such stream,
42501 no right, 22004 NULL, 42602 bad name, 09000 a trigger or a rule on the table keeps messages out,
25006 read-only transaction or standby.

Example: SELECT * FROM sequin.publish_many('orders', '{order.1.new,order.2.new}', '{1,2}');$$;

COMMENT ON FUNCTION sequin.schedule(text, text, jsonb, timestamptz, jsonb) IS
$$Has a message published later. Returns the schedule's id, for sequin.unschedule().

stream      the stream
key         the message's key
data        the message, any JSON
deliver_at  when to publish it; what is past is published at once
headers     more JSON beside it, or NULL

NULL: only headers may be NULL.
Takes effect at commit. When it is due, a background worker publishes the message as the role that has called this: with the seq,
the age and the order of that moment. If it is refused then (the role or the stream is gone, a right is missing, a trigger
raises an error), it stays in sequin.scheduled, with the reason, and is not tried again. Triggers on the stream's table run with
search_path pg_catalog then: they have to name what they use in full. The wall clock counts. Schedules are in
a dump; sequin.drop_stream() deletes those of the stream. PREPARE TRANSACTION is refused after this.
Right: INSERT on the stream's table, now and then.
Errors: 42704 no such stream, 22023 bad key or deliver_at, 42501 no right, 22004 NULL, 42602 bad name, 25006 read-only
transaction or standby.

Example: SELECT sequin.schedule('orders', 'order.17.reminder', '{"mail": 1}', now() + interval '3 days');$$;

COMMENT ON FUNCTION sequin.unschedule(bigint) IS
$$Deletes a schedule. Returns true, or false if there is none of that id: the message may have been published.

id  what sequin.schedule() has returned; see sequin.scheduled

NULL: id may not be NULL.
Takes effect at commit. If the message is being published at this moment, it waits for that, and returns false.
Right: members of the role that has scheduled it.
Errors: 42501 another role's, 22004 NULL, 25006 read-only transaction or standby.

Example: SELECT sequin.unschedule(17);$$;

COMMENT ON FUNCTION sequin.published_before(text, text) IS
$$Returns the seq of the message that was published with a dedup_id; NULL if there is none, or if its dedup_window is over.

stream    the stream
dedup_id  what was passed to sequin.publish()

NULL: neither may be NULL.
It sees what is committed by now, and what the own transaction has published. It waits for nobody.
Right: INSERT on the stream's table, or SELECT.
Errors: 42704 no such stream, 42501 no right, 22004 NULL, 42602 bad name, 22023 bad dedup_id.

Example: SELECT sequin.published_before('orders', 'invoice-4711');$$;

COMMENT ON FUNCTION sequin.delete_key(text, text) IS
$$Replaces the message of a key by one that says that the key is gone: its data is the JSON value null, its headers are
{"sequin-deleted": true}, and consumers receive it as any other. For streams with one message per key. Returns its seq, or NULL if
the key has no message: then nothing is written.

stream  the stream, created with one_message_per_key => true
key     the key

NULL: neither may be NULL.
It is a publish() in your transaction: what is said there holds for it. The message stays until you DELETE it, or until another
one of its key replaces it.
Right: INSERT on the stream's table.
Errors: 42704 no such stream, 22023 the stream keeps all messages of a key, 42501 no right, 22004 NULL, 42602 bad name, 40P01
deadlock with another session, 40001 in REPEATABLE READ, 25006 read-only transaction or standby.

Example: SELECT sequin.delete_key('prices', 'product.17');$$;

-- ---- consumers ----

COMMENT ON FUNCTION sequin.create_consumer(text, text, text[], interval, integer, integer, interval[], boolean,
    bigint, timestamptz, boolean, text, regproc) IS
$$Creates a consumer of a stream: a name, a place in the stream, and what is in flight. Any number of workers
receive from it at the same time. It belongs to the current role.

name             1 to 48 of A-Z a-z 0-9 _; unique in the database
filters          one or more, see sequin.key_matches(); a message that matches any of them is delivered
ack_wait         how long a worker has for a message: 1 ms to 366 days
max_ack_pending  the most messages in flight at a time: 1 to 65536
max_deliver      deliveries after which a message becomes a dead letter: 1 or more; NULL: never
backoff          waits after the 1st, 2nd, .. failed delivery, each 0 to 366 days; the last repeats;
                 NULL or empty: at once. A delivery fails by nack without a delay, or by its deadline.
ordered          true: a message waits until all earlier ones of its key are finished, so a batch holds one
                 message of a key. false: no order.
start_seq        from this seq on, 1 or more;  start_time  from the first message inserted at or after it;
new_only         what commits from now on.  At most one of the three; none: the whole stream.
condition, transform  only NULL in this version

NULL: only where it is said, and for start_seq and start_time.
Active once its transaction has committed.  Right: SELECT on the stream's table; with start_time or new_only
unlimited by policies.
Errors: 42704 no such stream, 42710 exists, 42602 bad name, 22023 bad value, 22004 NULL, 42501 no right,
0A000 not in this version.

Example: SELECT sequin.create_consumer('orders', 'billing', filters => '{order.*.paid}', max_deliver => 5);$$;

COMMENT ON FUNCTION sequin.alter_consumer(text, text[], interval, integer, integer, interval[], boolean, text,
    regproc, regrole) IS
$$Changes settings of a consumer. NULL leaves a setting as it is.

name             the consumer; may not be NULL
filters, ack_wait, max_ack_pending, max_deliver, backoff, ordered
                 as for sequin.create_consumer(); max_deliver => 0 takes the limit away, and
                 backoff => '{}' the waits
condition, transform  only NULL in this version
owner            gives the consumer to this role, which needs SELECT on the stream's table

Takes effect at commit, for what is delivered after that: deadlines that run stay, and what is in flight
stays in flight. What the old filters have passed over is not brought back: see sequin.rewind() and
sequin.redeliver(). A message that has been delivered max_deliver times already becomes a dead letter
instead of its next delivery.
DROP ROLE is refused for a role that owns consumers; REASSIGN OWNED and DROP OWNED count them among what it owns.
Right: member of the role that owns the consumer; to give it away, of the new owner too. A superuser if the role is gone.
Errors: 42704 no such consumer or role, 22023 bad value, 22004 NULL, 42501 no right, 0A000 not in this version.

Example: SELECT sequin.alter_consumer('billing', ack_wait => '5 min', backoff => '{1 s,10 s,1 min}');$$;

COMMENT ON FUNCTION sequin.drop_consumer(text) IS
$$Drops a consumer, with its place in the stream and its dead letters. The stream and its messages stay.

name  the consumer; may not be NULL

Takes effect at commit. ack_ids of its messages mean nothing any more; a receive that waits for it fails.
Right: member of the role that owns the consumer.
Errors: 42704 no such consumer, 42501 not the owner, 22004 NULL.

Example: SELECT sequin.drop_consumer('billing');$$;

COMMENT ON FUNCTION sequin.pause_consumer(text) IS
$$Stops delivering to a consumer, until sequin.resume_consumer(). Pausing a paused one changes nothing.

name  the consumer; may not be NULL

Takes effect at commit. receive returns no rows, or waits. What is in flight may still be acked, and its
deadlines run on. Publishers notice nothing.
Right: member of the role that owns the consumer.
Errors: 42704 no such consumer, 42501 not the owner, 22004 NULL.

Example: SELECT sequin.pause_consumer('billing');$$;

COMMENT ON FUNCTION sequin.resume_consumer(text) IS
$$Delivers to a paused consumer again. Resuming one that is not paused changes nothing.

name  the consumer; may not be NULL

Takes effect at commit, also for a receive that already waits.
Right: member of the role that owns the consumer.
Errors: 42704 no such consumer, 42501 not the owner, 22004 NULL.

Example: SELECT sequin.resume_consumer('billing');$$;

COMMENT ON FUNCTION sequin.rewind(text, bigint, timestamptz) IS
$$Moves a consumer to another place in its stream, backwards or forwards. Costs the same for any distance.

consumer  the consumer; may not be NULL
to_seq    to this seq, 1 or more; may lie beyond the last
to_time   to the first message inserted at or after this time (inserted_at)
          neither: to the beginning; not both

Takes effect at commit. Everything from there on is delivered again, the first time with deliver_count 1.
What was delivered and not acked is void: its ack_ids are dead. Dead letters and totals stay.
To repeat only some messages use sequin.redeliver().
Right: member of the role that owns the consumer; with to_time also SELECT on the stream's table, unlimited by
policies.
Errors: 42704 no such consumer, 22023 to_seq below 1, or both given, 22004 NULL, 42501 no right.

Example: SELECT sequin.rewind('billing', to_time => now() - interval '1 hour');$$;

COMMENT ON FUNCTION sequin.redeliver(text, bigint[]) IS
$$Delivers finished messages once more: just these. Returns how many that will be.

consumer  the consumer; may not be NULL
seqs      seqs in any order, from any query; NULLs among them are ignored; may not be NULL itself

Left out of the count: a seq that is not in the stream, does not match the filters, has not been reached by
the consumer yet, or is not finished.
Takes effect at commit. deliver_count starts from 1 again, and order per key is kept.
Right: member of the role that owns the consumer, and SELECT on the stream's table, unlimited by policies.
Errors: 42704 no such consumer, 22004 NULL, 42501 no right, 54000 more messages would be unfinished, with those
that open transactions want again, than a consumer may keep in memory (some hundred thousand), 40001 at COMMIT (run it again), 55000 no dispatcher, 25006
read-only or standby.

Example: SELECT sequin.redeliver('billing', array(SELECT seq FROM sequin.messages('orders', 'order.17.>')));$$;

-- ---- receiving ----

COMMENT ON FUNCTION sequin.receive(text, integer, interval, interval) IS
$$Hands out up to batch_size messages, each leased to you until its deadline. Ascending by seq.

consumer    the consumer
batch_size  1 to 1000
wait        how long to wait while there is nothing: 0 to 1 hour. Returns with the first messages, not with a
            full batch; no rows: the time is over. Workers that wait are served first come, first served.
ack_wait    the lease: 1 ms to 366 days; NULL: the consumer's own

NULL: only ack_wait may be NULL.
Result: ack_id (for ack, nack, extend, reject; used once, ever), seq, key, data, headers (may be NULL),
deliver_count (1 the first time), inserted_at (when it was inserted, not when that committed).
Redeliveries go first. If your transaction rolls back, the messages go back at once, and the delivery
counts. Once it has committed they come back at their deadline, unless you ack, nack, extend or reject.
Sees messages committed by now, also in REPEATABLE READ; never those that your own transaction has published. Call it in
FROM: all rows are leased, also those that a LIMIT cuts off, so set batch_size instead.
Your other tables are another matter: a statement sees nothing in them that was committed after it began, if it waits or
not. Do work that reads or updates them in the statements that follow, in READ COMMITTED: BEGIN; receive; UPDATE ..; ack;
COMMIT. In one statement with receive, INSERT INTO .. SELECT from what was received is safe. If the statement reads tables
and a message is newer than what it sees, receive fails with 40001; the delivery counts.
If a client dies while it waits, its server process notices that only when it answers: so a message may be handed to
nobody, and comes back at its deadline if the statement was a transaction of its own. Set
client_connection_check_interval to have it noticed earlier.
While it waits, its statement holds a snapshot as any running statement does, and no lock: wait for minutes rather than
an hour.
Right: member of the role that owns the consumer, and SELECT on the stream's table, unlimited by policies.
Errors: 42704 no such consumer, 22023 out of range, 22004 NULL, 42501 no right, 55000 consumer not committed
or dropped, no dispatcher for 15 s, or the stream is damaged (see sequin.repair_stream()), 42809 the table was altered,
40001 see above, 25006 standby.

Example: SELECT * FROM sequin.receive('billing', batch_size => 10, wait => '20 s');$$;

COMMENT ON FUNCTION sequin.ack(text, bigint[]) IS
$$Finishes messages: they are not delivered to this consumer again. Returns how many acks took effect.

consumer  the consumer; may not be NULL
ack_ids   from receive, any number; NULLs among them are ignored; may not be NULL itself

An ack_id that is unknown, past its deadline, or used already is left out of the count; it is no error. So
a result below the number you passed says that others may be working on those messages.
Takes effect at commit, and not if you roll back. Until then the deadline is held off. In one transaction
with receive and your own changes each message is processed exactly once, if you roll back when the result
is below the number you passed. Writes a row for a thousand ack_ids or so.
Right: member of the role that owns the consumer.
Errors: 42704 no such consumer, 22004 NULL, 42501 not the owner, 40001 at COMMIT if the dispatcher was
restarted in between (run the transaction again), 55000 no dispatcher, 25006 read-only transaction or standby.

Example: SELECT sequin.ack('billing', array(SELECT ack_id FROM sequin.in_flight('billing')));$$;

COMMENT ON FUNCTION sequin.nack(text, bigint[], interval) IS
$$Gives messages back: they are delivered again. Returns how many nacks took effect.

consumer  the consumer; may not be NULL
ack_ids   from receive, any number; NULLs among them are ignored; may not be NULL itself
delay     not before this time has passed: 0 to 366 days; NULL: the consumer's backoff, or at once

Unknown, late and used ack_ids are left out of the count. A message that has been delivered max_deliver times
becomes a dead letter instead. With ordered, later messages of its key wait for it.
Takes effect at commit, and not if you roll back. Should the dispatcher be restarted before that, the commit fails
and the deadline counts.
Right: member of the role that owns the consumer.
Errors: 42704 no such consumer, 22023 bad delay, 22004 NULL, 42501 not the owner, 40001 at COMMIT if the
dispatcher was restarted in between (run the transaction again), 55000 no dispatcher, 25006 standby.

Example: SELECT sequin.nack('billing', '{1099511627777}', delay => '30 s');$$;

COMMENT ON FUNCTION sequin.extend(text, bigint[], interval) IS
$$Gives messages in flight a new deadline. Returns how many have one.

consumer  the consumer; may not be NULL
ack_ids   from receive, any number; NULLs among them are ignored; may not be NULL itself
ack_wait  counted from now: 1 ms to 366 days; NULL: the consumer's own. May bring the deadline nearer.

Unknown, late and used ack_ids are left out of the count: their messages are not yours any more.
Takes effect at once, and a rollback does not undo it.
Right: member of the role that owns the consumer.
Errors: 42704 no such consumer, 22023 bad ack_wait, 22004 NULL, 42501 not the owner, 55000 no dispatcher,
25006 standby.

Example: SELECT sequin.extend('billing', '{1099511627777}', ack_wait => '5 min');$$;

COMMENT ON FUNCTION sequin.reject(text, bigint[], text) IS
$$Gives up on messages: straight to sequin.dead_letters, whatever max_deliver is. Returns how many.

consumer  the consumer; may not be NULL
ack_ids   from receive, any number; NULLs among them are ignored; may not be NULL itself
reason    a text that the dead letter shows, or NULL

Unknown, late and used ack_ids are left out of the count. The dead letter is a copy; a message that was
deleted from the stream meanwhile is counted and leaves none. Later messages of the key go on.
Takes effect at commit, and not if you roll back.
Right: member of the role that owns the consumer, and SELECT on the stream's table, unlimited by policies.
Errors: 42704 no such consumer, 22004 NULL, 42501 no right, 40001 at COMMIT (run it again),
55000 no dispatcher, 25006 read-only transaction or standby.

Example: SELECT sequin.reject('billing', '{1099511627777}', 'no such customer');$$;

COMMENT ON FUNCTION sequin.redrive(text, bigint[]) IS
$$Takes dead letters back into their consumer, as if they had never been delivered. Returns how many.

consumer  the consumer; may not be NULL
seqs      those of sequin.dead_letters to take; NULL: all; NULLs among them are ignored

A dead letter whose message has been deleted from the stream stays where it is, and is not counted. Filters
are not asked.
Takes effect at commit. Waits for another redrive of the same dead letters.
Right: member of the role that owns the consumer, and SELECT on the stream's table, unlimited by policies.
Errors: 42704 no such consumer, 22004 consumer is NULL, 42501 no right, 54000 more messages would be unfinished, with those
that open transactions want again, than a consumer may keep in memory (some hundred thousand), 40001 at COMMIT (run it again), 55000 no dispatcher, 25006
read-only or standby.

Example: SELECT sequin.redrive('billing');$$;

-- ---- table sources ----

COMMENT ON FUNCTION sequin.create_source(text, text, regclass[], text, text, boolean) IS
$$Creates a source: each change of some tables becomes a message of a stream. It belongs to the current role.

name         1 to 48 of A-Z a-z 0-9 _; unique in the database
stream       the stream to publish to
tables       ordinary and partitioned tables, the latter with all their partitions, as their root; the former with
             those that inherit from them now, each as itself, as CREATE PUBLICATION has it. A table may be named
             twice. NULL, without a publication: all tables, also those that are created later, but for the streams
             and what is sequin's own.
publication  a publication of your own instead, with its row filters and column lists; NULL: sequin makes one,
             named sequin_NAME. Not both.
key_format   what the messages' keys are made of: tokens joined by ".", with the fields {database} {schema} {table}
             {action} {pk} {column:NAME}. Characters that can't be in a key are percent-encoded in values; several
             columns of a key are joined by ","; {pk} is the primary key, or the columns of the index of REPLICA
             IDENTITY USING INDEX, which are all that a delete has; %null and %empty stand for what is NULL or unknown, and for
             the empty string. Values of a key longer than 255 bytes are cut and end in a hash.
backfill     true: the rows that are there already become messages with action "read"

NULL: only tables and publication may be NULL.
data of a message is {"action": insert, update, delete, truncate or read, "record": the row after the change, as
to_jsonb() has it, for a delete the row before as far as it is known, "changes": old values of the changed columns as
far as they are known, or null, "metadata": {source, database, schema, table, commit_lsn, commit_time, xid, index}}.
For a table with updates and deletes the replica identity says what is known of old rows: FULL is all of it.
Captured is what commits after this has, with all messages of a transaction in one transaction of the stream. What a
transaction that commits later had changed before this one committed is in the backfill, if the publication is new.
Waits for open transactions that have written anything, to make its replication slot, sequin_DATABASE_ID_N. In a
transaction that has written before, the slot is made after the commit, and what others commit in between is only
in the backfill. A rollback leaves a slot, which the dispatcher drops. The slot keeps WAL for the source: see
retained_bytes in sequin.source_stats, and max_slot_wal_keep_size.
Rights: INSERT on the stream's table; with tables, to own each of them and those that inherit; with a publication, to own
it; for all tables, superuser; with backfill, and on tables of a publication that belong to others, SELECT on each table,
unlimited by policies. Messages are inserted with the rights of the source's owner.
Warns of tables without a key, whose rows can't be backfilled.
Errors: 42704 no such stream or publication, 42710 the source or its publication exists, 42602 bad name, 22023 bad
value, or a table that can't be captured, 22004 NULL, 42501 no right, 55000 a table has no replica identity, or
wal_level is not logical, 53400 no replication slot is free (max_replication_slots),
55006 tables have been made or changed all the time for 30 s, 25006 read-only transaction or standby.

Example: SELECT sequin.create_source('shop', 'changes', tables => '{orders,customers}');$$;

COMMENT ON FUNCTION sequin.alter_source(text, text, regclass[], text, regrole) IS
$$Changes settings of a source. NULL leaves a setting as it is.

name        the source; may not be NULL
stream      publish to this stream from now on
tables      capture just these tables, as for sequin.create_source(); only if sequin made the publication, which it
            makes again if it was dropped. Tables that are new are backfilled if the source was created so;
            backfills of those that are left out are cancelled.
key_format  as for sequin.create_source()
owner       gives the source to this role, as which messages are inserted from then on

DROP ROLE is refused for a role that owns sources; REASSIGN OWNED and DROP OWNED count them among what it owns.
Takes effect at commit, for tables in the order of the WAL, for the others for what is captured after that. What is in
the stream stays as it is.
Rights: member of the role that owns the source, and of the new one, which needs INSERT on the stream's table; tables as
for sequin.create_source(). A superuser if the role that owned it is gone.
Errors: 42704 no such source, stream or role, 22023 bad value, a table that can't be captured, or a publication that is
the user's own, 22004 NULL, 42501 no right, 42602 bad name, 55000 a table has no replica identity.

Example: SELECT sequin.alter_source('shop', tables => '{orders,customers,invoices}');$$;

COMMENT ON FUNCTION sequin.pause_source(text) IS
$$Stops capturing, until sequin.resume_source(). Pausing a paused source changes nothing.

name  the source; may not be NULL

Takes effect at commit. Nothing is lost: the replication slot keeps the WAL, which takes space on disk until the source
is resumed or dropped (retained_bytes in sequin.source_stats), at most max_slot_wal_keep_size. Backfills stop too.
Right: member of the role that owns the source.
Errors: 42704 no such source, 42501 not the owner, 22004 NULL.

Example: SELECT sequin.pause_source('shop');$$;

COMMENT ON FUNCTION sequin.resume_source(text) IS
$$Has a source capture again: one that is paused, whose slot is lost, or that came with a dump. Resuming one that does
capture changes nothing.

name  the source; may not be NULL

A paused source goes on where it was. One whose slot is lost, or stayed where the dump was made, starts anew with
another slot: what was changed meanwhile is lost, but all tables are backfilled if the source was created so, in place
of the backfills that it had not finished.
Takes effect at commit. Waits as sequin.create_source() does if it makes a slot.
Right: member of the role that owns the source; to backfill, SELECT on the tables.
Errors: 42704 no such source, 42501 no right, 22004 NULL, 55000 its publication is gone, or wal_level is not
logical, 53400 no replication slot is free, 55006 tables have been made or changed all
the time for 30 s, 25006 read-only transaction or standby.

Example: SELECT sequin.resume_source('shop');$$;

COMMENT ON FUNCTION sequin.drop_source(text) IS
$$Drops a source, with its backfills, its replication slot, and the publication if sequin made it. The stream and its
messages stay.

name  the source; may not be NULL

Takes effect at commit; the slot goes a moment later.
Right: member of the role that owns the source.
Errors: 42704 no such source, 42501 not the owner, 22004 NULL.

Example: SELECT sequin.drop_source('shop');$$;

COMMENT ON FUNCTION sequin.backfill(text, regclass, text) IS
$$Has a source read the rows that a table has, while changes go on. Returns the backfill's id in sequin.backfills.

source     the source; may not be NULL
tbl        a table that it captures; a partitioned one as the publication has it; may not be NULL
condition  only rows for which this SQL expression over the table's columns is true; NULL: all. Names in it are looked
           up in pg_catalog: write schema.function(..) and OPERATOR(schema.+) for others.

Each row becomes a message with action "read", unless it is changed meanwhile: then the message of the change is enough.
Whoever applies the messages in order has the table. Backfills of a source run one after the other, in chunks by the
key, without locks on the table; they go on after a restart. If the table is altered meanwhile, the rest is read as the table
is by then, and all of it again if its key was altered. Without a key, or if what was asked for can't be read any more, the
backfill fails: sequin.source_stats says why, until another one for the table is begun, or it is cancelled.
Starts at commit. Reads as the role that called this.
Rights: member of the role that owns the source, and SELECT on the table, unlimited by policies.
Errors: 42704 no such source, 22023 the table is not captured, or condition is not one expression, 22004 NULL,
42501 no right, 55000 the table has no key; those of PostgreSQL for what is wrong in the condition.

Example: SELECT sequin.backfill('shop', 'orders', 'id > 1000');$$;

COMMENT ON FUNCTION sequin.cancel_backfill(bigint) IS
$$Cancels a backfill. True if it took effect, false if the backfill has ended before. One that has failed is forgotten: the
status of its source is no longer "failed" for it.

id  from sequin.backfill(), or sequin.backfills; may not be NULL

Takes effect at commit. Messages that it has published stay.
Right: member of the role that owns the source.
Errors: 42704 no such backfill, 42501 not the owner, 22004 NULL.

Example: SELECT sequin.cancel_backfill(17);$$;

-- ---- looking ----

COMMENT ON FUNCTION sequin.messages(text, text, bigint, integer) IS
$$Shows messages of a stream, ascending by seq. Leases nothing and changes nothing.

stream        the stream
filter        only keys that match; see sequin.key_matches()
after_seq     only above this seq, to read on from the last one shown
max_messages  at most so many: 0 to 1000000

NULL: none may be NULL.
Result: seq, key, data, headers (may be NULL), inserted_at.
Tokens before the first wildcard use the index on key, if the stream has one.
Right: SELECT on the stream's table. Policies of row-level security apply.
Errors: 42704 no such stream, 22023 bad filter or number, 22004 NULL, 42501 no right, 42602 bad name.

Example: SELECT * FROM sequin.messages('orders', 'order.17.>', max_messages => 10);$$;

COMMENT ON FUNCTION sequin.in_flight(text) IS
$$Shows what a consumer has delivered and not finished, ascending by ack_id. Changes nothing.

consumer  the consumer; may not be NULL

Result: ack_id, seq, key (NULL if the message has been deleted, or you may not read it), deliver_count, deadline (may be past while
an open transaction has acked the message), pid (the process that received it; NULL if the dispatcher has
been restarted since).
Right: member of the role that owns the consumer, or pg_monitor; for keys SELECT on the stream's table, unlimited by
policies.
Errors: 42704 no such consumer, 22004 NULL, 42501 not the owner, 55000 consumer not committed, or no
dispatcher, 25006 standby.

Example: SELECT seq, key, deadline - now() AS time_left FROM sequin.in_flight('billing');$$;

COMMENT ON VIEW sequin.stream_stats IS
$$One row for each stream. Everybody may read it; messages and first_seq are for pg_monitor and for roles that may SELECT
the stream's seqs. NULLs where the table was dropped by hand.$$;
COMMENT ON COLUMN sequin.stream_stats.messages IS 'last_seq - first_seq + 1: an upper bound, gaps of rolled-back transactions count, and with one message per key what was replaced';
COMMENT ON COLUMN sequin.stream_stats.bytes IS 'Size on disk of the table, its indexes and TOAST, in bytes';
COMMENT ON COLUMN sequin.stream_stats.first_seq IS 'Lowest seq there is; NULL if there is none';
COMMENT ON COLUMN sequin.stream_stats.last_seq IS 'Highest seq ever taken, committed or not; 0 if none';
COMMENT ON COLUMN sequin.stream_stats.published_total IS 'The same as last_seq: gaps of rolled-back transactions count';
COMMENT ON COLUMN sequin.stream_stats.open_publishers IS 'Open transactions that have published to the stream';
COMMENT ON COLUMN sequin.stream_stats.oldest_publisher_pid IS 'The process of the one that published first; NULL if there is none';
COMMENT ON COLUMN sequin.stream_stats.oldest_publisher_since IS 'When it first published in its transaction';
COMMENT ON COLUMN sequin.stream_stats.duplicates_total IS 'Messages that were not published since their dedup_id had been, since the start of the server';
COMMENT ON COLUMN sequin.stream_stats.partitions IS 'Partitions of the table, with those for messages to come; NULL if it has none, as without retention';
COMMENT ON COLUMN sequin.stream_stats.retention_blocked IS 'What has been in the way of giving messages back, for some seconds; NULL if nothing is';

COMMENT ON VIEW sequin.consumer_stats IS
'One row for each consumer. Everybody may read it. Numbers come from the dispatcher and are NULL while none runs.';
COMMENT ON COLUMN sequin.consumer_stats.ready IS 'Messages loaded that could be delivered now';
COMMENT ON COLUMN sequin.consumer_stats.in_flight IS 'Delivered, not finished, deadline not past';
COMMENT ON COLUMN sequin.consumer_stats.delayed IS 'Waiting for a nack''s delay or the backoff to end';
COMMENT ON COLUMN sequin.consumer_stats.withheld IS 'Waiting for an earlier message of their key';
COMMENT ON COLUMN sequin.consumer_stats.ack_floor IS 'All that matches up to this seq is finished';
COMMENT ON COLUMN sequin.consumer_stats.lag IS 'Seqs of the stream beyond what the consumer has loaded; it loads when a session receives';
COMMENT ON COLUMN sequin.consumer_stats.redelivered_total IS 'Deliveries with a deliver_count above 1';
COMMENT ON COLUMN sequin.consumer_stats.acked_total IS 'Acks that took effect';
COMMENT ON COLUMN sequin.consumer_stats.dead_total IS 'Messages that became dead letters, by max_deliver or reject';
COMMENT ON COLUMN sequin.consumer_stats.oldest_unacked_at IS 'inserted_at of the lowest loaded message that is not finished; for pg_monitor and roles that may SELECT it';
COMMENT ON COLUMN sequin.consumer_stats.waiting IS 'Calls of receive that wait';
COMMENT ON COLUMN sequin.consumer_stats.status IS
    'active, paused, ownerless (the role that owned it is gone), damaged: see last_error and sequin.repair_stream(), or unknown: no dispatcher, or the stream''s table is gone';
COMMENT ON COLUMN sequin.consumer_stats.last_error IS 'What last went wrong with it, and what to do about it';

COMMENT ON VIEW sequin.source_stats IS 'One row for each source. Everybody may read it.';
COMMENT ON COLUMN sequin.source_stats.slot IS 'Its replication slot; NULL if that is of another server or database';
COMMENT ON COLUMN sequin.source_stats.status IS
$$streaming, or why not: starting (its slot or worker is not there yet), backfilling (both), paused, failed (it captures
nothing now, or a backfill has failed, or a table was dropped and the one that has its name now isn't captured: last_error
says why and what to do; all but the backfill is tried again), lost (the slot is gone, or misses WAL), restored (came with a
dump), ownerless (the role that owned it is gone).$$;
COMMENT ON COLUMN sequin.source_stats.lag_bytes IS 'WAL that is not captured yet, in bytes; NULL without a slot';
COMMENT ON COLUMN sequin.source_stats.retained_bytes IS
'WAL that the slot keeps on disk, in bytes: also what open transactions have written, which lag_bytes leaves out; NULL without a slot';
COMMENT ON COLUMN sequin.source_stats.last_commit_lsn IS 'All transactions that end up to here are in the stream; NULL before the start';
COMMENT ON COLUMN sequin.source_stats.last_commit_time IS 'When the last transaction that is in the stream was committed';
COMMENT ON COLUMN sequin.source_stats.captured_total IS 'Messages published since the slot was made';
COMMENT ON COLUMN sequin.source_stats.backfills_pending IS 'Backfills that are to follow';
COMMENT ON COLUMN sequin.source_stats.backfill_table IS 'The table that is being read; NULL if none';
COMMENT ON COLUMN sequin.source_stats.backfill_rows IS 'Rows of it read so far';
COMMENT ON COLUMN sequin.source_stats.last_error IS
'What is wrong with it, or with a backfill, and what to do about it; why a backfill failed only for members of its owner';

COMMENT ON VIEW sequin.workers IS
'The background processes: the launcher of the server, a dispatcher for each database, and a capturer for each source.
Everybody may read it.';
COMMENT ON COLUMN sequin.workers.process IS 'launcher, dispatcher, janitor, scheduler or capturer';
COMMENT ON COLUMN sequin.workers.database IS 'NULL for the launcher';
COMMENT ON COLUMN sequin.workers.state IS 'running, starting, or stopped';
COMMENT ON COLUMN sequin.workers.since IS 'When it started, or ended';
COMMENT ON COLUMN sequin.workers.last_error IS 'What last went wrong, at most 256 bytes; the server log has all of it';

-- ---- tables ----

COMMENT ON TABLE sequin.streams IS 'The streams. Change it by sequin.create_stream() and drop_stream() only.';
COMMENT ON TABLE sequin.dedup_tables IS 'Which tables have the dedup_ids, and whose turn it is. Written by the janitor.';
COMMENT ON COLUMN sequin.dedup_tables.turn IS 'current or closing: publishers write it; closed: they read it; free: it is empty';
COMMENT ON COLUMN sequin.dedup_tables.since IS 'When that turn began';
COMMENT ON TABLE sequin.dedup_1 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_2 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_3 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_4 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_5 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_6 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_7 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_8 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.schedules IS 'Messages that are to be published later: see the view sequin.scheduled';
COMMENT ON TABLE sequin.key_locks IS 'A row for each key of a stream with one message per key: transactions that publish it wait for its lock.';
COMMENT ON TABLE sequin.consumers IS 'The consumers and their settings. Change it by the functions only.';
COMMENT ON COLUMN sequin.consumers.owner IS 'The role whose members may use it';
COMMENT ON COLUMN sequin.consumers.id IS 'What the journals call it';
COMMENT ON COLUMN sequin.consumers.generation IS 'Counts rewinds';
COMMENT ON COLUMN sequin.consumers.start_after IS 'Where it started, or was rewound to: after this seq';
COMMENT ON COLUMN sequin.consumers.start_done IS 'Seqs above start_after that it skips, as pairs of first and last';

COMMENT ON TABLE sequin.sources IS 'The sources and their settings. Change it by the functions only.';
COMMENT ON COLUMN sequin.sources.owner IS 'The role whose members may change it, and that messages are inserted as';
COMMENT ON COLUMN sequin.sources.owns_publication IS 'Made by sequin, and dropped with the source';
COMMENT ON COLUMN sequin.sources.table_oids IS
'The tables that its publication had by name when it was last created, altered or resumed';
COMMENT ON COLUMN sequin.sources.table_names IS 'Their names then';
COMMENT ON COLUMN sequin.sources.backfill IS 'Tables are read when they are new to it, and when it starts anew';
COMMENT ON COLUMN sequin.sources.id IS 'In the name of its slot. At random';
COMMENT ON COLUMN sequin.sources.generation IS 'Counts its slots';
COMMENT ON COLUMN sequin.sources.system IS 'system_identifier of the server that its slot is on';
COMMENT ON COLUMN sequin.sources.database IS 'OID of the database that its slot is in';

COMMENT ON TABLE sequin.source_progress IS 'How far each source is; the row with the highest id counts. Written by its capturer.';
COMMENT ON COLUMN sequin.source_progress.lsn IS 'All transactions that end up to here are in the stream';

COMMENT ON TABLE sequin.backfills IS
$$Tables that sources read, or have read: see sequin.backfill() and sequin.cancel_backfill(). Members of the source's
owner see its rows. They go when the source is dropped.$$;
COMMENT ON COLUMN sequin.backfills.tbl IS 'OID of the table: tbl::regclass is its name';
COMMENT ON COLUMN sequin.backfills.owner IS 'The role that it reads as';
COMMENT ON COLUMN sequin.backfills.status IS 'pending, running, done, cancelled, or failed';
COMMENT ON COLUMN sequin.backfills.last_key IS 'Key of the last row read, as text: it goes on after that';
COMMENT ON COLUMN sequin.backfills.rows_read IS 'Rows read so far';

COMMENT ON TABLE sequin.all_dead_letters IS 'The dead letters of all consumers: see the view sequin.dead_letters';
COMMENT ON VIEW sequin.dead_letters IS
$$Messages that a consumer has given up on, with a copy of their data: see sequin.reject(), sequin.redrive() and
max_deliver. Members of the consumer's owner see its rows, roles that may read sequin.all_dead_letters see all. They go when
the consumer is dropped.$$;
COMMENT ON COLUMN sequin.dead_letters.deliver_count IS 'How often it had been delivered';
COMMENT ON COLUMN sequin.dead_letters.reason IS 'From sequin.reject(), or "max_deliver reached"';

COMMENT ON VIEW sequin.scheduled IS
$$Messages that are to be published later, of roles that you are a member of. Who may SELECT from sequin.schedules sees all.$$;
COMMENT ON COLUMN sequin.scheduled.id IS 'For sequin.unschedule()';
COMMENT ON COLUMN sequin.scheduled.deliver_at IS 'When it is to be published';
COMMENT ON COLUMN sequin.scheduled.owner IS 'The role that has scheduled it, and that it is published as';
COMMENT ON COLUMN sequin.scheduled.reason IS 'Why it was refused when it was due: it is not tried again; NULL before';

COMMENT ON TABLE sequin.outbox IS 'Journal of deliveries since the last checkpoint. Written by the dispatcher.';
COMMENT ON COLUMN sequin.outbox.kind IS 'd delivered, r returned, e extended, f finished, x dead';
COMMENT ON TABLE sequin.acks IS 'A row, or some, for each call of ack, reject, redeliver or redrive that is in no checkpoint yet.';
COMMENT ON COLUMN sequin.acks.kind IS 'a acked, x rejected, r redelivered, g the consumer is gone';
COMMENT ON TABLE sequin.checkpoints IS 'The state of each consumer, about once a second while it changes. Written by the dispatcher.';
COMMENT ON COLUMN sequin.checkpoints.done IS 'Finished above floor, as pairs of first and last seq';
COMMENT ON COLUMN sequin.checkpoints.ack_ids IS '0: not in flight, may be delivered again from due on';
COMMENT ON COLUMN sequin.checkpoints.open_acks IS 'Rows of sequin.acks with a lower id whose transactions were open';
COMMENT ON COLUMN sequin.checkpoints.due IS 'Deadlines, in microseconds since 2000-01-01 UTC';
COMMENT ON SEQUENCE sequin.partition_id IS 'For names of partitions: each is used once.';
COMMENT ON SEQUENCE sequin.epoch IS 'Each start of a dispatcher takes one; it makes ack_ids unique for ever.';

-- ---- internal ----

COMMENT ON FUNCTION sequin.check_key(text) IS 'Internal: the CHECK constraint of streams'' tables';
COMMENT ON FUNCTION sequin.on_publish() IS 'Internal: the trigger of streams'' tables; without it messages get lost';
COMMENT ON FUNCTION sequin.on_schedule() IS 'Internal: the trigger of sequin.schedules; it has the scheduler learn of what is scheduled';
COMMENT ON FUNCTION sequin.on_upsert() IS 'Internal: the trigger of streams with one message per key; it replaces the message of a new one''s key';
COMMENT ON FUNCTION sequin.on_config_change() IS 'Internal: tells sessions and workers that streams, consumers or sources have changed';
COMMENT ON FUNCTION sequin._stream_stats(text) IS 'Internal: behind sequin.stream_stats';
COMMENT ON FUNCTION sequin._consumer_stats() IS 'Internal: behind sequin.consumer_stats';
COMMENT ON FUNCTION sequin._duplicates(text) IS 'Internal: behind sequin.stream_stats';
COMMENT ON FUNCTION sequin._partitions(text) IS 'Internal: behind sequin.stream_stats';
COMMENT ON FUNCTION sequin._last_seq(text) IS 'Internal: behind sequin.consumer_stats';
COMMENT ON FUNCTION sequin._inserted_at(text, bigint) IS 'Internal: behind sequin.consumer_stats';
COMMENT ON FUNCTION sequin._source_faults() IS 'Internal: behind sequin.source_stats';
COMMENT ON FUNCTION sequin._source_workers() IS 'Internal: behind sequin.source_stats';
COMMENT ON FUNCTION sequin._workers() IS 'Internal: behind sequin.workers';
--

