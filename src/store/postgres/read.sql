-- Statements that only read. The pieces that write.sql defines can be used here too.

-- define: event_columns
e.task_id, e.kind, e.sequence, e.run, e.attempt, e.at, e.data, e.xid, e.id

-- A row as it stands, but for what may be large.
-- define: row_columns
e.task_id, e.kind, e.sequence, e.run, e.attempt, e.at, e.data, e.xid, e.id, e.publisher, e.size, e.began, e.began_data

-- Each event that the row `e` stands for, with its task and its place in the transaction.
-- define: each_event
LATERAL (
	SELECT e.task_id, m.* FROM $both_events WHERE e.size = 1 OR e.began IS NOT NULL
	UNION ALL
	SELECT m.task_id, e.kind, e.sequence, e.at, e.data, e.id - e.size + m.number
	FROM (SELECT others FROM assay.events
		WHERE task_id = e.task_id AND sequence = e.sequence AND e.size > 1 AND e.began IS NULL LIMIT 1) o,
	unnest(e.task_id || o.others) WITH ORDINALITY AS m (task_id, number)) m

-- name: task_by_id
SELECT i.number, $task_columns FROM unnest($1::uuid[]) WITH ORDINALITY AS i (id, number),
LATERAL (SELECT * FROM assay.tasks WHERE id = i.id LIMIT 1) t
WHERE $2::text IS NULL OR t.tenant = $2::text

-- name: task_by_id_with_params
SELECT i.number, $task_columns, t.params
FROM unnest($1::uuid[]) WITH ORDINALITY AS i (id, number), LATERAL (SELECT * FROM assay.tasks WHERE id = i.id LIMIT 1) t
WHERE $2::text IS NULL OR t.tenant = $2::text

-- name: match_prefix
SELECT id FROM assay.tasks WHERE id >= $1::uuid AND id <= $2::uuid AND ($3::text IS NULL OR tenant = $3::text)
ORDER BY id DESC LIMIT 21

-- The rows themselves are looked at only where the index gave the right digits.
-- define: suffix
substring(uuid_send(id) FROM 13 FOR 4) = $1::bytea

-- define: of_tenant
, LATERAL (SELECT tenant FROM assay.tasks WHERE id = m.id LIMIT 1) t WHERE $2::text IS NULL OR t.tenant = $2::text LIMIT 21

-- name: match_suffix_newest
SELECT m.id FROM (SELECT id FROM (SELECT id FROM assay.tasks ORDER BY id DESC LIMIT 100000) n WHERE $suffix) m $of_tenant

-- name: match_suffix_waiting
(SELECT m.id FROM (SELECT id FROM assay.tasks WHERE place = 1 AND $suffix ORDER BY executor, priority DESC, turn, id) m $of_tenant)
UNION ALL (SELECT m.id FROM (SELECT id FROM assay.tasks WHERE place = 2 AND $suffix ORDER BY executor, run_after) m $of_tenant)
UNION ALL (SELECT m.id FROM (SELECT id FROM assay.tasks WHERE place = 3 AND $suffix ORDER BY locked_by, locked_at) m $of_tenant)

-- define: list_filters
($2::text[] IS NULL OR t.status = ANY ($2::text[])) AND ($3::text IS NULL OR t.type = $3::text)
AND ($4::text IS NULL OR t.queue = $4::text)

-- define: all_older
FROM assay.tasks WHERE id < $1::uuid ORDER BY id DESC

-- define: tenants_older
FROM assay.tasks WHERE tenant <> 'default' AND (tenant, id) < ($6::text, $1::uuid) AND tenant >= $6::text ORDER BY tenant DESC, id DESC

-- Where there are filters, no more than $7 rows are looked at: where these do not fill the page, `last`, which is told with every
-- row, is the last of them.
-- name: list_all
WITH page AS MATERIALIZED (
	SELECT $task_columns
	FROM (SELECT * $all_older LIMIT nullif($7::bigint, 0)) t
	WHERE $list_filters AND ($6::text IS NULL OR t.tenant = $6::text)
	LIMIT $5::bigint
), bound AS MATERIALIZED (
	SELECT CASE WHEN $7::bigint > 0 AND (SELECT count(*) FROM page) < $5::bigint THEN (
		SELECT id $all_older OFFSET $7::bigint - 1 LIMIT 1) END AS last
)
SELECT p.*, b.last FROM bound b LEFT JOIN page p ON true ORDER BY p.id DESC

