-- Turns of start-time fair queueing that replicas have told with their heartbeats. An empty tenant stands for the virtual time.
-- `teller` is the replica that told the turn last, `change` numbers the heartbeats that told any: a replica that has seen
-- everything up to `replica.turns_seen` is given what others told since.
CREATE TABLE fair_turn (
	executor TEXT NOT NULL,
	priority INTEGER NOT NULL,
	tenant TEXT NOT NULL,
	turn REAL NOT NULL,
	teller INTEGER NOT NULL,
	change INTEGER NOT NULL,
	PRIMARY KEY (executor, priority, tenant)
) WITHOUT ROWID;
CREATE INDEX fair_turn_change ON fair_turn (change);
ALTER TABLE replica ADD COLUMN turns_seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN turns_change INTEGER NOT NULL DEFAULT 1;

-- Turns are kept in fair_turn from now on. What waits keeps its place: time begins at the smallest turn that waits, and each
-- tenant goes on behind its own rows.
ALTER TABLE tenant DROP COLUMN last_turn;
INSERT INTO fair_turn SELECT executor, priority, '', min(turn), 0, 1 FROM task WHERE place = 1 GROUP BY executor, priority;
INSERT OR IGNORE INTO fair_turn SELECT executor, priority, tenant, max(turn), 0, 1 FROM task WHERE place = 1
	GROUP BY executor, priority, tenant;

-- The tenant joins the claim's index, so that rows of tenants that run as many as they may are passed over without a look at them.
DROP INDEX task_due;
CREATE INDEX task_due ON task (executor, priority DESC, turn, id, queue, tenant, place) WHERE place = 1;
