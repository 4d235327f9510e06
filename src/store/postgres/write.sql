-- Statements that write. `-- define:` names a piece that others use as $name; `-- name:` begins a statement. The schema's name stands
-- for whatever it is called.

-- define: task_columns
t.id, t.status, t.run, t.attempt, t.attempts, t.max_attempts, t.priority, t.turn, t.sequence, t.tenant, t.type, t.queue,
t.executor, t.created_at, t.updated_at, t.queued_at, t.run_after, t.locked_at, t.started_at, t.finished_at,
t.cancel_requested_at, t.reason, t.cause, t.locked_by, t.eval_id, t.idempotency_key, t.batch_id, t.node, t.pod, t.image,
t.error, t.result, t.drift_score, t.description, t.domain, t.metadata, t.callback_url, t.traceparent

-- define: horizon
pg_snapshot_xmin(pg_current_snapshot())

-- Whoever writes events holds this lock on their table before it has a transaction id: statements that come before the
-- one that writes them in a transaction take it too. (LOCK TABLE is refused outside of BEGIN … COMMIT.)
-- define: events_lock
events_lock AS (
	UPDATE assay.events SET kind = kind WHERE false
)

-- The transactions under way as the statement's snapshot has them (`open`), but for the strange ones: those that will
-- never write an event, in other databases or with work of another kind, may last for hours. That one is strange is
-- proven when it has no such lock and is still under way after the look at the locks: then it has released none. Of one
-- that is not found, perhaps because it has ended since, nothing is known. pg_locks is looked at only where the oldest
-- transaction is old: the first condition is one for the whole scan. The order is kept by MATERIALIZED: snapshot,
-- locks, pg_xact_status().
-- define: writers
under_way AS MATERIALIZED (
	SELECT x.xid FROM pg_snapshot_xip(pg_current_snapshot()) x (xid)
), locks AS MATERIALIZED (
	SELECT l.virtualtransaction, l.transactionid, l.locktype = 'relation' AS writes FROM pg_locks l
	WHERE pg_snapshot_xmax(pg_current_snapshot())::text::bigint -
		pg_snapshot_xmin(pg_current_snapshot())::text::bigint > 16 AND l.granted AND
		((l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock') OR
			(l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND
				l.relation = 'assay.events'::regclass AND
				l.database = (SELECT oid FROM pg_database WHERE datname = current_database())))
), strange AS MATERIALIZED (
	SELECT u.xid FROM under_way u, locks l
	WHERE NOT l.writes AND l.transactionid = u.xid::xid AND NOT EXISTS (
		SELECT FROM locks w WHERE w.writes AND w.virtualtransaction = l.virtualtransaction)
), open AS MATERIALIZED (
	SELECT u.xid FROM under_way u
	WHERE NOT EXISTS (SELECT FROM strange s WHERE s.xid = u.xid AND pg_xact_status(s.xid) = 'in progress')
)

-- Every event before it can be seen.
-- define: safe
coalesce((SELECT xid FROM open ORDER BY xid LIMIT 1), pg_snapshot_xmax(pg_current_snapshot()))

-- The planner must not be led astray by statistics that are older than the last bulk load, nor by a plan that it made and kept when the
-- tables were empty: an index is there for everything that is asked here. The switches hold until the end of the transaction, so
-- that a pooler may stand between. (JIT would be set off by the costs that "off" adds.) What the switches do not say is said by
-- the form of the statements: ORDER BY what only the right index has; LATERAL with a LIMIT, which is looked up row by row; and
-- `= ANY (ARRAY[x])` where `= x` would let a walk along the whole index pass for the outer side of a join.
-- name: planner
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
	set_config('enable_sort', 'off', true), set_config('enable_hashjoin', 'off', true),
	set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true),
	set_config('plan_cache_mode', 'force_generic_plan', true)

-- A read that takes longer is stopped before the connection would be given up for its silence.
-- name: reader
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
	set_config('enable_sort', 'off', true), set_config('enable_hashjoin', 'off', true),
	set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true),
	set_config('plan_cache_mode', 'force_generic_plan', true), set_config('statement_timeout', '8s', true)

-- All that it will write comes behind what is under way now: so much it has published from its beginning on.
-- name: register
WITH $events_lock
INSERT INTO assay.replicas (incarnation, published)
VALUES ($1::text, int8send($horizon::text::bigint) || decode(repeat('00', 11), 'hex')) ON CONFLICT DO NOTHING

-- Is the incarnation that is $1 there, and not dead? Whose row is gone or marked dead gets nothing more: nobody would ever take it up.
-- define: alive_first
EXISTS (SELECT FROM assay.replicas WHERE incarnation = $1::text AND dead_at IS NULL)

-- define: submit_rows
	INSERT INTO assay.tasks (id, status, place, attempt, locked_by, locked_at, tenant, type, queue, executor, eval_id,
		idempotency_key, digest, priority, max_attempts, run_attempts, turn, run_after, batch_id, description, domain,
		drift_score, params, metadata, callback_url, traceparent, image, sequence)
	SELECT i.id, CASE WHEN i.born THEN 'RUNNING' ELSE 'QUEUED' END,
		CASE WHEN i.born THEN 3 WHEN i.run_after > now() THEN 2 ELSE 1 END, i.born::integer,
		CASE WHEN i.born THEN $1::text END, CASE WHEN i.born THEN now() END, i.tenant, i.type, i.queue, i.executor,
		i.eval_id, i.idempotency_key, i.digest, i.priority, i.max_attempts, i.max_attempts, i.turn, i.run_after,
		i.batch_id, i.description, i.domain, i.drift_score, coalesce(i.params, '{}'), i.metadata, i.callback_url,
		i.traceparent, i.image, 1
	FROM (SELECT w.*, w.wanted AND $alive_first AS born FROM (
		SELECT
		unnest($3::uuid[]) AS id, unnest($4::boolean[]) AS wanted, unnest($5::text[]) AS tenant, unnest($6::text[]) AS type,
		unnest($7::text[]) AS queue, unnest($8::text[]) AS executor, unnest($9::text[]) AS eval_id,
		unnest($10::text[]) AS idempotency_key, unnest($11::bytea[]) AS digest, unnest($12::smallint[]) AS priority,
		unnest($13::integer[]) AS max_attempts, unnest($14::double precision[]) AS turn,
		unnest($15::timestamptz[]) AS run_after, unnest($16::uuid[]) AS batch_id, unnest($17::text[]) AS description,
		unnest($18::text[]) AS domain, unnest($19::double precision[]) AS drift_score, unnest($20::jsonb[]) AS params,
		unnest($21::json[]) AS metadata, unnest($22::text[]) AS callback_url, unnest($23::text[]) AS traceparent,
		unnest($24::text[]) AS image
	) w) i