-- name: list_tenant
WITH page AS MATERIALIZED (
	SELECT $task_columns
	FROM (SELECT * $tenants_older LIMIT nullif($7::bigint, 0)) t
	WHERE $list_filters
	LIMIT $5::bigint
), bound AS MATERIALIZED (
	SELECT CASE WHEN $7::bigint > 0 AND (SELECT count(*) FROM page) < $5::bigint THEN (
		SELECT id $tenants_older OFFSET $7::bigint - 1 LIMIT 1) END AS last
)
SELECT p.*, b.last FROM bound b LEFT JOIN page p ON true ORDER BY p.id DESC

-- name: list_batch
SELECT $task_columns
FROM (SELECT m.id FROM assay.batches b, unnest(b.ids) AS m (id)
	WHERE b.batch_id = $6::uuid AND b.first < $1::uuid AND m.id < $1::uuid ORDER BY m.id DESC) m,
LATERAL (SELECT * FROM assay.tasks WHERE id = m.id LIMIT 1) t
WHERE $list_filters AND ($7::text IS NULL OR t.tenant = $7::text)
ORDER BY m.id DESC LIMIT $5::bigint

-- name: list_eval_id
SELECT $task_columns FROM (SELECT * FROM assay.tasks WHERE eval_id = $6::text ORDER BY eval_id, tenant OFFSET 0) t
WHERE t.id < $1::uuid AND $list_filters AND ($7::text IS NULL OR t.tenant = $7::text) AND
	($8::uuid IS NULL OR t.batch_id = $8::uuid)
ORDER BY t.id DESC LIMIT $5::bigint

-- What is kept of the two streams of the attempt that ended here, in bytes, cut as an event is.
-- define: event_output_size
(CASE WHEN e.kind IN (5, 6, 7) THEN (
	SELECT sum(least(o.size, 65536)) FROM (
		SELECT sum(octet_length(data)) AS size FROM assay.output WHERE task_id = e.task_id AND attempt = e.attempt GROUP BY stream) o)
END)::bigint

-- Whose hashes (row_hash) stand in the events.
-- define: publishers
publishers AS MATERIALIZED (
	SELECT incarnation, ('x' || encode(substring(sha256(convert_to(incarnation, 'UTF8')) FOR 8), 'hex'))::bit(64)::bigint AS hash
	FROM assay.replicas
)

-- define: event_publisher
(SELECT p.incarnation FROM publishers p WHERE p.hash = e.publisher LIMIT 1)

-- Events of the transactions $10, which were under way when the stream was read past them, each behind its id in $11
-- (`late`); only where there are none, those behind the place. A row may be many events, of which some may lie before the place:
-- `fresh` are behind it, `before` how many come before those. All that was seen, whatever the filters let through; the
-- first columns are there even where nothing was. `reached` is the last event looked at, where there may be more behind
-- it.
-- name: events_all
WITH $publishers, $writers, late AS MATERIALIZED (
	SELECT $row_columns, h.id AS behind FROM unnest($10::xid8[], $11::bigint[]) h (xid, id),
	LATERAL (SELECT * FROM assay.events WHERE xid = h.xid AND id > h.id ORDER BY xid, id LIMIT $3::bigint) e
	LIMIT $3::bigint
), rows AS MATERIALIZED (
	SELECT e.*, sum(e.fresh) OVER (ORDER BY e.xid, e.id) - e.fresh AS before FROM (
		SELECT $row_columns, e.behind, least(e.size, e.id - e.behind) AS fresh FROM (
			SELECT $row_columns, e.behind FROM late e
			UNION ALL
			(SELECT $row_columns, CASE WHEN e.xid = $1::xid8 THEN $2::bigint ELSE 0 END FROM assay.events e
				WHERE NOT EXISTS (SELECT FROM late) AND (e.xid, e.id) > ($1::xid8, $2::bigint)
				ORDER BY e.xid, e.id LIMIT $3::bigint)) e) e
), seen AS MATERIALIZED (
	SELECT m.task_id, m.kind, m.sequence, e.run, e.attempt, m.at, m.data, e.xid, m.id, e.publisher FROM rows e, $each_event
	WHERE e.before < $3::bigint AND m.id > e.behind ORDER BY e.xid, m.id LIMIT $3::bigint
), reached AS MATERIALIZED (
	SELECT xid, id FROM seen ORDER BY xid, id OFFSET $3::bigint - 1 LIMIT 1
)
SELECT pg_snapshot_xmax(pg_current_snapshot()), (SELECT string_agg(xid::text, ' ' ORDER BY xid) FROM open),
	EXISTS (SELECT FROM late), s.trimmed_xid, s.trimmed_id, r.xid, r.id, f.*
