-- Programs that know only what came before would tell the events of a whole submission as one, and lose the others.
--
-- No row tells how long the pauses between its heartbeats are: an hour at most, and who has missed two is dead. While it lives it holds a session
-- that claims, also where a pooler stands between (which may keep that open for a while after the end). One whose URL gives its sessions another
-- name is known by its heartbeat alone. (The underscore is an a: the schema's name would be put in place of the word.)
DO $older$ DECLARE living text; BEGIN
	SELECT string_agg(incarnation, ', ' ORDER BY incarnation) INTO living FROM assay.replicas
	WHERE dead_at IS NULL AND (heartbeat_at > now() - interval '30 seconds' OR
		(heartbeat_at > now() - interval '2 hours' AND EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND application_name LIKE '_ssay claim')));
	IF living IS NOT NULL THEN
		RAISE EXCEPTION 'replicas of an older version are running: stop them all, and start this one half a minute later, when their sessions (pg_stat_activity) have ended: %', living;
	END IF;
END $older$;

-- The first events of all tasks of a submission are one row, the `queued` event of the first task: `others` are the ids of the others, whose
-- events have the same members, and `size` is how many events that is. Its `id` is that of the last of them: they are numbered from 1
-- on, since nothing else is told in that transaction. (Ids are not worth the attempt to compress them.)
ALTER TABLE assay.events ADD size integer NOT NULL DEFAULT 1, ADD others uuid[];
ALTER TABLE assay.events ALTER others SET STORAGE EXTERNAL;

-- Where the service has no tokens, all tasks are those of the tenant `default`, and its list is the list of all: no index has to
-- be kept for it. (The condition also keeps the planner from looking up an id alone here, as the former one did.)
DROP INDEX assay.tasks_tenant;
CREATE INDEX tasks_tenant ON assay.tasks (tenant, id) WHERE tenant <> 'default';

-- The tasks of a batch, as each of its transactions submitted them; `first` is the least of the ids. An index would have an entry for every
-- version of every row.
CREATE TABLE assay.batches (
	batch_id uuid,
	first uuid,
	ids uuid[] NOT NULL,
	PRIMARY KEY (batch_id, first)
);
ALTER TABLE assay.batches ALTER ids SET STORAGE EXTERNAL;
INSERT INTO assay.batches (batch_id, first, ids)
SELECT batch_id, ids[1], ids FROM (SELECT batch_id, array_agg(id ORDER BY id) AS ids FROM assay.tasks WHERE batch_id IS NOT NULL
	GROUP BY batch_id) b;
DROP INDEX assay.tasks_batch;
DELETE FROM assay.columns WHERE relation = 'tasks' AND name = 'tasks_batch';
