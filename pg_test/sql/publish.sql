-- publish, publish_many, INSERT and COPY are one and the same thing.
SELECT sequin.create_stream('mixed');
SELECT sequin.create_consumer('mixed', 'reader');
SELECT sequin.publish('mixed', 'a', '{"by": "publish"}', headers => '{"trace": "1"}') AS seq \gset first_
SELECT sequin.publish('mixed', 'b', 'null') - :first_seq AS next;
SELECT seq - :first_seq AS next FROM sequin.publish_many('mixed', '{c,d,e}', '{1,"\"two\"",[3]}') seq;
SELECT seq - :first_seq AS next FROM sequin.publish_many('mixed', '{f,g}', '{1,2}', ARRAY['{"h": 1}', NULL]::jsonb[]) seq;
SELECT count(*) FROM sequin.publish_many('mixed', '{}', '{}');
INSERT INTO sequin_stream.mixed (key, data) VALUES ('h', '1'), ('i', '2') RETURNING key;
COPY sequin_stream.mixed (key, data, headers) FROM STDIN;
j	{"by": "copy"}	\N
k	{"by": "copy"}	{"h": 1}
\.
SELECT seq - :first_seq AS next, key, data, headers, deliver_count, inserted_at <= clock_timestamp() AS dated
FROM sequin.receive('reader', 100, wait => '10 s');

-- Rolled back, and taken back to a savepoint: never delivered.
BEGIN;
SELECT sequin.publish('mixed', 'never', '1') > 0 AS published;
ROLLBACK;
BEGIN;
SELECT sequin.publish('mixed', 'l', '1') > 0 AS published;
SAVEPOINT s;
INSERT INTO sequin_stream.mixed (key, data) VALUES ('never', '2');
ROLLBACK TO s;
SELECT count(*) FROM sequin.publish_many('mixed', '{m}', '{1}');
COMMIT;
SELECT key, data FROM sequin.receive('reader', 100, wait => '10 s');

-- jsonb goes through as it is: numbers beyond what a double holds, the largest nesting there is time for here.
SELECT sequin.publish('mixed', 'n', '{"n": 12345678901234567890.123456789012345678901234567890}') > 0 AS published;
SELECT data FROM sequin.receive('reader', wait => '10 s');

-- Within functions, triggers and CTEs.
CREATE TABLE orders (id bigint PRIMARY KEY, total numeric);
CREATE FUNCTION publish_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sequin.publish('mixed', 'orders.' || NEW.id, to_jsonb(NEW));
    RETURN NEW;
END $$;
CREATE TRIGGER publish_order AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION publish_order();
INSERT INTO orders VALUES (1, 10.50), (2, 20);
WITH published AS (INSERT INTO sequin_stream.mixed (key, data) SELECT 'cte', to_jsonb(o) FROM orders o RETURNING key)
SELECT count(*) FROM published;
SELECT key, data FROM sequin.receive('reader', 100, wait => '10 s');
SELECT messages >= 18 AS messages, last_seq - first_seq >= 17 AS seqs, open_publishers, bytes > 0 AS bytes FROM sequin.stream_stats WHERE stream = 'mixed';

DROP TABLE orders;
DROP FUNCTION publish_order;
SELECT sequin.drop_stream('mixed', force => true);