FROM assay.state s LEFT JOIN reached r ON true LEFT JOIN LATERAL (
	SELECT $event_columns, t.tenant, t.eval_id, t.batch_id, $event_output_size, $event_publisher
	FROM seen e, LATERAL (SELECT tenant, eval_id, batch_id FROM assay.tasks WHERE id = e.task_id LIMIT 1) t
	WHERE ($5::integer = 0 OR $5::integer & (1 << e.kind) <> 0) AND ($6::bigint IS NULL OR e.publisher = $6::bigint) AND
		($7::text IS NULL OR t.tenant = $7::text) AND ($8::text IS NULL OR t.eval_id = $8::text) AND
		($9::uuid IS NULL OR t.batch_id = $9::uuid)
	ORDER BY e.xid, e.id LIMIT $4::bigint) f ON true

-- The events of one task are in the order of their sequence, and complete up to any that can be seen. Its first may be in the
-- row of another task: what it said, the task's own row tells, but for its publisher and its place among those of all tasks.
-- name: events_task
WITH $publishers, told AS MATERIALIZED (
	SELECT e.task_id, m.kind, m.sequence, e.run, e.attempt, m.at, m.data, e.xid, m.id, e.publisher
	FROM (SELECT * FROM assay.events WHERE task_id = $1::uuid AND sequence > $2::integer ORDER BY sequence) e, $both_events
	WHERE m.sequence > $2::integer
)
SELECT $horizon, $event_columns, t.tenant, t.eval_id, t.batch_id, $event_output_size, $event_publisher
FROM (
	SELECT id, 0::smallint, 1, 1, 0, created_at, NULL::json, '0'::xid8, 0::bigint, NULL::bigint FROM assay.tasks
	WHERE id = $1::uuid AND $2::integer < 1 AND NOT EXISTS (SELECT FROM told WHERE sequence = 1)
	UNION ALL
	SELECT * FROM told
) e (task_id, kind, sequence, run, attempt, at, data, xid, id, publisher),
LATERAL (SELECT tenant, eval_id, batch_id FROM assay.tasks WHERE id = e.task_id LIMIT 1) t
WHERE
	($4::integer = 0 OR $4::integer & (1 << e.kind) <> 0) AND ($5::bigint IS NULL OR e.publisher = $5::bigint) AND
	($6::text IS NULL OR t.tenant = $6::text) AND ($7::text IS NULL OR t.eval_id = $7::text) AND
	($8::uuid IS NULL OR t.batch_id = $8::uuid)
ORDER BY e.sequence LIMIT $3::bigint

-- name: events_output
SELECT i.number, substring(string_agg(o.data, ''::bytea ORDER BY o."offset") FILTER (WHERE o.stream = 1) FOR 65536),
	substring(string_agg(o.data, ''::bytea ORDER BY o."offset") FILTER (WHERE o.stream = 2) FOR 65536),
	coalesce(max(o.stream_offset + octet_length(o.data)), 0) > 65536
FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS i (id, attempt, number),
LATERAL (SELECT * FROM assay.output WHERE task_id = i.id AND attempt = i.attempt AND stream_offset <= 65536
	ORDER BY "offset" OFFSET 0) o
GROUP BY i.number

-- name: output
WITH asked AS MATERIALIZED (
	SELECT id, CASE WHEN $2::integer = 0 THEN attempt ELSE $2::integer END AS attempt FROM assay.tasks WHERE id = $1::uuid
)
SELECT a.attempt, (
		SELECT CASE WHEN $3::integer = 0 THEN o."offset" ELSE o.stream_offset END + octet_length(o.data) FROM assay.output o
		WHERE o.task_id = a.id AND o.attempt = a.attempt AND ($3::integer = 0 OR o.stream = $3::integer)
		ORDER BY o."offset" DESC LIMIT 1),
	c.*
FROM asked a LEFT JOIN LATERAL (
	SELECT "offset", stream_offset, stream, data FROM (
		SELECT o.*, sum(octet_length(o.data)) OVER (ORDER BY o."offset") - octet_length(o.data) AS before
		FROM assay.output o
		WHERE o.task_id = a.id AND o.attempt = a.attempt AND ($3::integer = 0 OR o.stream = $3::integer) AND
			CASE WHEN $3::integer = 0 THEN o."offset" ELSE o.stream_offset END + octet_length(o.data) > $4::bigint
	) w
	WHERE w.before < $5::bigint + 65536 ORDER BY "offset") c ON true

