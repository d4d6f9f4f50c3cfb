-- What has changed in the schema since 0.1.0.
\echo Use "ALTER EXTENSION sequin UPDATE" to load this file. \quit

-- An UPDATE that gives a message a new seq publishes it, and has to say so.
DO $$
DECLARE
    stream text;
BEGIN
    FOR stream IN
        SELECT c.relname FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) c.oid
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'sequin_stream'::pg_catalog.regnamespace
            AND t.tgname OPERATOR(pg_catalog.=) 'on_publish'
            AND t.tgfoid OPERATOR(pg_catalog.=) 'sequin.on_publish'::pg_catalog.regproc
    LOOP
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER on_publish BEFORE INSERT OR UPDATE OF seq
            ON sequin_stream.%I FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_publish()', stream);
        EXECUTE pg_catalog.format('ALTER TABLE sequin_stream.%I ENABLE ALWAYS TRIGGER on_publish', stream);
    END LOOP;
END
$$;

-- One message per key.
ALTER TABLE sequin.streams ADD COLUMN one_message_per_key boolean;
UPDATE sequin.streams SET one_message_per_key = false;
ALTER TABLE sequin.streams ALTER one_message_per_key SET DEFAULT false, ALTER one_message_per_key SET NOT NULL;

-- Whoever publishes a key of a stream with one message per key holds its row's lock until his transaction ends. It holds
-- nothing else: a crash may empty it. Written by: the streams' trigger on_upsert.
CREATE UNLOGGED TABLE sequin.key_locks (
    stream oid NOT NULL,
    -- A hash of it.
    key bigint NOT NULL,
    PRIMARY KEY (stream, key)
);

