-- What has changed in the schema since 0.1.0: nothing yet.
\echo Use "ALTER EXTENSION sequin UPDATE" to load this file. \quit
