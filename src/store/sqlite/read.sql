-- Statements of the readers. The pieces that write.sql defines can be used here too.

-- define: event_stream_columns
$event_columns, e.publisher, e.task, t.id, t.tenant, t.eval_id, t.batch_id,
(SELECT r.locked_by FROM replica r WHERE r.row = e.publisher)

-- define: list_filters
(?2 = 0 OR ?2 & (1 << t.status)) AND (?3 IS NULL OR t.type = ?3) AND (?4 IS NULL OR t.queue = ?4)

-- name: begin
BEGIN

-- name: commit
COMMIT

-- name: task_by_id
SELECT $task_columns FROM task t JOIN task_input i ON i.task = t.row WHERE t.id = ?1

-- name: task_by_id_with_params
SELECT $task_columns, i.params FROM task t JOIN task_input i ON i.task = t.row WHERE t.id = ?1

-- name: match_prefix
SELECT id FROM task WHERE id >= ?1 AND id <= ?2 AND (?3 IS NULL OR tenant = ?3) ORDER BY id DESC LIMIT 21

-- name: match_suffix_newest
SELECT t.id FROM (SELECT id FROM task ORDER BY id DESC LIMIT 100000) n CROSS JOIN task t ON t.id = n.id
WHERE substr(n.id, 13, 4) = ?1 AND (?2 IS NULL OR t.tenant = ?2) LIMIT 21

-- name: match_suffix_due
SELECT id FROM task INDEXED BY task_due WHERE place = 1 AND substr(id, 13, 4) = ?1 AND (?2 IS NULL OR tenant = ?2)
LIMIT 21

-- name: match_suffix_delayed
SELECT id FROM task INDEXED BY task_delayed WHERE place = 2 AND substr(id, 13, 4) = ?1 AND (?2 IS NULL OR tenant = ?2)
LIMIT 21

-- name: match_suffix_running
SELECT id FROM task INDEXED BY task_running WHERE place = 3 AND substr(id, 13, 4) = ?1 AND (?2 IS NULL OR tenant = ?2)
LIMIT 21

-- Where there are filters, no more than ?8 rows are looked at, of which this is the last.
-- name: list_bound_all
SELECT id FROM task WHERE id < ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2

-- name: list_bound_tenant
SELECT id FROM task WHERE id < ?1 AND tenant = ?3 ORDER BY id DESC LIMIT 1 OFFSET ?2

-- name: list_all
SELECT $task_columns FROM (SELECT row FROM task WHERE id < ?1 ORDER BY id DESC LIMIT ?8) n
CROSS JOIN task t ON t.row = n.row CROSS JOIN task_input i ON i.task = t.row
WHERE $list_filters LIMIT ?5

-- name: list_tenant
SELECT $task_columns FROM (SELECT row FROM task WHERE id < ?1 AND tenant = ?6 ORDER BY id DESC LIMIT ?8) n
CROSS JOIN task t ON t.row = n.row CROSS JOIN task_input i ON i.task = t.row
WHERE $list_filters LIMIT ?5

-- name: list_batch
SELECT $task_columns FROM task t JOIN task_input i ON i.task = t.row
WHERE t.id < ?1 AND $list_filters AND t.batch_id = ?6 AND (?7 IS NULL OR t.tenant = ?7) ORDER BY t.id DESC LIMIT ?5

-- name: list_eval_id
SELECT $task_columns FROM task t JOIN task_input i ON i.task = t.row
WHERE t.id < ?1 AND $list_filters AND t.eval_id = ?6 AND (?7 IS NULL OR t.tenant = ?7) ORDER BY t.id DESC LIMIT ?5

-- name: events_all
SELECT $event_stream_columns FROM event e CROSS JOIN task t ON t.row = e.task
WHERE e.position > ?1 ORDER BY e.position LIMIT ?2

-- name: events_task
SELECT $event_stream_columns FROM task t CROSS JOIN event e ON e.task = t.row
WHERE t.id = ?3 AND e.position > ?1 ORDER BY e.position LIMIT ?2

-- name: events_bounds
SELECT max((SELECT coalesce(max(position), 0) FROM event), s.trimmed), s.trimmed FROM state s

-- name: find_replica
SELECT row FROM replica WHERE locked_by = ?1

-- name: output_attempt
SELECT row, attempt FROM task WHERE id = ?1

-- name: output_from
SELECT offset, stream, stream_offset, size, data FROM output
WHERE task = ?1 AND attempt = ?2 AND offset >= coalesce(
	(SELECT offset FROM output WHERE task = ?1 AND attempt = ?2 AND offset <= ?3 ORDER BY offset DESC LIMIT 1), 0)
ORDER BY offset

-- name: output_end
SELECT offset + size FROM output WHERE task = ?1 AND attempt = ?2 ORDER BY offset DESC LIMIT 1

-- name: output_stream_end
SELECT stream_offset + size FROM output WHERE task = ?1 AND attempt = ?2 AND stream = ?3 ORDER BY offset DESC LIMIT 1

-- name: position_task
SELECT place, executor, queue, priority, turn, run_after FROM task WHERE id = ?1

-- name: position_due
SELECT count(*) FROM (SELECT 1 FROM task WHERE place = 1 AND executor = ?1 AND queue = ?2 LIMIT ?3)

-- name: position_ahead_priority
SELECT count(*) FROM (SELECT 1 FROM task WHERE place = 1 AND executor = ?1 AND queue = ?2 AND priority > ?4 LIMIT ?3)

-- name: position_ahead_turn
SELECT count(*) FROM (SELECT 1 FROM task WHERE place = 1 AND executor = ?1 AND priority = ?4 AND (turn, id) < (?5, ?6)
	AND queue = ?2 LIMIT ?3)

-- name: position_delayed
SELECT priority, turn, id FROM task WHERE place = 2 AND executor = ?1 AND run_after <= ?4 AND queue = ?2 LIMIT ?3

-- name: count_statuses
SELECT tenant, queued, running, completed, failed, retry, cancelled FROM tenant

-- name: oldest_waiting
SELECT queued_at FROM task WHERE place = 1 ORDER BY queued_at LIMIT 1

-- name: callback_of_task
SELECT t.row, t.tenant, i.callback_url FROM task t CROSS JOIN task_input i ON i.task = t.row WHERE t.id = ?1

-- name: deliveries_of
SELECT row, run, status, created_at, due_at, locked_by IS NOT NULL, attempts FROM delivery
WHERE task = ?1 ORDER BY run DESC LIMIT ?2

-- name: attempts_of
SELECT attempt, at, duration, http_status, error FROM delivery_attempt WHERE delivery = ?1 ORDER BY attempt
