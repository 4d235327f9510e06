-- One row per task. `row` is what the other tables point at; `id` is what the world knows.
--
-- Times are microseconds since the epoch, 0 for none (a zero takes no space in a record). `status` and `reason` are
-- the numbers of enum task_status and enum task_reason (include/assay/task.h), which are therefore never renumbered.
-- `place` says where the row stands in the queue, and so in which partial index:
--   0 ended, 1 waiting and due, 2 waiting and not yet due, 3 running.
-- `settled_by` and `settled_attempt` tell which incarnation ended which attempt last: how a settlement that is handed in
-- again after a lost answer is recognised.
CREATE TABLE task (
	row INTEGER PRIMARY KEY,
	id BLOB NOT NULL,
	status INTEGER NOT NULL,
	place INTEGER NOT NULL,
	run INTEGER NOT NULL DEFAULT 1,
	attempt INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	max_attempts INTEGER NOT NULL,
	run_attempts INTEGER NOT NULL,
	priority INTEGER NOT NULL,
	turn REAL NOT NULL,
	sequence INTEGER NOT NULL,
	tenant TEXT NOT NULL,
	type TEXT NOT NULL,
	queue TEXT NOT NULL,
	executor TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	updated_at INTEGER NOT NULL,
	queued_at INTEGER NOT NULL,
	run_after INTEGER NOT NULL DEFAULT 0,
	locked_at INTEGER NOT NULL DEFAULT 0,
	started_at INTEGER NOT NULL DEFAULT 0,
	finished_at INTEGER NOT NULL DEFAULT 0,
	cancel_requested_at INTEGER NOT NULL DEFAULT 0,
	settled_by INTEGER NOT NULL DEFAULT 0,
	settled_attempt INTEGER NOT NULL DEFAULT 0,
	reason INTEGER NOT NULL DEFAULT 0,
	cause INTEGER NOT NULL DEFAULT 0,
	locked_by TEXT,
	eval_id TEXT,
	idempotency_key TEXT,
	digest BLOB,
	batch_id BLOB,
	node TEXT,
	pod TEXT,
	image TEXT,
	error TEXT,
	result TEXT
);

CREATE UNIQUE INDEX task_id ON task (id);
-- The key comes before the tenant, so that a search over all tenants finds it too.
CREATE UNIQUE INDEX task_eval_id ON task (eval_id, tenant) WHERE eval_id IS NOT NULL;
CREATE UNIQUE INDEX task_idempotency_key ON task (idempotency_key, tenant) WHERE idempotency_key IS NOT NULL;
CREATE INDEX task_batch ON task (batch_id, id) WHERE batch_id IS NOT NULL;
CREATE INDEX task_tenant ON task (tenant, id);
-- The claim's order. `queue` and `place` stand last only so that the index covers the search: a claim of named queues skips
-- the others without a look at their rows.
CREATE INDEX task_due ON task (executor, priority DESC, turn, id, queue, place) WHERE place = 1;
CREATE INDEX task_oldest ON task (queued_at) WHERE place = 1;
CREATE INDEX task_delayed ON task (executor, run_after) WHERE place = 2;
CREATE INDEX task_running ON task (locked_by) WHERE place = 3;
CREATE INDEX task_finished ON task (finished_at) WHERE place = 0;

-- What was submitted and never changes. Apart from the row, so that a transition does not write it again.
CREATE TABLE task_input (
	task INTEGER PRIMARY KEY,
	drift_score REAL NOT NULL,
	description TEXT,
	domain TEXT,
	metadata TEXT,
	callback_url TEXT,
	traceparent TEXT,
	params TEXT
);

-- `position` is the cursor of the stream. The writer numbers it itself; `state.trimmed` keeps it from ever going back.
CREATE TABLE event (
	position INTEGER PRIMARY KEY,
	task INTEGER NOT NULL,
	kind INTEGER NOT NULL,
	sequence INTEGER NOT NULL,
	run INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	at INTEGER NOT NULL,
	publisher INTEGER NOT NULL,
	data TEXT
);
CREATE INDEX event_task ON event (task);

CREATE TABLE output (
	task INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	offset INTEGER NOT NULL,
	stream INTEGER NOT NULL,
	stream_offset INTEGER NOT NULL,
	size INTEGER NOT NULL,
	data BLOB NOT NULL,
	PRIMARY KEY (task, attempt, offset)
) WITHOUT ROWID;

-- One row per incarnation that ever ran here.
CREATE TABLE replica (
	row INTEGER PRIMARY KEY,
	locked_by TEXT NOT NULL UNIQUE,
	address TEXT,
	draining INTEGER NOT NULL DEFAULT 0,
	dead INTEGER NOT NULL DEFAULT 0,
	dead_at INTEGER NOT NULL DEFAULT 0,
	heartbeat_at INTEGER NOT NULL,
	published BLOB
);
CREATE INDEX replica_alive ON replica (heartbeat_at) WHERE dead = 0;

-- How many tasks of each status a tenant has, kept up by every transaction, so that nobody has to count rows.
CREATE TABLE tenant (
	tenant TEXT PRIMARY KEY,
	queued INTEGER NOT NULL,
	running INTEGER NOT NULL,
	completed INTEGER NOT NULL,
	failed INTEGER NOT NULL,
	retry INTEGER NOT NULL,
	cancelled INTEGER NOT NULL,
	last_turn REAL NOT NULL
) WITHOUT ROWID;

-- One row. `trimmed` is the highest event position that retention has deleted; `probe` is written to learn whether the
-- disk takes writes again.
CREATE TABLE state (
	row INTEGER PRIMARY KEY CHECK (row = 1),
	trimmed INTEGER NOT NULL,
	probe BLOB
);
INSERT INTO state (row, trimmed) VALUES (1, 0);

-- For people with the sqlite3 shell: the columns under the names and in the words of the API.
CREATE VIEW tasks AS
SELECT
	lower(substr(hex(t.id), 1, 8) || '-' || substr(hex(t.id), 9, 4) || '-' || substr(hex(t.id), 13, 4) || '-' ||
		substr(hex(t.id), 17, 4) || '-' || substr(hex(t.id), 21, 12)) AS id,
	CASE t.status WHEN 0 THEN 'QUEUED' WHEN 1 THEN 'RUNNING' WHEN 2 THEN 'COMPLETED' WHEN 3 THEN 'FAILED'
		WHEN 4 THEN 'RETRY' ELSE 'CANCELLED' END AS status,
	t.attempts, t.locked_by,
	CASE WHEN t.locked_at > 0 THEN strftime('%Y-%m-%dT%H:%M:%fZ', t.locked_at / 1e6, 'unixepoch') END AS locked_at,
	CASE WHEN t.run_after > 0 THEN strftime('%Y-%m-%dT%H:%M:%fZ', t.run_after / 1e6, 'unixepoch') END AS run_after,
	t.type, i.description, i.domain, i.drift_score, i.params, t.result, t.error,
	strftime('%Y-%m-%dT%H:%M:%fZ', t.created_at / 1e6, 'unixepoch') AS created_at,
	strftime('%Y-%m-%dT%H:%M:%fZ', t.updated_at / 1e6, 'unixepoch') AS updated_at,
	t.run, t.attempt, t.max_attempts, t.priority, t.turn, t.tenant, t.queue, t.executor, t.eval_id,
	t.idempotency_key, lower(hex(t.batch_id)) AS batch_id, t.sequence
FROM task t LEFT JOIN task_input i ON i.task = t.row;
