-- The types of the columns below that are the database's own.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'a "b", \c');
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE DOMAIN price AS numeric(12, 4);
CREATE DOMAIN tags AS text[];
CREATE DOMAIN document AS jsonb CHECK (value <> '0');
CREATE TYPE inner_type AS (a int, "b c" text, list numeric[], at timestamptz);
CREATE TYPE outer_type AS (i inner_type, list inner_type[], d document, m mood);
CREATE DOMAIN inner_domain AS inner_type;
CREATE TYPE float_range AS RANGE (subtype = float8);

-- A base type: its text is its value.
CREATE TYPE custom;
CREATE FUNCTION custom_in(cstring) RETURNS custom LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION custom_out(custom) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE custom (INPUT = custom_in, OUTPUT = custom_out, INTERNALLENGTH = VARIABLE);

-- One that has a cast to json, which to_jsonb uses.
CREATE TYPE castable;
CREATE FUNCTION castable_in(cstring) RETURNS castable LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION castable_out(castable) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE castable (INPUT = castable_in, OUTPUT = castable_out, INTERNALLENGTH = VARIABLE);
CREATE FUNCTION to_json(castable) RETURNS json LANGUAGE sql IMMUTABLE STRICT
    AS $$ SELECT json_build_object('castable', $1::text) $$;
CREATE CAST (castable AS json) WITH FUNCTION to_json(castable);

-- Up to 20 characters of all kinds.
CREATE FUNCTION random_text(int) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(chr(CASE floor(random() * 6)
        WHEN 0 THEN 1 + floor(random() * 31)
        WHEN 1 THEN 32 + floor(random() * 95)
        WHEN 2 THEN 128 + floor(random() * 1920)
        WHEN 3 THEN 8192 + floor(random() * 40000)
        WHEN 4 THEN 65536 + floor(random() * 1000000)
        ELSE ascii(substr('"''\{},%*.> ()[]', 1 + floor(random() * 15)::int, 1)) END::int), '')
    FROM generate_series(1, (random() * 20)::int) WHERE $1 IS NOT NULL
$$;
