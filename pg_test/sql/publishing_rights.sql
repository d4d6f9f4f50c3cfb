-- Who may not publish is refused before anything has happened: no lock, no bound, no seq.
CREATE ROLE regress_sequin_owner;
CREATE ROLE regress_sequin_stranger;
GRANT USAGE, CREATE ON SCHEMA sequin_stream TO regress_sequin_owner;
SET ROLE regress_sequin_owner;
SELECT sequin.create_stream('guarded') IS NOT NULL AS created;
RESET ROLE;
SELECT sequin.publish('guarded', 'a', '1') AS first \gset
CREATE VIEW traces AS
    SELECT s.last_seq - current_setting('regress.first')::bigint AS seqs, s.open_publishers,
        (SELECT count(*) FROM pg_locks l WHERE l.relation = 'sequin_stream.guarded'::regclass
            AND l.mode = 'RowExclusiveLock') AS locks
    FROM sequin.stream_stats s WHERE s.stream = 'guarded';
GRANT SELECT ON traces TO PUBLIC;
SELECT set_config('regress.first', :'first', false) IS NULL AS hidden;

\pset format unaligned
\pset tuples_only on
SET ROLE regress_sequin_stranger;
BEGIN;
SELECT attempt(statement) FROM unnest(ARRAY[
    $$SELECT sequin.publish('guarded', 'a', '1')$$,
    $$SELECT sequin.publish_many('guarded', '{a}', '{1}')$$,
    $$SELECT sequin.publish_many('guarded', '{}', '{}')$$]) statement;
SELECT * FROM traces;
COMMIT;
RESET ROLE;
-- Columns are as good as the table, if they are all that a message has.
GRANT INSERT (key, data, headers) ON sequin_stream.guarded TO regress_sequin_stranger;
SET ROLE regress_sequin_stranger;
BEGIN;
SELECT attempt($$SELECT sequin.publish('guarded', 'a', '1')$$);
SELECT * FROM traces;
COMMIT;
INSERT INTO sequin_stream.guarded (key, data) VALUES ('b', '2');
SELECT seqs FROM traces;
RESET ROLE;
GRANT INSERT (seq) ON sequin_stream.guarded TO regress_sequin_stranger;
SET ROLE regress_sequin_stranger;
SELECT sequin.publish('guarded', 'a', '3') > 0;
SELECT count(*) FROM sequin.publish_many('guarded', '{a,b}', '{4,5}');
RESET ROLE;
-- The schema counts.
GRANT INSERT ON sequin_stream.guarded TO regress_sequin_stranger;
REVOKE USAGE ON SCHEMA sequin_stream FROM PUBLIC;
SET ROLE regress_sequin_stranger;
SELECT attempt($$SELECT sequin.publish('guarded', 'a', '1')$$);
RESET ROLE;
GRANT USAGE ON SCHEMA sequin_stream TO PUBLIC;
SELECT * FROM traces;

-- The trigger functions work for sequin's own tables only.
CREATE SCHEMA regress_elsewhere AUTHORIZATION regress_sequin_stranger;
SET ROLE regress_sequin_stranger;
CREATE TABLE regress_elsewhere.t (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int);
CREATE TRIGGER a BEFORE INSERT ON regress_elsewhere.t FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_publish();
SELECT attempt($$INSERT INTO regress_elsewhere.t (n) VALUES (1)$$);
SELECT attempt($$CREATE TRIGGER b AFTER INSERT ON regress_elsewhere.t
    FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_config_change()$$);
RESET ROLE;
DROP TRIGGER a ON regress_elsewhere.t;
CREATE TRIGGER b AFTER INSERT ON regress_elsewhere.t
    FOR EACH STATEMENT EXECUTE FUNCTION sequin.on_config_change();
SELECT attempt($$INSERT INTO regress_elsewhere.t (n) VALUES (1)$$);
\pset tuples_only off
\pset format aligned

DROP SCHEMA regress_elsewhere CASCADE;
DROP VIEW traces;
SELECT sequin.drop_stream('guarded');
DROP OWNED BY regress_sequin_owner, regress_sequin_stranger;
DROP ROLE regress_sequin_owner, regress_sequin_stranger;
