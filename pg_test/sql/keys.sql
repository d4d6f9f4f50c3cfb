-- Filters are keys in which a whole token may be *, and the last may be >.
SELECT key, filter, sequin.key_matches(key, filter)
FROM unnest(ARRAY['a', 'a.b', 'a.b.c', 'é.b']) key,
     unnest(ARRAY['>', 'a', '*', 'a.*', 'a.>', '*.b', '*.*', 'a.b.>', '*.b.*', 'a.*.>', 'é.*']) filter
ORDER BY key COLLATE "C", filter COLLATE "C";

-- Every consumer gets what its filters match, once, however many of them match.
SELECT sequin.create_stream('routed');
SELECT sequin.create_consumer('routed', 'everything');
SELECT sequin.create_consumer('routed', 'exact', filters => '{orders.1.paid}');
SELECT sequin.create_consumer('routed', 'one_token', filters => '{orders.*.paid, orders.1.*}');
SELECT sequin.create_consumer('routed', 'the_rest', filters => '{orders.1.>, users.>}');
SELECT count(*) FROM sequin.publish_many('routed',
    '{orders.1.paid, orders.1.sent, orders.2.paid, orders.1, orders.1.paid.twice, users.7, other, ORDERS.1.paid}',
    array_fill('{}'::jsonb, ARRAY[8]));
SELECT consumer, key
FROM unnest(ARRAY['everything', 'exact', 'one_token', 'the_rest']) consumer,
     LATERAL (SELECT seq, key FROM sequin.receive(consumer, 100, wait => '10 s')) received
ORDER BY consumer, seq;

-- The longest key and the most tokens there may be; any character but . * > white space and control characters.
SELECT length(key), sequin.publish('routed', key, '1') > 0 AS published
FROM (VALUES (repeat('x', 255)), ('1.2.3.4.5.6.7.8.9.10.11.12.13.14.15.16'), ('naïve-café_№1:/@#$%&"''\'), ('日本.東京')) keys (key);

-- The messages of a key, by the key index.
SELECT key, data FROM sequin.messages('routed', 'orders.1.*');
SELECT key FROM sequin.messages('routed', 'orders.>', max_messages => 2);
SELECT key FROM sequin.messages('routed', after_seq => (SELECT max(seq) - 2 FROM sequin_stream.routed));

SELECT sequin.drop_stream('routed', force => true);
