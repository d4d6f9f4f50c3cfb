-- What `make run` shows. Reads messages, one JSON object {"key", "data"} a line, from standard input.
\set QUIET on
\pset border 1
\pset footer off
\pset null ''
set client_min_messages = warning;

create temporary table sample (line jsonb);
\copy sample from pstdin with (format csv, quote e'\x01', delimiter e'\x02')

create extension sequin;

\echo
\echo 'A stream, and two consumers of it: one takes every message, one only those of issues.'
\echo
\set ECHO queries
select sequin.create_stream('github');
select sequin.create_consumer('github', 'audit');
select sequin.create_consumer('github', 'triage', filters => '{github.*.*.issues.>}', ack_wait => '10 s');
select count(*) as published
  from sequin.publish_many('github', array(select line->>'key' from sample), array(select line->'data' from sample));
\set ECHO none

\echo
\echo 'A worker of triage receives three messages. It has 10 seconds to acknowledge them.'
\echo
\set ECHO queries
select ack_id, seq, key, deliver_count, data->'issue'->>'title' as title
  from sequin.receive('triage', batch_size => 3, wait => '5 s');
\set ECHO none
select array_agg(ack_id order by seq) as got, (array_agg(ack_id order by seq))[1:2] as done,
       (array_agg(ack_id order by seq))[3:3] as failed
  from sequin.in_flight('triage') \gset

\echo
\echo 'It finishes two, and gives the third back: that one is delivered again, in its place.'
\echo
\set ECHO queries
select sequin.ack('triage', :'done') as acked, sequin.nack('triage', :'failed') as given_back;
select ack_id, seq, key, deliver_count from sequin.receive('triage', wait => '5 s');
\set ECHO none

-- A worker as an application would write it: receive, work, ack, commit; until nothing has come for half a second.
create temporary table processed (worker text, seq bigint, key text);
create procedure pg_temp.work(worker text) language plpgsql as $$
declare
    ack_ids bigint[];
begin
    loop
        with received as (select * from sequin.receive(worker, batch_size => 50, wait => '500 ms')),
             work as (insert into processed select worker, seq, key from received)
        select array_agg(ack_id) into ack_ids from received;
        exit when ack_ids is null;
        perform sequin.ack(worker, ack_ids);
        commit;
    end loop;
end $$;
select sequin.ack('triage', array(select ack_id from sequin.in_flight('triage'))) as _ \gset
call pg_temp.work('audit');
call pg_temp.work('triage');

\echo
\echo 'Both consumers work through the rest: each message received, handled and acknowledged in one transaction.'
\echo
select coalesce(substring(key from '^[^.]+[.][^.]+[.][^.]+[.]([^.]+)'), key) as event,
       count(*) filter (where worker = 'audit') as audit, count(*) filter (where worker = 'triage') as triage
  from processed group by event order by audit desc, event limit 12;
\echo
\echo 'Nothing is left over:'
\echo
select consumer, ready, in_flight, acked_total, redelivered_total from sequin.consumer_stats order by consumer;