-- define: submit_told
	RETURNING id, attempt, tenant, batch_id
), told AS (
	INSERT INTO assay.events (id, size, task_id, others, kind, sequence, run, attempt, at, publisher)
	SELECT cardinality(ids), cardinality(ids), ids[1], CASE WHEN cardinality(ids) > 1 THEN ids[2:] END, 0, 1, 1, 0, now(),
		$2::bigint
	FROM (SELECT array_agg(id) AS ids FROM added) a WHERE ids IS NOT NULL
), counted AS (
	INSERT INTO assay.tenant_counts (tenant, queued, running)
	SELECT tenant, count(*) - sum(attempt), sum(attempt) FROM added GROUP BY tenant
), batched AS (
	INSERT INTO assay.batches (batch_id, first, ids)
	SELECT batch_id, ids[1], ids FROM (
		SELECT batch_id, array_agg(id ORDER BY id) AS ids FROM added WHERE batch_id IS NOT NULL GROUP BY batch_id) b
	ON CONFLICT DO NOTHING
)
SELECT id, now(), (SELECT $horizon), attempt FROM added

-- The rows come in the order of their keys, so that two replicas with the same ones wait for each other and do not deadlock.
-- name: submit
WITH added AS (
	$submit_rows
	ON CONFLICT DO NOTHING
	$submit_told

-- Where nothing should stand in the way: rows without keys. What this does not have to look for is a sixth of the work.
-- name: submit_new
WITH added AS (
	$submit_rows
	$submit_told

-- What stands in the way of those that did not go in: by id, by eval_id, by idempotency key.
-- name: submit_found
SELECT i.number, f.*
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
	AS i (id, tenant, eval_id, idempotency_key, number),
LATERAL (
	(SELECT 0::smallint AS way, id, status, created_at, digest, attempt FROM assay.tasks WHERE id = i.id LIMIT 1)
	UNION ALL
	(SELECT 1::smallint, id, status, created_at, digest, attempt FROM assay.tasks
		WHERE eval_id = i.eval_id AND tenant = i.tenant LIMIT 1)
	UNION ALL
	(SELECT 2::smallint, id, status, created_at, digest, attempt FROM assay.tasks
		WHERE idempotency_key = i.idempotency_key AND tenant = i.tenant LIMIT 1)
) f

-- name: horizon
SELECT $horizon

-- name: promote
UPDATE assay.tasks SET place = 1, updated_at = now()
WHERE id = ANY (ARRAY(
	SELECT p.id FROM unnest($1::text[]) AS l (executor),
	LATERAL (SELECT id FROM assay.tasks WHERE place = 2 AND executor = l.executor AND run_after <= now()
		ORDER BY run_after LIMIT $2::bigint FOR UPDATE SKIP LOCKED) p))
RETURNING executor, priority, turn

-- Each lane brings ten marks, of priority 9 down to 0: nothing to claim stands before them. The search of a priority begins only when
-- those above it gave too little.
-- define: lanes
unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS l (executor, slots, number)

-- define: marks_of_lane
unnest(($3::double precision[])[(l.number - 1) * 10 + 1:l.number * 10]) WITH ORDINALITY AS m (turn, number)

-- define: claimable
c.place = 1 AND c.executor = l.executor AND c.priority = 10 - m.number AND c.turn >= m.turn

-- define: claim_body
UPDATE assay.tasks t SET status = 'RUNNING', place = 3, attempt = t.attempt + 1, locked_by = $6::text, locked_at = now(),
	updated_at = now(), started_at = NULL, reason = 0, cause = 0, error = NULL, node = NULL, pod = NULL
WHERE t.id = ANY (ARRAY(SELECT id FROM picked))
RETURNING $task_columns, t.params

-- define: alive_sixth
EXISTS (SELECT FROM assay.replicas WHERE incarnation = $6::text AND dead_at IS NULL)

-- What one answer may hold of params, in bytes, and one task more. Small ones are not taken out of their row to be measured.
-- define: answer_size
67108864

-- define: params_size
CASE WHEN pg_column_size(c.params) < 300 THEN 300 ELSE octet_length(c.params::text) END

-- Named queues alone, and past those tenants that run as many as they may.
-- define: filters
($4::text[] IS NULL OR c.queue = ANY ($4::text[])) AND ($5::text[] IS NULL OR c.tenant <> ALL ($5::text[]))

-- name: claim
WITH picked AS MATERIALIZED (
	SELECT id, tenant, before FROM (
		SELECT r.*, sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS sizes FROM $lanes,
		LATERAL (
			SELECT q.* FROM $marks_of_lane,
			LATERAL (SELECT c.id, c.tenant, c.status AS before, $params_size AS size FROM assay.tasks c
				WHERE $claimable AND $filters AND $alive_sixth
				ORDER BY c.turn, c.id LIMIT l.slots FOR UPDATE SKIP LOCKED) q
			LIMIT l.slots) r
	) s WHERE sizes < $answer_size
), counted AS (
	INSERT INTO assay.tenant_counts (tenant, queued, retry, running)
	SELECT tenant, -count(*) FILTER (WHERE before = 'QUEUED'), -count(*) FILTER (WHERE before = 'RETRY'), count(*)
	FROM picked GROUP BY tenant
)
$claim_body

-- Where the queues end. Asked before a claim that passes over rows: where that leaves nothing, all up to here is passed over.
-- name: claim_last
SELECT l.number, 10 - m.number, c.turn FROM $lanes, $marks_of_lane,
LATERAL (SELECT turn FROM assay.tasks WHERE place = 1 AND executor = l.executor AND priority = 10 - m.number AND turn >= m.turn
	ORDER BY turn DESC, id DESC LIMIT 1) c

-- What is left, when it will come due, and where the turns begin.
-- name: claim_left
SELECT l.number, $alive_sixth AND EXISTS (SELECT FROM $marks_of_lane, LATERAL (
		SELECT FROM assay.tasks c WHERE $claimable AND $filters ORDER BY c.turn, c.id LIMIT 1) q),
	(SELECT run_after FROM assay.tasks WHERE place = 2 AND executor = l.executor ORDER BY run_after LIMIT 1)
FROM $lanes

-- What tells receivers of webhooks apart, as callback_origin() has it.
-- define: origin
coalesce(lower(substring(callback_url FROM '^[A-Za-z]+://[^/?#]*')), callback_url)

-- The events of a task that its row `e` stands for: where it began by the same settlement that told what came of it, two.
-- define: both_events
LATERAL (
	SELECT e.kind, e.sequence, e.at, e.data, e.id
	UNION ALL
	SELECT 1::smallint, e.sequence - 1, e.began, e.began_data, e.id - 1 WHERE e.began IS NOT NULL) m

-- Before a settlement with steps: the next statement of the transaction sees what another, which had the rows, has written meanwhile.
-- name: settle_lock
WITH $events_lock
SELECT FROM unnest($1::uuid[]) AS i (id), LATERAL (SELECT FROM assay.tasks WHERE id = i.id FOR NO KEY UPDATE) t

-- define: settle_input
unnest($1::uuid[]) AS id, unnest($2::integer[]) AS attempt, unnest($3::text[]) AS locked_by,
unnest($4::timestamptz[]) AS starts, unnest($5::json[]) AS start_data, unnest($6::text[]) AS wanted,
unnest($7::boolean[]) AS faulty, unnest($8::integer[]) AS charge, unnest($9::bigint[]) AS delay,
unnest($10::smallint[]) AS kind, unnest($11::timestamptz[]) AS at, unnest($12::json[]) AS data,
unnest($13::smallint[]) AS reason, unnest($14::smallint[]) AS cause, unnest($15::text[]) AS error,
unnest($16::jsonb[]) AS result, unnest($17::text[]) AS node, unnest($18::text[]) AS pod,
unnest($19::text[]) AS image, unnest($20::bigint[]) AS publisher

-- What a settlement writes whether or not a cancel was requested; of t and of i, whose `target` is the status it comes to.
-- define: settle_set
status = i.target,
place = CASE WHEN i.target = 'RUNNING' THEN 3 WHEN i.target IN ('QUEUED', 'RETRY') THEN CASE WHEN i.delay > 0 THEN 2 ELSE 1 END ELSE 0 END,
updated_at = now(),
started_at = CASE WHEN i.target <> 'QUEUED' THEN coalesce(t.started_at, i.starts) END,
finished_at = CASE WHEN i.target IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN i.at END,
run_after = CASE WHEN i.target = 'RUNNING' THEN t.run_after
	WHEN i.target IN ('QUEUED', 'RETRY') AND i.delay > 0 THEN now() + i.delay * interval '1 microsecond' END,
settled_by = CASE WHEN i.target = 'RUNNING' THEN t.settled_by ELSE i.publisher END,
settled_attempt = CASE WHEN i.target = 'RUNNING' THEN t.settled_attempt ELSE i.attempt END,
locked_by = CASE WHEN i.target = 'RUNNING' THEN t.locked_by END,
node = coalesce(i.node, t.node), pod = coalesce(i.pod, t.pod), image = coalesce(i.image, t.image),
error = i.error

-- Each row of the input is all that befalls one task: it may start, make steps, and leave RUNNING. Where a cancel was requested and the
-- end is not the code's own (`faulty`), it ends as CANCELLED.
-- name: settle
WITH held AS MATERIALIZED (
	SELECT i.*, t.tenant, t.run, t.eval_id, t.batch_id, t.callback_url, t.charged_before, t.sequence AS before, t.run_after AS due,
		t.started_before, i.starts IS NOT NULL AND t.started_before IS NULL AS begins,
		i.faulty AND t.cancel_requested_at IS NOT NULL AS cancelled
	FROM (
		SELECT $settle_input,
		unnest($21::jsonb[]) AS cancelled_result, unnest($22::json[]) AS cancelled_data
	) i,
	LATERAL (
		SELECT tenant, run, eval_id, batch_id, callback_url, attempts AS charged_before, sequence, run_after,
			started_at AS started_before, cancel_requested_at
		FROM assay.tasks
		WHERE id = i.id AND status = 'RUNNING' AND attempt = i.attempt AND locked_by = i.locked_by
		FOR NO KEY UPDATE) t
), stepped AS MATERIALIZED (
	SELECT s.id, s.kind, s.at, s.data, h.before + h.begins::integer + row_number() OVER (PARTITION BY s.id ORDER BY s.number)
		AS sequence, h.run, h.attempt, h.publisher
	FROM unnest($23::uuid[], $24::smallint[], $25::timestamptz[], $26::json[]) WITH ORDINALITY
		AS s (id, kind, at, data, number)
	JOIN held h ON h.id = s.id
	WHERE NOT EXISTS (
		SELECT FROM assay.events e WHERE e.task_id = s.id AND e.sequence > h.before - $27::integer AND
			e.attempt = h.attempt AND e.kind = s.kind AND e.at = s.at AND
			e.data::text IS NOT DISTINCT FROM s.data::text OFFSET 0)
), numbered AS MATERIALIZED (
	SELECT h.*, h.before + h.begins::integer + coalesce(s.steps, 0) AS base,
		CASE WHEN h.cancelled THEN 'CANCELLED' ELSE h.wanted END AS target,
		CASE WHEN h.cancelled THEN 7::smallint ELSE h.kind END AS told
	FROM held h LEFT JOIN (SELECT id, count(*)::integer AS steps FROM stepped GROUP BY id) s ON s.id = h.id
), changed AS (
	UPDATE assay.tasks t SET
		$settle_set,
		attempts = t.attempts + CASE WHEN i.cancelled THEN 0 ELSE i.charge END,
		sequence = i.base + (i.told IS NOT NULL)::integer,
		reason = CASE WHEN i.cancelled THEN 19 ELSE i.reason END,
		cause = CASE WHEN i.cancelled THEN 0 ELSE i.cause END,
		result = CASE WHEN i.cancelled THEN i.cancelled_result ELSE i.result END
	FROM numbered i WHERE t.id = ANY (ARRAY[i.id])
	RETURNING t.id, t.status, t.attempts, t.sequence, t.run_after, i.before, i.begins, i.cancelled, t.run, t.tenant,
		t.eval_id, t.batch_id, t.executor, t.priority, t.turn, i.callback_url IS NOT NULL
), delivered AS (
	INSERT INTO assay.deliveries (task_id, run, created_at, due_at, origin)
	SELECT id, run, now(), now(), $origin FROM numbered
	WHERE callback_url IS NOT NULL AND target IN ('COMPLETED', 'FAILED', 'CANCELLED')
), told AS (
	INSERT INTO assay.events (task_id, kind, sequence, run, attempt, at, data, publisher)
	SELECT id, 1, before + 1, run, attempt, starts, start_data, publisher FROM numbered WHERE begins
	UNION ALL
	SELECT id, kind, sequence, run, attempt, at, data, publisher FROM stepped
	UNION ALL
	SELECT id, told, base + 1, run, attempt, at, CASE WHEN cancelled THEN cancelled_data ELSE data END, publisher
	FROM numbered WHERE told IS NOT NULL
), counted AS (
	INSERT INTO assay.tenant_counts (tenant, running, queued, retry, completed, failed, cancelled)
	SELECT tenant, -count(*), count(*) FILTER (WHERE target = 'QUEUED'), count(*) FILTER (WHERE target = 'RETRY'),
		count(*) FILTER (WHERE target = 'COMPLETED'), count(*) FILTER (WHERE target = 'FAILED'),
		count(*) FILTER (WHERE target = 'CANCELLED')
	FROM numbered WHERE target <> 'RUNNING' GROUP BY tenant
)
SELECT *, (SELECT $horizon) FROM changed

-- The same for rows that make no step, have not been told to have started, and are not to end as CANCELLED instead: all, as a rule. The others
-- are passed over, and left for `settle`. A start and what follows it are one row of events; nothing else is told in the transaction, so they
-- are numbered here. A row that another transaction changes meanwhile is looked at again as that has left it.
-- name: settle_plain
WITH changed AS (
	UPDATE assay.tasks t SET
		$settle_set,
		attempts = t.attempts + i.charge,
		sequence = t.sequence + (i.starts IS NOT NULL)::integer + (i.kind IS NOT NULL)::integer,
		reason = i.reason,
		cause = i.cause,
		result = i.result
	FROM (SELECT *, wanted AS target FROM (
		SELECT $settle_input,
		generate_series(2, 2 * cardinality($1::uuid[]), 2) AS event_id
	) i) i
	WHERE t.id = ANY (ARRAY[i.id]) AND t.status = 'RUNNING' AND t.attempt = i.attempt AND t.locked_by = i.locked_by AND
		(i.starts IS NULL OR t.started_at IS NULL) AND (NOT i.faulty OR t.cancel_requested_at IS NULL)
	RETURNING t.id, t.status, t.attempts, t.sequence, t.run_after, t.run, t.tenant, t.eval_id, t.batch_id, t.executor, t.priority,
		t.turn, t.callback_url, i.attempt, i.starts, i.start_data, i.kind, i.at, i.data, i.publisher, i.event_id,
		t.sequence - (i.starts IS NOT NULL)::integer - (i.kind IS NOT NULL)::integer AS before
), delivered AS (
	INSERT INTO assay.deliveries (task_id, run, created_at, due_at, origin)
	SELECT id, run, now(), now(), $origin FROM changed
	WHERE callback_url IS NOT NULL AND status IN ('COMPLETED', 'FAILED', 'CANCELLED')
), told AS (
	INSERT INTO assay.events (id, size, task_id, kind, sequence, run, attempt, at, data, began, began_data, publisher)
	SELECT event_id, CASE WHEN kind IS NOT NULL AND starts IS NOT NULL THEN 2 ELSE 1 END, id, coalesce(kind, 1), sequence, run, attempt,
		CASE WHEN kind IS NULL THEN starts ELSE at END, CASE WHEN kind IS NULL THEN start_data ELSE data END,
		CASE WHEN kind IS NOT NULL THEN starts END, CASE WHEN kind IS NOT NULL THEN start_data END, publisher
	FROM changed WHERE kind IS NOT NULL OR starts IS NOT NULL
), counted AS (
	INSERT INTO assay.tenant_counts (tenant, running, queued, retry, completed, failed, cancelled)
	SELECT tenant, -count(*), count(*) FILTER (WHERE status = 'QUEUED'), count(*) FILTER (WHERE status = 'RETRY'),
		count(*) FILTER (WHERE status = 'COMPLETED'), count(*) FILTER (WHERE status = 'FAILED'),
		count(*) FILTER (WHERE status = 'CANCELLED')
	FROM changed WHERE status <> 'RUNNING' GROUP BY tenant
)
SELECT id, status, attempts, sequence, run_after, before, starts IS NOT NULL, false, run, tenant, eval_id, batch_id, executor, priority,
	turn, callback_url IS NOT NULL, (SELECT $horizon)
FROM changed

-- Not of who has lost the row meanwhile: another has taken it up, and writes the same from where on it found it to end.
-- name: settle_output
INSERT INTO assay.output (task_id, attempt, "offset", stream, stream_offset, data)
SELECT i.* FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::smallint[], $5::bigint[], $6::bytea[])
	AS i (task_id, attempt, "offset", stream, stream_offset, data),
LATERAL (SELECT FROM assay.tasks WHERE id = i.task_id AND
	($7::text IS NULL OR attempt <> i.attempt OR locked_by = $7::text OR (locked_by IS NULL AND settled_by = $8::bigint)) LIMIT 1) t
ON CONFLICT DO NOTHING

-- Of those whose guard did not hold, or that said what had been said: what became of them, and the events of that attempt.
-- name: settle_rows
SELECT t.id, t.status, t.run, t.attempt, t.attempts, t.sequence, t.run_after, t.settled_by, t.settled_attempt, t.tenant,
	t.eval_id, t.batch_id, t.locked_by, t.callback_url IS NOT NULL, t.place, t.executor, t.priority, t.turn
FROM unnest($1::uuid[]) AS i (id), LATERAL (SELECT * FROM assay.tasks WHERE id = i.id LIMIT 1) t

-- name: settle_events
SELECT e.task_id, m.kind, m.sequence, e.run, e.attempt, m.at, m.data, e.xid, m.id, e.publisher, $horizon
FROM unnest($1::uuid[], $2::integer[]) AS i (id, attempt),
LATERAL (SELECT * FROM assay.events WHERE task_id = i.id AND attempt = i.attempt ORDER BY sequence OFFSET 0) e,
$both_events
ORDER BY e.task_id, m.sequence

-- name: cancel
WITH found AS MATERIALIZED (
	SELECT t.id, t.status, t.run, t.attempt, t.sequence, t.tenant, t.locked_by, t.executor, t.eval_id, t.batch_id, t.place,
		t.cancel_requested_at, t.callback_url
	FROM assay.tasks t
	WHERE t.id = ANY ($1::uuid[]) AND ($2::text IS NULL OR t.tenant = $2::text)
	ORDER BY t.id FOR NO KEY UPDATE
), changed AS (
	UPDATE assay.tasks t SET
		status = CASE WHEN f.place = 3 THEN t.status ELSE 'CANCELLED' END,
		place = CASE WHEN f.place = 3 THEN 3 ELSE 0 END,
		sequence = t.sequence + (f.place <> 3)::integer,
		finished_at = CASE WHEN f.place = 3 THEN t.finished_at ELSE $3::timestamptz END,
		reason = CASE WHEN f.place = 3 THEN t.reason ELSE 19 END,
		cause = CASE WHEN f.place = 3 THEN t.cause ELSE 0 END,
		error = CASE WHEN f.place = 3 THEN t.error END,
		result = CASE WHEN f.place = 3 THEN t.result END,
		cancel_requested_at = $3::timestamptz,
		updated_at = now()
	FROM found f
	WHERE t.id = ANY (ARRAY[f.id]) AND (f.place IN (1, 2) OR (f.place = 3 AND f.cancel_requested_at IS NULL))
	RETURNING t.id, t.sequence, f.status AS before
), delivered AS (
	INSERT INTO assay.deliveries (task_id, run, created_at, due_at, origin)
	SELECT f.id, f.run, now(), now(), $origin FROM found f WHERE f.place IN (1, 2) AND f.callback_url IS NOT NULL
), told AS (
	INSERT INTO assay.events (task_id, kind, sequence, run, attempt, at, data, publisher)
	SELECT f.id, 7, f.sequence + 1, f.run, f.attempt, $3::timestamptz, $4::json, $5::bigint FROM found f
	WHERE f.place IN (1, 2)
), counted AS (
	INSERT INTO assay.tenant_counts (tenant, queued, retry, cancelled)
	SELECT tenant, -count(*) FILTER (WHERE status = 'QUEUED'), -count(*) FILTER (WHERE status = 'RETRY'), count(*)
	FROM found WHERE place IN (1, 2) GROUP BY tenant
)
SELECT f.*, $horizon FROM found f

-- name: run
WITH found AS MATERIALIZED (
	SELECT t.id, t.status, t.run, t.attempt, t.sequence, t.tenant, t.locked_by, t.executor, t.eval_id, t.batch_id, t.place,
		t.queued_at, t.priority, t.turn,
		t.place = 0 AND NOT (t.run > 1 AND t.queued_at = $3::timestamptz) AS again,
		t.place IN (1, 2) AND NOT (t.run > 1 AND t.queued_at = $3::timestamptz) AS sooner
	FROM assay.tasks t
	WHERE t.id = ANY ($1::uuid[]) AND ($2::text IS NULL OR t.tenant = $2::text)
	ORDER BY t.id FOR NO KEY UPDATE
), changed AS (
	UPDATE assay.tasks t SET status = 'QUEUED', place = 1, run = t.run + 1, max_attempts = t.max_attempts + t.run_attempts,
		sequence = t.sequence + 1, updated_at = now(), queued_at = $3::timestamptz, run_after = NULL, locked_at = NULL,
		started_at = NULL, finished_at = NULL, cancel_requested_at = NULL, reason = 0, cause = 0, error = NULL,
		result = NULL, node = NULL, pod = NULL
	FROM found f WHERE t.id = ANY (ARRAY[f.id]) AND f.again
), hurried AS (
	UPDATE assay.tasks t SET place = 1, run_after = NULL, updated_at = now()
	FROM found f WHERE t.id = ANY (ARRAY[f.id]) AND f.sooner
), told AS (
	INSERT INTO assay.events (task_id, kind, sequence, run, attempt, at, publisher)
	SELECT f.id, 0, f.sequence + 1, f.run + 1, f.attempt, $3::timestamptz, $4::bigint FROM found f WHERE f.again
), counted AS (
	INSERT INTO assay.tenant_counts (tenant, queued, completed, failed, cancelled)
	SELECT tenant, count(*), -count(*) FILTER (WHERE status = 'COMPLETED'), -count(*) FILTER (WHERE status = 'FAILED'),
		-count(*) FILTER (WHERE status = 'CANCELLED')
	FROM found WHERE again GROUP BY tenant
)
SELECT f.*, $horizon FROM found f

-- The tasks of a batch that have not ended, and those that this very command had cancelled before.
-- name: batch_ids
SELECT m.id FROM (SELECT m.id FROM assay.batches b, unnest(b.ids) AS m (id) WHERE b.batch_id = $1::uuid ORDER BY m.id) m,
LATERAL (SELECT tenant, place, status, finished_at FROM assay.tasks WHERE id = m.id LIMIT 1) t
WHERE ($2::text IS NULL OR t.tenant = $2::text) AND
	(t.place > 0 OR (t.status = 'CANCELLED' AND t.finished_at = $3::timestamptz))
ORDER BY m.id

-- The event of this kind that the command wrote then.
-- name: command_events
SELECT e.task_id, e.kind, e.sequence, e.run, e.attempt, e.at, e.data, e.xid, e.id, $horizon
FROM unnest($1::uuid[]) AS i (id),
LATERAL (SELECT * FROM assay.events WHERE task_id = i.id AND kind = $2::smallint AND at = $3::timestamptz
	ORDER BY sequence DESC LIMIT 1) e

-- name: beat
UPDATE assay.replicas SET address = $2::text, draining = $3::boolean, free_slots = $4::integer,
	published = coalesce(nullif($5::bytea, ''), published),
	follows = $6::boolean, heartbeat_at = now()
WHERE incarnation = $1::text AND dead_at IS NULL
RETURNING now()

-- name: beat_learn
WITH $writers
SELECT (SELECT count(*) FROM assay.replicas WHERE dead_at IS NULL AND heartbeat_at >= now() - $2::bigint * interval '1 microsecond'),
	(SELECT count(*) FROM assay.replicas WHERE dead_at IS NULL AND follows AND incarnation <> $1::text AND
		heartbeat_at >= now() - $2::bigint * interval '1 microsecond'),
	$safe,
	(SELECT published FROM assay.replicas WHERE NOT told ORDER BY published NULLS FIRST LIMIT 1)

-- What the dead had not published others have.
-- name: told
UPDATE assay.replicas SET told = true WHERE incarnation = ANY ($1::text[]) AND dead_at IS NOT NULL AND NOT told

-- name: cancel_requests
SELECT id FROM assay.tasks WHERE place = 3 AND locked_by = $1::text AND cancel_requested_at IS NOT NULL
ORDER BY cancel_requested_at

-- name: tell_turns
INSERT INTO assay.fair_turns (executor, priority, tenant, turn, told_by)
SELECT i.*, $5::text FROM unnest($1::text[], $2::smallint[], $3::text[], $4::double precision[]) AS i (executor, priority, tenant, turn)
ON CONFLICT (executor, priority, tenant) DO UPDATE
SET turn = excluded.turn, told_by = excluded.told_by, changed_at = clock_timestamp()
WHERE excluded.turn > fair_turns.turn

-- A few seconds of overlap: what committed late is not missed, and hearing a turn twice does no harm.
-- name: learn_turns
SELECT executor, priority, tenant, turn FROM assay.fair_turns
WHERE $2::timestamptz IS NULL OR (changed_at > $2::timestamptz - interval '5 seconds' AND told_by <> $1::text)
LIMIT 20000

-- A tenant's turn that time has overtaken says nothing any more.
-- name: forget_turns
DELETE FROM assay.fair_turns f USING assay.fair_turns v
WHERE v.executor = f.executor AND v.priority = f.priority AND v.tenant = '' AND f.tenant <> '' AND f.turn <= v.turn AND
	f.changed_at < now() - interval '1 hour'

-- Adds the rows of each tenant together, if nobody else is at it.
-- name: fold_counts
WITH gone AS (
	DELETE FROM assay.tenant_counts WHERE (SELECT pg_try_advisory_xact_lock($1::bigint)) RETURNING *
)
INSERT INTO assay.tenant_counts (tenant, queued, running, completed, failed, retry, cancelled)
SELECT tenant, sum(queued), sum(running), sum(completed), sum(failed), sum(retry), sum(cancelled) FROM gone GROUP BY tenant
HAVING sum(queued) <> 0 OR sum(running) <> 0 OR sum(completed) <> 0 OR sum(failed) <> 0 OR sum(retry) <> 0 OR sum(cancelled) <> 0

-- Those whose events were to be published by one that is dead itself pass on to this one. Of a take whose answer was lost the dead are named
-- again: all that this incarnation has to tell of.
-- name: bury
WITH expired AS (
	UPDATE assay.replicas SET dead_at = now(), dead_by = $1::text
	WHERE dead_at IS NULL AND incarnation <> $1::text AND
		($2::bigint IS NULL OR heartbeat_at < now() - $2::bigint * interval '1 microsecond')
	RETURNING incarnation, published
), inherited AS (
	UPDATE assay.replicas r SET dead_by = $1::text FROM assay.replicas d
	WHERE r.dead_at IS NOT NULL AND NOT r.told AND d.incarnation = r.dead_by AND d.dead_at IS NOT NULL AND
		d.incarnation <> $1::text
	RETURNING r.incarnation, r.published
)
SELECT incarnation, published FROM expired
UNION ALL
SELECT incarnation, published FROM inherited
UNION ALL
SELECT incarnation, published FROM assay.replicas WHERE dead_by = $1::text AND dead_at IS NOT NULL AND NOT told AND $3::boolean

-- define: output_end
coalesce((SELECT o."offset" + octet_length(o.data) FROM assay.output o WHERE o.task_id = t.id AND o.attempt = t.attempt
	ORDER BY o."offset" DESC LIMIT 1), 0)

-- From owner to owner of running rows through their index, in the gaps between those that live: what these have claimed, of which much
-- cannot be cleaned up while a session holds an old snapshot, is not walked over. What is left are all others, known or not.
-- name: take_dead
WITH RECURSIVE gaps AS (
	SELECT low, coalesce(lead(low) OVER (ORDER BY low), chr(1114111)) AS high
	FROM (SELECT '' COLLATE "C" AS low UNION SELECT $1::text UNION SELECT incarnation FROM assay.replicas WHERE dead_at IS NULL) l
), owners AS (
	SELECT n.locked_by, g.high FROM gaps g, LATERAL (SELECT locked_by FROM assay.tasks
		WHERE place = 3 AND locked_by > g.low AND locked_by < g.high ORDER BY locked_by, locked_at LIMIT 1) n
	UNION ALL
	SELECT n.locked_by, o.high FROM owners o, LATERAL (SELECT locked_by FROM assay.tasks
		WHERE place = 3 AND locked_by > o.locked_by AND locked_by < o.high ORDER BY locked_by, locked_at LIMIT 1) n
), picked AS MATERIALIZED (
	SELECT q.id, o.locked_by AS incarnation, size FROM owners o,
	LATERAL (SELECT c.id, $params_size AS size FROM assay.tasks c WHERE c.place = 3 AND c.locked_by = o.locked_by
		ORDER BY c.locked_at LIMIT $2::bigint FOR UPDATE SKIP LOCKED) q
	LIMIT $2::bigint
), fitting AS MATERIALIZED (
	SELECT id, incarnation FROM (
		SELECT p.*, sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS sizes FROM picked p) s
	WHERE sizes < $answer_size
)
UPDATE assay.tasks t SET locked_by = $1::text, updated_at = now() FROM fitting p WHERE t.id = ANY (ARRAY[p.id])
RETURNING $task_columns, p.incarnation, t.params, $output_end, (SELECT count(*) FROM picked)

-- name: take_own
SELECT $task_columns, t.locked_by, t.params, $output_end FROM assay.tasks t
WHERE t.place = 3 AND t.locked_by = $1::text ORDER BY t.locked_at LIMIT $2::bigint

-- One replica at a time, so that whoever takes the last task of a batch sees that it is the last. A statement of its own: the next one sees
-- all that came before the lock.
-- name: trim_lock
SELECT set_config('trim.mine', pg_try_advisory_xact_lock($1::bigint)::text, true)

-- A step of retention walks over a bounded number of rows in the order of their ids.
-- name: trim
WITH seen AS MATERIALIZED (
	SELECT id, tenant, status, place = 0 AND finished_at < $1::timestamptz AS old
	FROM assay.tasks WHERE current_setting('trim.mine') = 'true' AND id > $2::uuid ORDER BY id LIMIT $3::bigint
), old AS MATERIALIZED (
	SELECT id, tenant, status FROM seen WHERE old LIMIT $4::bigint
), gone AS (
	DELETE FROM assay.tasks t USING old o WHERE t.id = ANY (ARRAY[o.id]) AND t.place::integer = 0 RETURNING t.id, t.tenant, t.status, t.batch_id
), events AS (
	DELETE FROM assay.events e USING gone g WHERE e.task_id = ANY (ARRAY[g.id]) RETURNING e.xid, e.id
), output AS (
	DELETE FROM assay.output o USING gone g WHERE o.task_id = ANY (ARRAY[g.id])
), deliveries AS (
	DELETE FROM assay.deliveries d USING gone g WHERE d.task_id = ANY (ARRAY[g.id])
), batches AS (
	DELETE FROM assay.batches b USING (SELECT DISTINCT batch_id FROM gone) g
	WHERE b.batch_id = ANY (ARRAY[g.batch_id]) AND b.first <= (SELECT id FROM old ORDER BY id DESC LIMIT 1) AND NOT EXISTS (
		SELECT FROM unnest(b.ids) AS m (id), LATERAL (SELECT FROM assay.tasks WHERE id = m.id LIMIT 1) t
		WHERE m.id NOT IN (SELECT id FROM gone))
), counted AS (
	INSERT INTO assay.tenant_counts (tenant, completed, failed, cancelled)
	SELECT tenant, -count(*) FILTER (WHERE status = 'COMPLETED'), -count(*) FILTER (WHERE status = 'FAILED'),
		-count(*) FILTER (WHERE status = 'CANCELLED')
	FROM gone GROUP BY tenant
), latest AS (
	SELECT xid, id FROM events ORDER BY xid DESC, id DESC LIMIT 1
), noted AS (
	UPDATE assay.state s SET trimmed_xid = l.xid, trimmed_id = l.id FROM latest l
	WHERE (l.xid, l.id) > (s.trimmed_xid, s.trimmed_id)
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM seen), (SELECT id FROM old ORDER BY id DESC LIMIT 1),
	(SELECT id FROM seen ORDER BY id DESC LIMIT 1), (SELECT id FROM seen WHERE old IS NOT TRUE ORDER BY id LIMIT 1),
	(SELECT count(*) FROM old)

-- name: forget_replicas
DELETE FROM assay.replicas r WHERE dead_at < $1::timestamptz AND
	NOT EXISTS (SELECT FROM assay.tasks WHERE place = 3 AND locked_by = r.incarnation OFFSET 0)

-- A leap from origin to origin through the index: what it costs depends on how many receivers wait, not on how many deliveries.
-- define: origins_waiting
origins AS (
	(SELECT d.origin, d.due_at FROM assay.deliveries d WHERE d.status = 0 ORDER BY d.origin, d.due_at LIMIT 1)
	UNION ALL
	SELECT n.origin, n.due_at FROM origins o,
	LATERAL (SELECT d.origin, d.due_at FROM assay.deliveries d WHERE d.status = 0 AND d.origin > o.origin
		ORDER BY d.origin, d.due_at LIMIT 1) n
), allowed AS MATERIALIZED (
	SELECT o.origin, o.due_at, $3::integer - coalesce((SELECT sum(b.busy)
		FROM unnest($4::text[], $5::integer[]) AS b (origin, busy) WHERE b.origin = o.origin), 0) AS slots
	FROM origins o
)

-- name: delivery_claim
WITH RECURSIVE $origins_waiting, picked AS MATERIALIZED (
	SELECT q.task_id, q.run, q.due_at
	FROM (SELECT * FROM allowed WHERE slots > 0 AND due_at <= now() ORDER BY due_at) a,
	LATERAL (SELECT d.task_id, d.run, d.due_at FROM assay.deliveries d
		WHERE d.status = 0 AND d.origin = a.origin AND d.due_at <= now()
		ORDER BY d.due_at LIMIT a.slots FOR UPDATE SKIP LOCKED) q
	LIMIT $6::bigint
), claimed AS (
	UPDATE assay.deliveries d SET attempt = d.attempt + 1, locked_by = $1::text,
		due_at = now() + $2::bigint * interval '1 microsecond'
	FROM (SELECT k.*, t.callback_url FROM picked k,
		LATERAL (SELECT callback_url FROM assay.tasks WHERE id = k.task_id LIMIT 1) t) p
	WHERE d.task_id = ANY (ARRAY[p.task_id]) AND d.run = p.run
	RETURNING d.task_id, d.run, d.attempt, d.attempts, d.created_at, d.origin, p.callback_url, p.due_at
)
SELECT * FROM claimed ORDER BY due_at, task_id, run

-- Behind the claim in its transaction: what it took bears its moment.
-- name: delivery_left
WITH RECURSIVE $origins_waiting
SELECT (extract(epoch FROM min(greatest(a.due_at, now())) - now()) * 1000000)::bigint FROM allowed a
WHERE a.slots > (SELECT count(*) FROM assay.deliveries d WHERE d.status = 0 AND d.origin = a.origin AND
	d.locked_by = $1::text AND d.due_at = now() + $2::bigint * interval '1 microsecond')

-- name: delivery_waiting
SELECT count(*) FROM (SELECT FROM assay.deliveries WHERE status = 0 LIMIT 10000) d

-- An outcome that finds no lease of its own was settled before where its attempt is recorded.
-- name: delivery_settle
WITH input AS MATERIALIZED (
	SELECT * FROM unnest($2::uuid[], $3::integer[], $4::integer[], $5::smallint[], $6::boolean[], $7::bigint[],
		$8::timestamptz[], $9::bigint[], $10::smallint[], $11::text[]) WITH ORDINALITY
	AS i (task_id, run, attempt, status, recorded, delay, at, duration, http_status, error, number)
), held AS MATERIALIZED (
	SELECT i.* FROM input i,
	LATERAL (SELECT FROM assay.deliveries d WHERE d.task_id = i.task_id AND d.run = i.run AND d.status::integer = 0 AND
		d.attempt = i.attempt AND d.locked_by = $1::text FOR NO KEY UPDATE) d
), changed AS (
	UPDATE assay.deliveries d SET status = h.status, due_at = now() + h.delay * interval '1 microsecond',
		attempts = d.attempts + h.recorded::integer, locked_by = NULL
	FROM held h WHERE d.task_id = ANY (ARRAY[h.task_id]) AND d.run = h.run
), noted AS (
	INSERT INTO assay.delivery_attempts (task_id, run, attempt, at, duration, http_status, error)
	SELECT task_id, run, attempt, coalesce(at, now()), duration, http_status, error FROM held WHERE recorded
)
SELECT i.number, EXISTS (SELECT FROM held h WHERE h.number = i.number) OR EXISTS (
	SELECT FROM assay.delivery_attempts a WHERE a.task_id = i.task_id AND a.run = i.run AND a.attempt = i.attempt OFFSET 0)
FROM input i

-- name: delivery_release
UPDATE assay.deliveries SET due_at = least(due_at, now()), locked_by = NULL WHERE status = 0 AND locked_by IS NOT NULL

-- name: notify
SELECT pg_notify($1::text, m) FROM unnest($2::text[]) AS n (m)
