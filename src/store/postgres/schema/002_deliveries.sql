-- Terminal events on their way to the callback_url of their task: one row per run that ended.
--
-- `status` is the number of enum delivery_status (include/assay/store.h), never renumbered. `due_at` is when the next attempt may
-- begin; while one is under way (locked_by is set) it is when its lease is over. `attempt` counts claims, `attempts` what was recorded.
-- `origin` is scheme, host and port of the URL: the index leads with it, so that a receiver that is slow does not stand before the others.
CREATE TABLE assay.deliveries (
	task_id uuid NOT NULL,
	run integer NOT NULL,
	status smallint NOT NULL DEFAULT 0,
	attempt integer NOT NULL DEFAULT 0,
	attempts integer NOT NULL DEFAULT 0,
	created_at timestamptz NOT NULL,
	due_at timestamptz NOT NULL,
	locked_by text COLLATE "C",
	origin text COLLATE "C" NOT NULL,
	PRIMARY KEY (task_id, run)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
CREATE INDEX deliveries_due ON assay.deliveries (origin, due_at) WHERE status = 0;

-- The key leads it out with its delivery, also what a settlement writes while retention deletes.
CREATE TABLE assay.delivery_attempts (
	task_id uuid NOT NULL,
	run integer NOT NULL,
	attempt integer NOT NULL,
	at timestamptz NOT NULL,
	duration bigint NOT NULL,
	http_status smallint NOT NULL,
	error text,
	PRIMARY KEY (task_id, run, attempt),
	FOREIGN KEY (task_id, run) REFERENCES assay.deliveries ON DELETE CASCADE
);