-- name: position
WITH asked AS MATERIALIZED (
	SELECT id, place, executor, queue, priority, turn FROM assay.tasks WHERE id = $1::uuid
)
SELECT a.place,
	(SELECT count(*) FROM (SELECT FROM assay.tasks WHERE place = 1 AND executor = a.executor AND queue = a.queue
		ORDER BY priority DESC, turn, id LIMIT 10000) c),
	(SELECT count(*) FROM (SELECT FROM assay.tasks WHERE place = 1 AND executor = a.executor AND queue = a.queue AND
		priority > a.priority ORDER BY priority DESC, turn, id LIMIT 10000) c),
	(SELECT count(*) FROM (SELECT FROM assay.tasks WHERE place = 1 AND executor = a.executor AND queue = a.queue AND
		priority = a.priority AND (turn, id) < (a.turn, a.id) ORDER BY turn, id LIMIT 10000) c),
	(SELECT count(*) FROM (SELECT FROM assay.tasks WHERE place = 2 AND executor = a.executor AND queue = a.queue AND
		run_after <= now() ORDER BY run_after LIMIT 10000) c),
	(SELECT count(*) FROM (SELECT FROM assay.tasks WHERE place = 2 AND executor = a.executor AND queue = a.queue AND
		run_after <= now() AND
		(priority > a.priority OR (priority = a.priority AND (turn, id) < (a.turn, a.id)))
		ORDER BY run_after LIMIT 10000) c)
FROM asked a

-- name: counts
SELECT tenant, sum(queued)::bigint, sum(running)::bigint, sum(completed)::bigint, sum(failed)::bigint, sum(retry)::bigint,
	sum(cancelled)::bigint
FROM assay.tenant_counts GROUP BY tenant

-- name: stream_end
WITH $writers
SELECT $safe

-- The heads of the queues, of each lane and priority: the oldest of them stands for the oldest of all. In the queues of the executors that
-- are claimed for here the marks say where to begin, past the entries of what is gone; those between them are found by leaps.
-- name: oldest_waiting
SELECT (
	WITH RECURSIVE known AS (
		SELECT executor, number, coalesce((SELECT max(b) FROM unnest($1::text[]) b WHERE b < k.executor), '') AS before
		FROM unnest($1::text[]) WITH ORDINALITY AS k (executor, number)
	), lanes AS (
		(SELECT n.executor, n.priority, k.executor AS until FROM known k, LATERAL (
			SELECT executor, priority FROM assay.tasks WHERE place = 1 AND executor > k.before AND executor < k.executor
			ORDER BY executor, priority DESC LIMIT 1) n
		UNION ALL
		SELECT n.executor, n.priority, NULL FROM (SELECT coalesce(max(executor), '') AS executor FROM known) k, LATERAL (
			SELECT executor, priority FROM assay.tasks WHERE place = 1 AND executor > k.executor
			ORDER BY executor, priority DESC LIMIT 1) n)
		UNION ALL
		SELECT n.executor, n.priority, l.until FROM lanes l, LATERAL (
			(SELECT executor, priority FROM assay.tasks WHERE place = 1 AND executor = l.executor AND priority < l.priority
				ORDER BY priority DESC LIMIT 1)
			UNION ALL
			(SELECT executor, priority FROM assay.tasks WHERE place = 1 AND executor > l.executor AND executor < l.until
				ORDER BY executor, priority DESC LIMIT 1)
			UNION ALL
			(SELECT executor, priority FROM assay.tasks WHERE place = 1 AND executor > l.executor AND l.until IS NULL
				ORDER BY executor, priority DESC LIMIT 1)
			LIMIT 1) n
	), heads AS (
		SELECT executor, priority, '-Infinity'::double precision AS turn FROM lanes
		UNION ALL
		SELECT k.executor, 10 - m.number, m.turn FROM known k,
		unnest(($2::double precision[])[(k.number - 1) * 10 + 1:k.number * 10]) WITH ORDINALITY AS m (turn, number)
	)
	SELECT min(h.queued_at) FROM heads l, LATERAL (
		SELECT queued_at FROM assay.tasks WHERE place = 1 AND executor = l.executor AND priority = l.priority AND turn >= l.turn
		ORDER BY turn, id LIMIT 1) h)

-- name: callback_of
SELECT callback_url FROM assay.tasks WHERE id = $1::uuid AND ($2::text IS NULL OR tenant = $2::text)

-- name: deliveries
SELECT run, status, created_at, due_at, locked_by IS NOT NULL FROM assay.deliveries WHERE task_id = $1::uuid
ORDER BY run DESC LIMIT $2::bigint

-- name: delivery_attempts
SELECT a.run, a.attempt, a.at, a.duration, a.http_status, a.error
FROM (SELECT run FROM assay.deliveries WHERE task_id = $1::uuid ORDER BY run DESC LIMIT $2::bigint) d
JOIN assay.delivery_attempts a ON a.task_id = $1::uuid AND a.run = d.run
ORDER BY a.run DESC, a.attempt
