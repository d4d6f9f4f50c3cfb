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
