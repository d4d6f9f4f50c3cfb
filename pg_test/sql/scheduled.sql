-- Messages that are published later.
SELECT sequin.create_stream('later');
SELECT sequin.schedule('later', 'a', '1', '2999-01-01');
SELECT sequin.schedule('later', 'b', '{"x": null}', '2998-01-01', headers => '{"h": 1}');
SELECT sequin.publish('later', 'c', '3', deliver_at => '2997-01-01');
SELECT sequin.publish('later', 'd', '4', deliver_at => '1999-01-01');
SELECT id, stream, key, data, headers, deliver_at AT TIME ZONE 'UTC', owner::text = current_user AS mine, reason
FROM sequin.scheduled ORDER BY deliver_at;
SELECT seq, key, data FROM sequin_stream.later;
SELECT sequin.unschedule(1), sequin.unschedule(1), sequin.unschedule(0);

-- What is wrong.
SELECT sequin.schedule('later', 'a', '1', NULL);
SELECT sequin.schedule('later', NULL, '1', '2999-01-01');
SELECT sequin.schedule('later', 'a', NULL, '2999-01-01');
SELECT sequin.schedule('later', 'a b', '1', '2999-01-01');
SELECT sequin.schedule('later', 'a', '1', '-infinity');
SELECT sequin.schedule('nowhere', 'a', '1', '2999-01-01');
SELECT sequin.publish('later', 'a', '1', deliver_at => '2999-01-01', dedup_id => 'x');
SELECT sequin.unschedule(NULL);
BEGIN READ ONLY;
SELECT sequin.schedule('later', 'a', '1', '2999-01-01');
ROLLBACK;

-- Who may see and take back what.
CREATE ROLE later_publisher;
CREATE ROLE later_nobody;
SELECT sequin.grant_publish('later', 'later_publisher');
SET ROLE later_publisher;
SELECT sequin.schedule('later', 'e', '5', '2996-01-01') > 0 AS scheduled;
SELECT key FROM sequin.scheduled ORDER BY key;
SELECT sequin.unschedule(2);
SELECT count(*) FROM sequin.schedules;
SET ROLE later_nobody;
SELECT sequin.schedule('later', 'f', '6', '2996-01-01');
SELECT key FROM sequin.scheduled ORDER BY key;
RESET ROLE;
SELECT key FROM sequin.scheduled ORDER BY key;
SELECT sequin.drop_stream('later');
SELECT count(*) FROM sequin.scheduled;
DROP ROLE later_publisher, later_nobody;