CREATE FUNCTION sequin.on_upsert() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_on_upsert';
CREATE FUNCTION sequin."delete_key"("stream" text, "key" text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'delete_key_wrapper';
COMMENT ON TABLE sequin.key_locks IS 'A row for each key of a stream with one message per key: transactions that publish it wait for its lock.';
COMMENT ON FUNCTION sequin.on_upsert() IS 'Internal: the trigger of streams with one message per key; it replaces the message of a new one''s key';

DROP FUNCTION sequin.create_stream(text, boolean, interval, bigint, bigint, boolean);
CREATE FUNCTION sequin."create_stream"("name" text, "one_message_per_key" boolean DEFAULT false, "retain_for" interval DEFAULT NULL,
    "retain_messages" bigint DEFAULT NULL, "retain_bytes" bigint DEFAULT NULL, "index_keys" boolean DEFAULT true,
    "retain_until_acked" boolean DEFAULT false, "dedup_window" interval DEFAULT '2 min') RETURNS regclass
    LANGUAGE c AS 'MODULE_PATHNAME', 'create_stream_v2_wrapper';
DROP FUNCTION sequin.alter_stream(text, interval, bigint, bigint);
CREATE FUNCTION sequin."alter_stream"("name" text, "retain_for" interval DEFAULT NULL, "retain_messages" bigint DEFAULT NULL,
    "retain_bytes" bigint DEFAULT NULL, "retain_until_acked" boolean DEFAULT NULL, "dedup_window" interval DEFAULT NULL,
    "reset" text[] DEFAULT '{}') RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'alter_stream_v2_wrapper';
DROP FUNCTION sequin.publish_many(text, text[], jsonb[], jsonb[]);
CREATE FUNCTION sequin."publish_many"("stream" text, "keys" text[], "data" jsonb[], "headers" jsonb[] DEFAULT NULL,
    "dedup_ids" text[] DEFAULT NULL) RETURNS SETOF bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'publish_many_v2_wrapper';
CREATE FUNCTION sequin."published_before"("stream" text, "dedup_id" text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'published_before_wrapper';
CREATE FUNCTION sequin."_duplicates"("stream" text) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'duplicates_wrapper';
CREATE FUNCTION sequin."_partitions"("stream" text) RETURNS integer
    LANGUAGE c AS 'MODULE_PATHNAME', 'partitions_wrapper';

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

CREATE FUNCTION sequin."grant_publish"("stream" text, "role" regrole) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'grant_publish_wrapper';
CREATE FUNCTION sequin."grant_consume"("stream" text, "role" regrole) RETURNS void
    LANGUAGE c AS 'MODULE_PATHNAME', 'grant_consume_wrapper';

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

COMMENT ON COLUMN sequin.stream_stats.messages IS 'last_seq - first_seq + 1: an upper bound, gaps of rolled-back transactions count, and with one message per key what was replaced';

CREATE FUNCTION sequin."purge"("stream" text, "before_seq" bigint DEFAULT NULL, "before_time" timestamp with time zone DEFAULT NULL) RETURNS bigint
    LANGUAGE c AS 'MODULE_PATHNAME', 'purge_wrapper';

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

-- Messages that are published once.
ALTER TABLE sequin.streams ADD COLUMN dedup_window interval;
UPDATE sequin.streams SET dedup_window = '2 min';
ALTER TABLE sequin.streams ALTER dedup_window SET DEFAULT '2 min', ALTER dedup_window SET NOT NULL;

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

-- Retention.
CREATE SCHEMA sequin_partition;
COMMENT ON SCHEMA sequin_partition IS 'Partitions of the streams of sequin that have retention, made and dropped by sequin';
ALTER TABLE sequin.streams
    ADD COLUMN retain_for interval,
    ADD COLUMN retain_messages bigint,
    ADD COLUMN retain_bytes bigint,
    ADD COLUMN retain_until_acked boolean,
    ADD COLUMN retention_blocked text;
UPDATE sequin.streams SET retain_until_acked = false;
ALTER TABLE sequin.streams ALTER retain_until_acked SET DEFAULT false, ALTER retain_until_acked SET NOT NULL;
CREATE SEQUENCE sequin.partition_id AS bigint;
SELECT pg_catalog.pg_extension_config_dump('sequin.partition_id', '');
GRANT USAGE ON SCHEMA sequin_partition TO PUBLIC;
COMMENT ON SEQUENCE sequin.partition_id IS 'For names of partitions: each is used once.';

CREATE OR REPLACE VIEW sequin.stream_stats AS
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
COMMENT ON TABLE sequin.dedup_tables IS 'Which tables have the dedup_ids, and whose turn it is. Written by the janitor.';
COMMENT ON TABLE sequin.dedup_1 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_2 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_3 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_4 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_5 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_6 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_7 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON TABLE sequin.dedup_8 IS 'dedup_ids of messages: see sequin.dedup_tables.';
COMMENT ON COLUMN sequin.dedup_tables.turn IS 'current or closing: publishers write it; closed: they read it; free: it is empty';
COMMENT ON COLUMN sequin.dedup_tables.since IS 'When that turn began';
COMMENT ON COLUMN sequin.stream_stats.duplicates_total IS 'Messages that were not published since their dedup_id had been, since the start of the server';
COMMENT ON COLUMN sequin.stream_stats.partitions IS 'Partitions of the table, with those for messages to come; NULL if it has none, as without retention';
COMMENT ON COLUMN sequin.stream_stats.retention_blocked IS 'What has been in the way of giving messages back, for some seconds; NULL if nothing is';
COMMENT ON COLUMN sequin.workers.process IS 'launcher, dispatcher, janitor, scheduler or capturer';
COMMENT ON FUNCTION sequin._duplicates(text) IS 'Internal: behind sequin.stream_stats';
COMMENT ON FUNCTION sequin._partitions(text) IS 'Internal: behind sequin.stream_stats';

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

COMMENT ON FUNCTION sequin.published_before(text, text) IS
$$Returns the seq of the message that was published with a dedup_id; NULL if there is none, or if its dedup_window is over.

stream    the stream
dedup_id  what was passed to sequin.publish()

NULL: neither may be NULL.
It sees what is committed by now, and what the own transaction has published. It waits for nobody.
Right: INSERT on the stream's table, or SELECT.
Errors: 42704 no such stream, 42501 no right, 22004 NULL, 42602 bad name, 22023 bad dedup_id.

Example: SELECT sequin.published_before('orders', 'invoice-4711');$$;

-- Scheduled messages.
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

CREATE FUNCTION sequin.on_schedule() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_on_schedule';
REVOKE EXECUTE ON FUNCTION sequin.on_schedule() FROM PUBLIC;
CREATE TRIGGER on_schedule AFTER INSERT OR UPDATE OF deliver_at, reason ON sequin.schedules
    FOR EACH ROW WHEN (NEW.reason IS NULL) EXECUTE FUNCTION sequin.on_schedule();
ALTER TABLE sequin.schedules ENABLE ALWAYS TRIGGER on_schedule;
SELECT pg_catalog.pg_extension_config_dump('sequin.schedules', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.schedules_id_seq', '');
CREATE FUNCTION sequin."schedule"("stream" text, "key" text, "data" jsonb, "deliver_at" timestamp with time zone, "headers" jsonb DEFAULT NULL)
    RETURNS bigint LANGUAGE c AS 'MODULE_PATHNAME', 'schedule_wrapper';
CREATE FUNCTION sequin."unschedule"("id" bigint) RETURNS boolean
    LANGUAGE c AS 'MODULE_PATHNAME', 'unschedule_wrapper';
CREATE VIEW sequin.scheduled WITH (security_barrier) AS
SELECT s.id, s.stream, s.key, s.data, s.headers, s.deliver_at, s.owner, s.scheduled_at, s.reason
FROM sequin.schedules s
WHERE pg_catalog.has_table_privilege('sequin.schedules'::pg_catalog.regclass, 'SELECT')
   OR pg_catalog.pg_has_role(s.owner, 'USAGE');
GRANT SELECT ON sequin.scheduled TO PUBLIC;
COMMENT ON TABLE sequin.schedules IS 'Messages that are to be published later: see the view sequin.scheduled';
COMMENT ON FUNCTION sequin.on_schedule() IS 'Internal: the trigger of sequin.schedules; it has the scheduler learn of what is scheduled';
COMMENT ON VIEW sequin.scheduled IS
$$Messages that are to be published later, of roles that you are a member of. Who may SELECT from sequin.schedules sees all.$$;
COMMENT ON COLUMN sequin.scheduled.id IS 'For sequin.unschedule()';
COMMENT ON COLUMN sequin.scheduled.deliver_at IS 'When it is to be published';
COMMENT ON COLUMN sequin.scheduled.owner IS 'The role that has scheduled it, and that it is published as';
COMMENT ON COLUMN sequin.scheduled.reason IS 'Why it was refused when it was due: it is not tried again; NULL before';

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
