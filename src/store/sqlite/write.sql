-- Statements of the writer. `-- define:` names a piece that others use as $name; `-- name:` begins a statement.

-- define: event_columns
e.position, e.kind, e.sequence, e.run, e.attempt, e.at, e.data

-- define: task_columns
t.row, t.id, t.status, t.run, t.attempt, t.attempts, t.max_attempts, t.priority, t.turn, t.sequence, t.tenant, t.type,
t.queue, t.executor, t.created_at, t.updated_at, t.queued_at, t.run_after, t.locked_at, t.started_at, t.finished_at,
t.cancel_requested_at, t.reason, t.cause, t.locked_by, t.eval_id, t.idempotency_key, t.batch_id, t.node, t.pod, t.image,
t.error, t.result, i.drift_score, i.description, i.domain, i.metadata, i.callback_url, i.traceparent

-- name: begin
BEGIN IMMEDIATE

-- name: commit
COMMIT

-- name: rollback
ROLLBACK

-- name: insert_task
INSERT INTO task (id, status, place, attempt, max_attempts, run_attempts, priority, turn, sequence, tenant, type, queue,
	executor, created_at, updated_at, queued_at, run_after, locked_at, locked_by, eval_id, idempotency_key, digest,
	batch_id, image)
VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, 1, ?8, ?9, ?10, ?11, ?12, ?12, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
ON CONFLICT DO NOTHING

-- name: insert_input
INSERT INTO task_input (task, drift_score, description, domain, metadata, callback_url, traceparent, params)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)

-- name: insert_event
INSERT INTO event (position, task, kind, sequence, run, attempt, at, publisher, data)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)

-- name: find_by_id
SELECT row, id, status, created_at, digest FROM task WHERE id = ?1

-- name: find_by_eval_id
SELECT row, id, status, created_at, digest FROM task WHERE eval_id = ?1 AND tenant = ?2

-- name: find_by_idempotency_key
SELECT row, id, status, created_at, digest FROM task WHERE idempotency_key = ?1 AND tenant = ?2

-- name: add_to_tenant
INSERT INTO tenant (tenant, queued, running, completed, failed, retry, cancelled) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (tenant) DO UPDATE SET queued = queued + excluded.queued, running = running + excluded.running,
	completed = completed + excluded.completed, failed = failed + excluded.failed, retry = retry + excluded.retry,
	cancelled = cancelled + excluded.cancelled

-- name: promote
UPDATE task SET place = 1 WHERE row IN (
	SELECT row FROM task WHERE place = 2 AND executor = ?1 AND run_after <= ?2 ORDER BY run_after LIMIT ?3)

-- name: next_due
SELECT run_after FROM task WHERE place = 2 AND executor = ?1 ORDER BY run_after LIMIT 1

-- name: claim_candidates
SELECT row, queue, tenant FROM task WHERE place = 1 AND executor = ?1 ORDER BY priority DESC, turn, id

-- name: claim
UPDATE task SET status = 1, place = 3, attempt = attempt + 1, locked_by = ?2, locked_at = ?3, updated_at = ?3,
	started_at = 0, reason = 0, cause = 0, error = NULL, node = NULL, pod = NULL
WHERE row = ?1

-- name: task_by_row
SELECT $task_columns, i.params FROM task t JOIN task_input i ON i.task = t.row WHERE t.row = ?1

-- name: guard
SELECT t.row, t.status, t.run, t.attempt, t.attempts, t.sequence, t.started_at, t.cancel_requested_at, t.settled_by,
	t.settled_attempt, t.run_after, t.locked_by, t.tenant, t.eval_id, t.batch_id
FROM task t WHERE t.id = ?1

-- name: settle_started
UPDATE task SET started_at = ?2, sequence = ?3, updated_at = ?4, node = coalesce(?5, node), pod = coalesce(?6, pod),
	image = coalesce(?7, image)
WHERE row = ?1

-- name: settle_step
UPDATE task SET sequence = ?2, updated_at = ?3 WHERE row = ?1

