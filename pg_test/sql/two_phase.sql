-- Whoever commits a prepared transaction tells sequin nothing: what sequin has to be told of is refused.
CREATE EXTENSION IF NOT EXISTS sequin;
SELECT sequin.create_stream('two_phase');
SELECT sequin.create_consumer('two_phase', 'two_phase');

-- Publishing, by function and by hand, and a request.
BEGIN; SELECT sequin.publish('two_phase', 'a', '1') > 0; PREPARE TRANSACTION 'p';
BEGIN; INSERT INTO sequin_stream.two_phase (key, data) VALUES ('a', '1'); PREPARE TRANSACTION 'p';
BEGIN; SELECT count(*) FROM sequin.receive('two_phase'); PREPARE TRANSACTION 'p';
BEGIN; SELECT sequin.ack('two_phase', '{1}'); PREPARE TRANSACTION 'p';

-- Each kind of change of the configuration.
BEGIN; SELECT sequin.create_stream('two_phase_2'); PREPARE TRANSACTION 'p';
BEGIN; SELECT sequin.create_consumer('two_phase', 'two_phase_2'); PREPARE TRANSACTION 'p';
BEGIN; SELECT sequin.alter_consumer('two_phase', ack_wait => '1 s'); PREPARE TRANSACTION 'p';
BEGIN; SELECT sequin.pause_consumer('two_phase'); PREPARE TRANSACTION 'p';
BEGIN; SELECT sequin.rewind('two_phase'); PREPARE TRANSACTION 'p';
BEGIN; SELECT sequin.drop_consumer('two_phase'); PREPARE TRANSACTION 'p';
BEGIN; SELECT sequin.drop_stream('two_phase', force => true); PREPARE TRANSACTION 'p';
BEGIN; DROP TABLE sequin_stream.two_phase; PREPARE TRANSACTION 'p';

-- In a savepoint that was rolled back, too: nobody looks for what is left of it.
BEGIN; SAVEPOINT s; SELECT sequin.pause_consumer('two_phase'); ROLLBACK TO s; PREPARE TRANSACTION 'p';

-- All else is as ever.
BEGIN; CREATE TABLE two_phase_other (); SELECT count(*) FROM sequin.streams WHERE name = 'two_phase'; PREPARE TRANSACTION 'p';
COMMIT PREPARED 'p';

SELECT paused FROM sequin.consumers WHERE name = 'two_phase';
SELECT sequin.drop_stream('two_phase', force => true);
DROP TABLE two_phase_other;
