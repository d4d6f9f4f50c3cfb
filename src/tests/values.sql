-- One column of every kind of type, and values of all kinds, most of them random. Commands end with two semicolons.
CREATE EXTENSION hstore;;
CREATE TYPE mood AS ENUM ('sad', 'so so', '"NULL"', '{}');;
CREATE DOMAIN small AS int CHECK (VALUE < 1000000);;
CREATE DOMAIN smalls AS int[];;
CREATE DOMAIN document AS json;;
CREATE TYPE pair AS (n int, "a ""b""" text, gone text);;
ALTER TYPE pair DROP ATTRIBUTE gone;;
CREATE TYPE nested AS (pair pair, pairs pair[], list text[], data jsonb, doc json, at timestamptz, tags hstore, "on" bool,
    "größe" smalls, f float8);;
CREATE DOMAIN nested_domain AS nested;;
CREATE TYPE lonely AS ("only" text);;
CREATE TYPE nothing AS ();;
CREATE TYPE moods AS RANGE (subtype = mood);;

CREATE FUNCTION pg_temp.piece() RETURNS text LANGUAGE sql AS $$
    SELECT (ARRAY['a', 'B', '1', ' ', ',', ';', '"', '''', '\', '{', '}', '(', ')', '[', ']', 'NULL', 'null', '.', E'\n', E'\t',
        E'\r', E'\x01', E'\x1f', E'\x7f', E'\b', E'\x0b', '/', '%', '$', ':', '=', '=>', 'ü', '日本', '🦀', E'\u00a0'])
        [1 + floor(random() * 36)::int]
$$;;
CREATE FUNCTION pg_temp.txt() RETURNS text LANGUAGE sql AS $$
    SELECT CASE floor(random() * 20)::int WHEN 0 THEN 'NULL' WHEN 1 THEN 'null' WHEN 2 THEN NULL WHEN 3 THEN 'Infinity'
        ELSE coalesce((SELECT string_agg(pg_temp.piece(), '') FROM generate_series(1, floor(random() * 9)::int)), '') END
$$;;
CREATE FUNCTION pg_temp.int() RETURNS int LANGUAGE sql AS $$
    SELECT CASE floor(random() * 10)::int WHEN 0 THEN NULL WHEN 1 THEN 2147483647 WHEN 2 THEN -2147483648 WHEN 3 THEN 0
        ELSE (random() * 1000)::int END
$$;;
CREATE FUNCTION pg_temp.float() RETURNS float8 LANGUAGE sql AS $$
    SELECT CASE floor(random() * 20)::int WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' WHEN 3 THEN '-Infinity'
        WHEN 4 THEN '-0' WHEN 5 THEN 1.7976931348623157e308 WHEN 6 THEN 4.9e-324 WHEN 7 THEN 1e15 WHEN 8 THEN 1e22 WHEN 9 THEN 1
        ELSE (random() - 0.5) * power(10, floor(random() * 60) - 30) END
$$;;
CREATE FUNCTION pg_temp.num() RETURNS numeric LANGUAGE sql AS $$
    SELECT CASE floor(random() * 12)::int WHEN 0 THEN NULL WHEN 1 THEN 'NaN' WHEN 2 THEN 'Infinity' WHEN 3 THEN '-Infinity'
        WHEN 4 THEN power(10::numeric, 300) WHEN 5 THEN ('1e-300')::numeric WHEN 6 THEN 1.50 WHEN 7 THEN 0.000 WHEN 8 THEN -0.1
        ELSE (random()::numeric - 0.5) * power(10::numeric, floor(random() * 60)::int - 30) END
$$;;
CREATE FUNCTION pg_temp.ts() RETURNS timestamp LANGUAGE sql AS $$
    SELECT CASE floor(random() * 16)::int WHEN 0 THEN NULL WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity'
        WHEN 3 THEN '4713-01-02 00:00:00 BC' WHEN 4 THEN '294276-12-30 23:59:59.999999' WHEN 5 THEN '0001-12-31 23:59:59 BC'
        WHEN 6 THEN '2026-11-20 12:00:00' WHEN 7 THEN '1880-01-01 12:00:00.1' WHEN 8 THEN '10000-01-01' WHEN 9 THEN '1920-06-01'
        WHEN 10 THEN date_trunc('day', timestamp '2000-01-01' + random() * interval '50 years')
        ELSE timestamp '0500-01-01 BC' + random() * interval '4000 years' END
$$;;
CREATE FUNCTION pg_temp.js() RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE floor(random() * 8)::int WHEN 0 THEN NULL WHEN 1 THEN 'null' WHEN 2 THEN '[]' WHEN 3 THEN '{}'
        WHEN 4 THEN to_jsonb(pg_temp.txt()) WHEN 5 THEN to_jsonb(pg_temp.num())
        ELSE jsonb_build_object(coalesce(pg_temp.txt(), 'k'), pg_temp.txt(), 'a', jsonb_build_array(pg_temp.int(), true)) END
$$;;
CREATE FUNCTION pg_temp.doc() RETURNS json LANGUAGE sql AS $$
    SELECT CASE floor(random() * 8)::int WHEN 0 THEN ' {"b" : 1,"a":[ 1 , 2.50, -0, 1e5, 1E-7 ], "b": 2 } '::json
        WHEN 1 THEN E'[\n"\\u0041\\n\\/\\t\\"\\\\",\ttrue ]'::json WHEN 2 THEN '"\u007f"'::json ELSE pg_temp.js()::json END
$$;;
CREATE FUNCTION pg_temp.pair() RETURNS pair LANGUAGE sql AS $$
    SELECT CASE floor(random() * 6)::int WHEN 0 THEN NULL ELSE ROW(pg_temp.int(), pg_temp.txt())::pair END
$$;;
CREATE FUNCTION pg_temp.tags() RETURNS hstore LANGUAGE sql AS $$
    SELECT CASE floor(random() * 5)::int WHEN 0 THEN NULL WHEN 1 THEN ''::hstore
        ELSE hstore(coalesce(pg_temp.txt(), 'k'), pg_temp.txt()) || hstore('n', pg_temp.int()::text) END
$$;;
CREATE FUNCTION pg_temp.list(kind int, e1 anyelement, e2 anyelement, e3 anyelement, e4 anyelement) RETURNS anyarray LANGUAGE plpgsql AS $$
    BEGIN
        RETURN CASE kind % 8 WHEN 0 THEN ARRAY[e1, e2, e3, e4] WHEN 1 THEN ARRAY[[e1, e2], [e3, e4]] WHEN 2 THEN ARRAY[[[e1], [e2]], [[e3], [e4]]]
            WHEN 3 THEN array_fill(e1, ARRAY[2, 3], ARRAY[0, -2]) WHEN 4 THEN ARRAY[e1] WHEN 5 THEN (ARRAY[e1])[2:]
            WHEN 6 THEN array_fill(e2, ARRAY[3], ARRAY[5]) ELSE ARRAY[e1, NULL, e2] END;
    END
$$;;
CREATE FUNCTION pg_temp.nested(n int) RETURNS nested LANGUAGE sql AS $$
    SELECT ROW(pg_temp.pair(), pg_temp.list(n, pg_temp.pair(), pg_temp.pair(), pg_temp.pair(), pg_temp.pair()),
        pg_temp.list(n + 1, pg_temp.txt(), pg_temp.txt(), pg_temp.txt(), pg_temp.txt()), pg_temp.js(), pg_temp.doc(),
        pg_temp.ts() AT TIME ZONE 'UTC', pg_temp.tags(), n % 2 = 0, ARRAY[n, NULL], pg_temp.float())::nested
$$;;

CREATE TABLE samples AS SELECT n,
    n % 2 = 0 AS bool,
    (pg_temp.int() % 32768)::int2 AS int2, pg_temp.int() AS int4,
    CASE n % 5 WHEN 0 THEN 9223372036854775807 WHEN 1 THEN -9223372036854775808 ELSE pg_temp.int()::int8 * 4000000000 END AS int8,
    CASE WHEN abs(f) BETWEEN 1e-37 AND 1e37 OR f IN (0, 'NaN', 'Infinity', '-Infinity') THEN f::float4 ELSE n::float4 / 7 END AS float4,
    f AS float8, pg_temp.num() AS "numeric", pg_temp.num() AS numeric2,
    pg_temp.txt() AS "text", pg_temp.txt()::varchar AS "varchar", pg_temp.txt()::char(12) AS bpchar, pg_temp.txt()::name AS name,
    chr(1 + n % 126)::"char" AS "char", convert_to(pg_temp.txt(), 'SQL_ASCII') AS bytea,
    pg_temp.ts() AS "timestamp", pg_temp.ts() AT TIME ZONE 'UTC' AS "timestamptz",
    date '2000-01-01' + (n * 7919 % 1200000 - 800000) AS "date", CASE n % 3 WHEN 0 THEN date 'infinity' WHEN 1 THEN '-infinity' ELSE '0044-03-15 BC' END AS date2,
    ('00:00:00'::time + random() * interval '1 day') AS "time", ('00:00:00'::time + random() * interval '1 day')::time(0) AT TIME ZONE 'Asia/Kolkata' AS "timetz",
    make_interval(n - 200, n % 11, 0, n % 31 - 15, n % 25, -(n % 61), random() * 60) AS "interval",
    pg_temp.js() AS "jsonb", pg_temp.doc() AS "json", pg_temp.doc()::document AS document,
    (enum_range(NULL::mood))[1 + n % 4] AS mood, (n % 1000)::small AS small, ARRAY[n, NULL]::smalls AS smalls,
    pg_temp.pair() AS pair, pg_temp.nested(n) AS nested, pg_temp.nested(n)::nested_domain AS nested_domain,
    ROW(pg_temp.txt())::lonely AS lonely, ROW()::nothing AS nothing,
    pg_temp.tags() AS hstore, ARRAY[pg_temp.tags(), NULL, pg_temp.tags()] AS hstores,
    gen_random_uuid() AS uuid, ('10.0.' || n % 256 || '.0/' || 8 + n % 25)::inet AS inet, ('::' || to_hex(n) || '/128')::cidr AS cidr,
    ('08:00:2b:01:02:' || to_hex(16 + n % 200))::macaddr AS macaddr, '08:00:2b:01:02:03:04:05'::macaddr8 AS macaddr8,
    (n * 1.25 - 100)::money AS money, n::bit(12) AS "bit", n::bit(10)::varbit AS "varbit",
    to_tsvector('simple', 'a ''b'' c\d ' || n) AS tsvector, to_tsquery('simple', 'a & (b | !c:*) & x' || n) AS tsquery,
    ('<a b="' || n || '">&amp;' || chr(10) || '</a>')::xml AS xml, n::oid AS oid, ('(' || n || ',1)')::tid AS tid, n::text::xid AS xid,
    n::text::cid AS cid, n::text::xid8 AS xid8, ('0/' || to_hex(n))::pg_lsn AS pg_lsn, 'pg_class'::regclass AS regclass,
    'int4'::regtype AS regtype, 'now'::regproc AS regproc, 'now()'::regprocedure AS regprocedure, 'pg_catalog'::regnamespace AS regnamespace,
    pg_current_snapshot() AS snapshot, ('$.a[*] ? (@ > ' || n || ')')::jsonpath AS jsonpath,
    int4range(n, n + 5) AS int4range, CASE n % 3 WHEN 0 THEN 'empty' ELSE numrange(n, NULL, '(]') END AS numrange,
    tsrange('2026-01-01 00:00', '2026-01-02 00:00') AS tsrange, tstzrange(now(), 'infinity') AS tstzrange, moods('sad', 'so so') AS moods,
    int4multirange(int4range(n, n + 5), int4range(n + 7, n + 9)) AS int4multirange,
    point(n, f) AS point, lseg(point(n, 1), point(2, n)) AS lseg, box(point(n, 1), point(2, n)) AS box, '[(0,0),(1,2)]'::path AS path,
    polygon(box(point(0, 0), point(n, n))) AS polygon, circle(point(n, 1), 2.5) AS circle, '{1,2,3}'::line AS line,
    CASE n % 4 WHEN 0 THEN '' WHEN 1 THEN '7' ELSE n || ' -1 0' END::int2vector AS int2vector,
    CASE n % 4 WHEN 0 THEN '' WHEN 1 THEN '7' ELSE n || ' 4294967295' END::oidvector AS oidvector,
    ARRAY['1 2'::int2vector, NULL, ''] AS int2vectors,
    pg_temp.list(n, n % 2 = 0, NULL, true, false) AS bools,
    pg_temp.list(n, pg_temp.int(), pg_temp.int(), pg_temp.int(), pg_temp.int()) AS ints,
    pg_temp.list(n, pg_temp.float(), pg_temp.float(), pg_temp.float(), pg_temp.float()) AS floats,
    pg_temp.list(n, pg_temp.num(), pg_temp.num(), pg_temp.num(), pg_temp.num()) AS numerics,
    pg_temp.list(n, pg_temp.txt(), pg_temp.txt(), pg_temp.txt(), pg_temp.txt()) AS texts,
    pg_temp.list(n, pg_temp.ts(), pg_temp.ts(), pg_temp.ts(), pg_temp.ts()) AS timestamps,
    pg_temp.list(n, pg_temp.ts() AT TIME ZONE 'UTC', pg_temp.ts() AT TIME ZONE 'UTC', NULL, now()) AS timestamptzs,
    pg_temp.list(n, pg_temp.js(), pg_temp.js(), pg_temp.js(), pg_temp.js()) AS jsonbs,
    pg_temp.list(n, pg_temp.doc(), pg_temp.doc(), pg_temp.doc(), pg_temp.doc()) AS jsons,
    pg_temp.list(n, pg_temp.pair(), pg_temp.pair(), pg_temp.pair(), pg_temp.pair()) AS pairs,
    pg_temp.list(n, pg_temp.nested(n), pg_temp.nested(n + 1), pg_temp.nested(n), NULL) AS nesteds,
    pg_temp.list(n, 'sad'::mood, '"NULL"', '{}', NULL) AS mood_list,
    pg_temp.list(n, box(point(n, 1), point(2, n)), box(point(0, 0), point(1, 1)), NULL, box(point(0, 0), point(1, 1))) AS boxes,
    ARRAY['\x00ff'::bytea, '', NULL] AS byteas, ARRAY['10.0.0.0/8'::inet, NULL] AS inets, ARRAY[int4range(n, n + 5), NULL, 'empty'] AS ranges,
    ARRAY[interval '1 year -2 days', '00:00:01.5', NULL] AS intervals, ARRAY[(n % 1000)::small, NULL] AS small_list,
    ARRAY[pg_temp.doc()::document, NULL] AS documents, '{}'::smalls AS empty, '{"{}","(,)","[0:1]={}"}'::text[] AS confusing
FROM generate_series(1, 300) n, LATERAL (SELECT CASE WHEN n > 0 THEN pg_temp.float() END AS f) x