-- name: settle_leave
UPDATE task SET status = ?2, place = ?3, attempts = ?4, sequence = ?5, updated_at = ?6, started_at = ?7,
	finished_at = ?8, run_after = ?9, settled_by = ?10, settled_attempt = attempt, reason = ?11, cause = ?12,
	locked_by = NULL, node = coalesce(?13, node), pod = coalesce(?14, pod), image = coalesce(?15, image), error = ?16,
	result = ?17
WHERE row = ?1

-- name: event_of_attempt
SELECT $event_columns, e.publisher FROM event e WHERE e.task = ?1 AND e.attempt = ?2 AND e.kind = ?3 ORDER BY e.position DESC LIMIT 1

-- name: events_backwards
SELECT $event_columns FROM event e WHERE e.task = ?1 ORDER BY e.position DESC

-- name: insert_output
INSERT INTO output (task, attempt, offset, stream, stream_offset, size, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT DO NOTHING

-- name: command_task
SELECT t.row, t.status, t.run, t.attempt, t.sequence, t.queued_at, t.finished_at, t.cancel_requested_at, t.tenant,
	t.locked_by, t.executor, t.eval_id, t.batch_id
FROM task t WHERE t.id = ?1

-- name: batch_tasks
SELECT id FROM task WHERE batch_id = ?1 AND (place > 0 OR (status = 5 AND finished_at = ?2)) ORDER BY id

-- name: cancel_waiting
UPDATE task SET status = 5, place = 0, sequence = ?2, updated_at = ?3, finished_at = ?4, cancel_requested_at = ?4,
	reason = ?5, cause = 0, error = NULL, result = NULL
WHERE row = ?1

-- name: request_cancel
UPDATE task SET cancel_requested_at = ?2, updated_at = ?3 WHERE row = ?1

-- name: run_now
UPDATE task SET run_after = 0, place = 1, updated_at = ?2 WHERE row = ?1

-- name: run_again
UPDATE task SET status = 0, place = 1, run = run + 1, max_attempts = max_attempts + run_attempts, sequence = ?2,
	updated_at = ?3, queued_at = ?4, run_after = 0, locked_at = 0, started_at = 0, finished_at = 0,
	cancel_requested_at = 0, reason = 0, cause = 0, error = NULL, result = NULL, node = NULL, pod = NULL
WHERE row = ?1

-- name: add_replica
INSERT INTO replica (locked_by, heartbeat_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING

-- name: find_replica
SELECT row, dead FROM replica WHERE locked_by = ?1

-- name: beat
UPDATE replica SET address = ?2, draining = ?3, heartbeat_at = ?4, published = ?5 WHERE row = ?1 AND dead = 0

-- name: turns_seen
SELECT r.turns_seen, s.turns_change FROM replica r, state s WHERE r.row = ?1

-- name: turns_of_others
SELECT executor, tenant, priority, turn FROM fair_turn WHERE change > ?1 AND teller <> ?2 LIMIT ?3

-- name: tell_turn
INSERT INTO fair_turn (executor, priority, tenant, turn, teller, change) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT DO UPDATE SET turn = excluded.turn, teller = excluded.teller, change = excluded.change
WHERE excluded.turn > turn

-- name: note_turns_seen
UPDATE replica SET turns_seen = ?2 WHERE row = ?1

-- name: note_turns_change
UPDATE state SET turns_change = ?1

-- name: count_turns
SELECT count(*) FROM fair_turn

-- name: forget_past_turns
DELETE FROM fair_turn WHERE tenant <> '' AND turn <= (SELECT v.turn FROM fair_turn v
	WHERE v.executor = fair_turn.executor AND v.priority = fair_turn.priority AND v.tenant = '')

-- name: forget_turns_of_tenants
DELETE FROM fair_turn WHERE tenant <> ''

-- name: count_replicas
SELECT count(*) FROM replica WHERE dead = 0 AND heartbeat_at >= ?1

-- name: cancelled_running
SELECT id FROM task WHERE place = 3 AND locked_by = ?1 AND cancel_requested_at > 0

-- name: expired_replicas
SELECT row, locked_by, published FROM replica WHERE dead = 0 AND heartbeat_at < ?1 AND locked_by <> ?2

-- name: lost_replicas
SELECT row, locked_by, published FROM replica WHERE dead = 1 AND dead_at >= ?1

-- name: bury
UPDATE replica SET dead = 1, dead_at = ?2 WHERE row = ?1

-- name: running_of_dead
SELECT t.row, t.locked_by FROM task t JOIN replica r ON r.locked_by = t.locked_by
WHERE t.place = 3 AND r.dead = 1 AND r.locked_by <> ?2 LIMIT ?1

-- name: running_of_others
SELECT row, locked_by FROM task WHERE place = 3 AND (locked_by < ?2 OR locked_by > ?2) LIMIT ?1

-- name: running_of
SELECT row, locked_by FROM task WHERE place = 3 AND locked_by = ?2 LIMIT ?1

-- name: take
UPDATE task SET locked_by = ?2, updated_at = ?3 WHERE row = ?1

-- name: stored_output
SELECT offset + size FROM output WHERE task = ?1 AND attempt = ?2 ORDER BY offset DESC LIMIT 1

-- name: trim_candidates
SELECT row, tenant, status FROM task WHERE place = 0 AND finished_at < ?1 ORDER BY finished_at LIMIT ?2

-- name: last_event_of
SELECT max(position) FROM event WHERE task = ?1

-- name: delete_events
DELETE FROM event WHERE task = ?1

-- name: delete_output
DELETE FROM output WHERE task = ?1

-- name: delete_input
DELETE FROM task_input WHERE task = ?1

-- name: delete_task
DELETE FROM task WHERE row = ?1

-- name: note_trimmed
UPDATE state SET trimmed = max(trimmed, ?1)

-- name: forget_replicas
DELETE FROM replica WHERE dead = 1 AND dead_at < ?1

-- name: last_position
SELECT max((SELECT coalesce(max(position), 0) FROM event), (SELECT trimmed FROM state))

-- name: probe
UPDATE state SET probe = zeroblob(?1)

-- name: callback_of
SELECT callback_url FROM task_input WHERE task = ?1 AND callback_url IS NOT NULL

-- name: insert_delivery
INSERT INTO delivery (task, run, created_at, due_at, origin) VALUES (?1, ?2, ?3, ?3, ?4) ON CONFLICT DO NOTHING

-- name: next_origin
SELECT origin, due_at FROM delivery WHERE status = 0 AND origin > ?1 ORDER BY origin, due_at LIMIT 1

-- name: first_due
SELECT due_at FROM delivery WHERE status = 0 AND origin = ?1 ORDER BY due_at LIMIT 1

-- name: due_deliveries
SELECT row FROM delivery WHERE status = 0 AND origin = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3

-- name: claim_delivery
UPDATE delivery SET attempt = attempt + 1, locked_by = ?2, due_at = ?3 WHERE row = ?1

-- name: delivery_by_row
SELECT t.id, d.run, d.attempt, d.attempts, d.created_at, d.origin, i.callback_url
FROM delivery d CROSS JOIN task t ON t.row = d.task CROSS JOIN task_input i ON i.task = d.task WHERE d.row = ?1

-- name: count_deliveries
SELECT count(*) FROM (SELECT 1 FROM delivery WHERE status = 0 LIMIT ?1)

-- name: delivery_of
SELECT d.row, d.status, d.attempt, d.locked_by FROM task t CROSS JOIN delivery d ON d.task = t.row
WHERE t.id = ?1 AND d.run = ?2

-- name: find_attempt
SELECT 1 FROM delivery_attempt WHERE delivery = ?1 AND attempt = ?2

-- name: insert_attempt
INSERT INTO delivery_attempt (delivery, attempt, at, duration, http_status, error) VALUES (?1, ?2, ?3, ?4, ?5, ?6)

-- name: settle_delivery
UPDATE delivery SET status = ?2, due_at = ?3, attempts = attempts + ?4, locked_by = NULL WHERE row = ?1

-- name: release_deliveries
UPDATE delivery SET due_at = min(due_at, ?1), locked_by = NULL WHERE status = 0 AND locked_by IS NOT NULL

-- name: delete_delivery_attempts
DELETE FROM delivery_attempt WHERE delivery IN (SELECT row FROM delivery WHERE task = ?1)

-- name: delete_deliveries
DELETE FROM delivery WHERE task = ?1
