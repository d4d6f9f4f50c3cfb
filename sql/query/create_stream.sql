CREATE TABLE sequin_stream."%stream%" (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    key text COLLATE "C" NOT NULL,
    data jsonb NOT NULL,
    headers jsonb,
    inserted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT "%stream%_pkey" PRIMARY KEY (seq),
    CONSTRAINT "%stream%_key_check" CHECK (sequin.check_key(key))
)%partitioning%;
