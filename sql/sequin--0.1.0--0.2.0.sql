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

COMMENT ON FUNCTION sequin.publish(text, text, jsonb, jsonb, timestamptz, text) IS
$$Publishes one message. Returns its seq, its number in the stream.

stream      the stream
key         what filters match, and what order is kept by; see sequin.key_matches()
data        the message, any JSON; the JSON value null is allowed
headers     more JSON beside it, or NULL
deliver_at  only NULL in this version
dedup_id    only NULL in this version

NULL: stream, key and data may not be NULL.
It is an INSERT into sequin_stream.NAME in your transaction: a consumer gets the message once that commits,
and never if it rolls back. An INSERT or COPY of (key, data, headers) does the same. A seq that was rolled
back is not used again, so seqs have gaps. PREPARE TRANSACTION is refused after this.
Right: INSERT on the stream's table.
Errors: 42704 no such stream, 22023 bad key, 42501 no right, 22004 NULL, 42602 bad name, 09000 a trigger or
a rule on the table keeps the message out, 25006 read-only transaction or standby, 0A000 not in this version.

Example: SELECT sequin.publish('orders', 'order.17.paid', '{"amount": 20}');$$;

COMMENT ON FUNCTION sequin.publish_many(text, text[], jsonb[], jsonb[]) IS
$$Publishes many messages in one statement. Returns their seqs, one row each, in the order given.

stream   the stream
keys     a key for each message
data     a JSON value for each message
headers  one for each message, each of which may be NULL; or NULL for no headers at all

All arrays must have the same length. Empty arrays publish nothing and return no rows.
NULL: stream, keys and data may not be NULL, and keys and data may not contain NULL.
Effects and rights as for sequin.publish(). Call it in FROM. Batches of 100 or more cost the least per message.
Errors: 22023 arrays of different length, or a bad key: then none is published; 42704 no such stream,
42501 no right, 22004 NULL, 42602 bad name, 09000 a trigger or a rule on the table keeps messages out,
25006 read-only transaction or standby.

Example: SELECT * FROM sequin.publish_many('orders', '{order.1.new,order.2.new}', '{1,2}');$$;
