-- What the LISTEN connection runs before anything else, in one transaction around the migrations. Errors raised here are for the
-- operator's eyes.

-- name: version
DO $do$ BEGIN
	IF current_setting('server_version_num')::integer < 130000 THEN
		RAISE EXCEPTION 'PostgreSQL % is too old: 13 is the oldest that serves', current_setting('server_version');
	END IF;
	IF NOT current_setting('server_encoding') = 'UTF8' THEN
		RAISE EXCEPTION 'the database''s encoding is %, it must be UTF8', current_setting('server_encoding');
	END IF;
END $do$

-- name: schema
DO $do$ BEGIN
	IF to_regnamespace('assay') IS NULL THEN
		CREATE SCHEMA "assay";
	ELSIF NOT has_schema_privilege('assay', 'USAGE') THEN
		RAISE EXCEPTION 'user % has no right to use schema %: grant USAGE on it', current_user, $name$assay$name$;
	END IF;
	IF to_regclass('assay.migrations') IS NULL THEN
		CREATE TABLE assay.migrations (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());
		CREATE TABLE assay.columns (relation text, name text, type text, PRIMARY KEY (relation, name));
	END IF;
END $do$

-- name: recorded
DO $do$ DECLARE m record; BEGIN
	FOR m IN SELECT number, count(*) AS times FROM assay.migrations GROUP BY number HAVING count(*) > 1 LOOP
		RAISE EXCEPTION 'migration % of schema % is recorded % times: it was altered by hand', m.number, $name$assay$name$, m.times;
	END LOOP;
	FOR m IN SELECT n FROM generate_series(1, (SELECT max(number) FROM assay.migrations)) n
		WHERE n NOT IN (SELECT number FROM assay.migrations) LOOP
		RAISE EXCEPTION 'migration % of schema % is not recorded, a later one is: it was altered by hand', m.n, $name$assay$name$;
	END LOOP;
END $do$

-- name: columns
DO $do$ DECLARE c record; BEGIN
	FOR c IN
		SELECT e.relation, e.name, e.type, format_type(a.atttypid, a.atttypmod) AS found
		FROM assay.columns e LEFT JOIN pg_attribute a ON a.attrelid = to_regclass('assay.' || e.relation) AND
			a.attname = e.name AND NOT a.attisdropped
		WHERE e.type NOT IN ('index', 'unique index') AND format_type(a.atttypid, a.atttypmod) IS DISTINCT FROM e.type
		ORDER BY 1, 2 LIMIT 1
	LOOP
		RAISE EXCEPTION 'table %.% was altered by hand: column % is %, it should be %', $name$assay$name$, c.relation, c.name,
			coalesce(c.found, 'missing'), c.type;
	END LOOP;
	FOR c IN
		SELECT e.relation, e.name, e.type FROM assay.columns e
		LEFT JOIN pg_index i ON i.indexrelid = to_regclass('assay.' || e.name) AND
			i.indrelid = to_regclass('assay.' || e.relation) AND i.indisvalid AND
			i.indisunique = (e.type = 'unique index')
		WHERE e.type IN ('index', 'unique index') AND i.indexrelid IS NULL ORDER BY 1, 2 LIMIT 1
	LOOP
		RAISE EXCEPTION 'table %.% was altered by hand: its % % is missing', $name$assay$name$, c.relation, c.type, c.name;
	END LOOP;
	FOR c IN SELECT DISTINCT relation FROM assay.columns
		WHERE NOT has_table_privilege(to_regclass('assay.' || relation), 'SELECT') OR
			(relation <> 'celery_taskmeta' AND NOT (
				has_table_privilege(to_regclass('assay.' || relation), 'INSERT') AND
				has_table_privilege(to_regclass('assay.' || relation), 'UPDATE') AND
				has_table_privilege(to_regclass('assay.' || relation), 'DELETE')))
	LOOP
		RAISE EXCEPTION 'user % may not read and write table %.%: grant SELECT, INSERT, UPDATE and DELETE on it', current_user,
			$name$assay$name$, c.relation;
	END LOOP;
END $do$

-- A dump that was loaded into another cluster brings events of transactions that this one has not reached yet: they would lie ahead of all that
-- is written from now on. They get the place of the oldest, in their order; what had been read or trimmed is not known any more.
-- name: restored
DO $do$ BEGIN
	IF (SELECT xid FROM assay.events ORDER BY xid DESC LIMIT 1) >= pg_snapshot_xmax(pg_current_snapshot()) OR
		(SELECT trimmed_xid FROM assay.state) >= pg_snapshot_xmax(pg_current_snapshot()) THEN
		LOCK TABLE assay.events IN SHARE ROW EXCLUSIVE MODE;
		UPDATE assay.events e SET xid = '1', id = o.number
		FROM (SELECT task_id, sequence, sum(size) OVER (ORDER BY xid, id) AS number
			FROM assay.events) o
		WHERE e.task_id = o.task_id AND e.sequence = o.sequence;
		UPDATE assay.state SET trimmed_xid = '0', trimmed_id = 0;
	END IF;
END $do$

-- After a migration: what the tables look like now.
-- name: note_columns
INSERT INTO assay.columns (relation, name, type)
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = to_regnamespace('assay') AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped AND
	c.relname NOT IN ('migrations', 'columns')
UNION ALL
SELECT c.relname, x.relname, CASE WHEN i.indisunique THEN 'unique index' ELSE 'index' END
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace('assay') AND c.relname NOT IN ('migrations', 'columns')
ON CONFLICT (relation, name) DO UPDATE SET type = excluded.type

-- name: compat_views
DO $do$ BEGIN
	IF to_regclass('public.tasks') IS NULL THEN
		CREATE VIEW public.tasks AS SELECT * FROM assay.tasks;
	END IF;
	IF to_regclass('public.celery_taskmeta') IS NULL THEN
		CREATE VIEW public.celery_taskmeta AS SELECT * FROM assay.celery_taskmeta;
	END IF;
END $do$
