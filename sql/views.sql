-- What there is to look at. Each view's numbers come from the dispatcher, or are NULL while it doesn't run.

CREATE VIEW sequin.stream_stats AS
SELECT s.name AS stream,
       t.messages,
       t.bytes,
       t.first_seq,
       t.last_seq,
       t.last_seq AS published_total,
       t.open_publishers,
       t.oldest_publisher_pid,
       t.oldest_publisher_since
FROM sequin.streams s
LEFT JOIN LATERAL sequin._stream_stats(s.name) t ON true;

CREATE VIEW sequin.consumer_stats AS
SELECT c.name AS consumer,
       c.stream,
       s.ready,
       s.in_flight,
       s.delayed,
       s.withheld,
       s.ack_floor,
       greatest(l.last_seq - s.cursor, 0) AS lag,
       s.redelivered_total,
       s.acked_total,
       s.dead_total,
       sequin._inserted_at(c.stream, s.first_unfinished) AS oldest_unacked_at,
       s.waiting,
       CASE WHEN s.consumer_id IS NULL THEN 'unknown'
            WHEN c.paused THEN 'paused'
            ELSE 'active' END AS status,
       s.last_error
FROM sequin.consumers c
LEFT JOIN sequin._consumer_stats() s ON s.consumer_id = c.id
LEFT JOIN LATERAL sequin._last_seq(c.stream) l(last_seq) ON true;

CREATE VIEW sequin.workers AS
SELECT w.process, w.database, w.pid, w.state, w.since, w.last_error
FROM sequin._workers() w;

-- Changes nothing, but runs the trigger: has the launcher start a dispatcher when CREATE EXTENSION commits.
UPDATE sequin.streams SET name = name WHERE false;
