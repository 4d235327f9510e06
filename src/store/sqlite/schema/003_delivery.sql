-- Terminal events on their way to the callback_url of their task: one row per run that ended.
--
-- `status` is the number of enum delivery_status (include/assay/store.h), never renumbered. `due_at` is when the next attempt may
-- begin; while one is under way (locked_by is set) it is when its lease is over. `attempt` counts claims, `attempts` what was recorded.
-- `origin` is that of the URL (src/task/callback.h): the index leads with it, so that a receiver that is slow does not stand before the others.
CREATE TABLE delivery (
	row INTEGER PRIMARY KEY,
	task INTEGER NOT NULL,
	run INTEGER NOT NULL,
	status INTEGER NOT NULL DEFAULT 0,
	attempt INTEGER NOT NULL DEFAULT 0,
	attempts INTEGER NOT NULL DEFAULT 0,
	created_at INTEGER NOT NULL,
	due_at INTEGER NOT NULL,
	locked_by TEXT,
	origin TEXT NOT NULL,
	UNIQUE (task, run)
);
CREATE INDEX delivery_due ON delivery (origin, due_at) WHERE status = 0;

CREATE TABLE delivery_attempt (
	delivery INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	at INTEGER NOT NULL,
	duration INTEGER NOT NULL,
	http_status INTEGER NOT NULL,
	error TEXT,
	PRIMARY KEY (delivery, attempt)
) WITHOUT ROWID;
