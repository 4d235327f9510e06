-- Programs that know only what came before would miss the start of what began and ended by one settlement. None is there: 003 keeps those of
-- 002 off, and no other was released.

-- Where one settlement tells both that an attempt began and what came of it, that is one row: `began` and `began_data` are the time and the
-- members of the `running` event, whose sequence and id are those before the row's own; `size` is 2.
ALTER TABLE assay.events ADD began timestamptz, ADD began_data json;

-- A trigger before an update has each row locked once more, be it for nothing: what those who write by hand leave out is added behind
-- their statement instead.
DROP TRIGGER IF EXISTS tasks_updated_at ON assay.tasks;
CREATE OR REPLACE FUNCTION assay.touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
	UPDATE assay.tasks SET updated_at = now() WHERE id = NEW.id;
	RETURN NULL;
END
$body$;
CREATE TRIGGER tasks_updated_at AFTER UPDATE ON assay.tasks FOR EACH ROW
	WHEN (NEW.updated_at = OLD.updated_at AND NEW.updated_at <> now()) EXECUTE FUNCTION assay.touch();

-- Celery sets date_done with every change of a result, and its clients sort by it: NULLs would come before all that has ended.
CREATE OR REPLACE VIEW assay.celery_taskmeta AS
SELECT
	id::text AS task_id,
	CASE status WHEN 'QUEUED' THEN 'PENDING' WHEN 'RUNNING' THEN 'STARTED' WHEN 'COMPLETED' THEN 'SUCCESS'
		WHEN 'FAILED' THEN 'FAILURE' WHEN 'RETRY' THEN 'RETRY' ELSE 'REVOKED' END AS status,
	result,
	(coalesce(finished_at, updated_at) AT TIME ZONE 'UTC') AS date_done,
	error AS traceback,
	'ctutor_backend.tasks.' || type AS name,
	params AS kwargs,
	locked_by AS worker,
	attempts AS retries,
	queue
FROM assay.tasks;
