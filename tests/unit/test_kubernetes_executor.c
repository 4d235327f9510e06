/* The executor against an API server of the test's own: what it counts, whom it tells and how often, deadlines in their order, and what
 * lists show. How attempts end is in test_kubernetes_account.c, and, with a real server, in the Python tests. */
#include <errno.h>

#include "executor/kubernetes/kubernetes.h"
#include "kube_world.h"
#include "task/job_name.h"
#include "task/language.h"

#define JOBS_MAX 8
#define TASK "01934a00-0102-7003-8004-05060708090%d"
#define STATE_OF(state) "\"containerStatuses\":[{\"name\":\"evaluation\",\"state\":{" state "}}]"
#define RUNNING STATE_OF("\"running\":{\"startedAt\":\"2024-01-01T00:00:00Z\"}")
#define PREPARING STATE_OF("\"waiting\":{\"reason\":\"ContainerCreating\"}")
#define STUCK STATE_OF("\"waiting\":{\"reason\":\"ErrImagePull\",\"message\":\"no such image\"}")

static struct scene {
	struct languages *languages;
	struct executor *executor;
	struct job jobs[JOBS_MAX];
	char names[JOBS_MAX][JOB_NAME_SIZE];
	struct job_run run;
	struct job_file file;
	/* What the server has. */
	const char *listed; /* the items of each list of Jobs */
	int pods; /* index in w.open of the pods' watch */
	bool watched; /* both watches have begun */
	int watches, posts, deletes, lists;
	/* What the coordinator was told. */
	size_t changes, started, ended, found;
	struct job *ended_jobs[JOBS_MAX];
	enum task_reason reasons[JOBS_MAX];
	struct uuid found_id;
	uint64_t turn, told_turn; /* of the loop */
	uv_prepare_t prepare;
	bool stopped;
} s;

/* ---- the server ---- */

static bool path_ends(const struct http_request *request, const char *end)
{
	size_t len = strlen(end);
	return request->path.len >= len && memcmp(request->path.data + request->path.len - len, end, len) == 0;
}

static void answer_get(struct http_exchange *exchange, const struct http_request *request)
{
	bool pods = path_ends(request, "/pods");
	char text[2048];
	if (memmem(request->path.data, request->path.len, "/jobs/", 6)) {
		respond(exchange, 200, "{\"metadata\":{\"uid\":\"u\"}}");
		return;
	}
	if (memmem(request->query.data, request->query.len, "watch=1", 7)) {
		http_stream_start(exchange, 200, "application/json", NULL, 0);
		int index = keep_open(exchange);
		s.pods = pods ? index : s.pods;
		s.watched = ++s.watches == 2;
		return;
	}
	s.lists += !pods;
	snprintf(text, sizeof(text), "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[%s]}",
		!pods && s.listed ? s.listed : "");
	respond(exchange, 200, text);
}

static void answer_all(struct http_exchange *exchange, const struct http_request *request)
{
	if (request->method == HTTP_METHOD_GET) {
		answer_get(exchange, request);
	} else if (request->method == HTTP_METHOD_POST) {
		s.posts++;
		respond(exchange, 201, "{\"metadata\":{\"uid\":\"u\"}}");
	} else {
		s.deletes++;
		respond(exchange, 200, "{}");
	}
}

/* Of a pod of each of the jobs named, in one piece. */
static void pods_become(const int *jobs, const char *const *statuses, size_t count)
{
	struct buffer text = { 0 };
	char task[UUID_TEXT_SIZE];
	for (size_t i = 0; i < count; i++)
		buffer_printf(&text,
			"{\"type\":\"MODIFIED\",\"object\":{\"metadata\":{\"name\":\"p%d\",\"uid\":\"u%d\","
			"\"ownerReferences\":[{}],"
			"\"resourceVersion\":\"11\",\"labels\":{\"assay.dev/task\":\"%s\",\"assay.dev/"
			"attempt\":\"1\"}},"
			"\"spec\":{\"nodeName\":\"n\"},\"status\":{\"phase\":\"Pending\",%s}}}\n",
			jobs[i], jobs[i], uuid_format(&s.jobs[jobs[i]].task_id, task), statuses[i]);
	REQUIRE(s.pods >= 0 && w.open[s.pods]);
	http_stream_write(w.open[s.pods], buffer_bytes(&text));
	buffer_fini(&text);
}

/* ---- the coordinator ---- */

static void on_started(void *owner, struct job *job, const struct job_started *started)
{
	s.started++;
}

static void on_ended(void *owner, struct job *job, const struct job_end *end)
{
	REQUIRE(s.ended < JOBS_MAX);
	s.reasons[s.ended] = end->reason;
	s.ended_jobs[s.ended++] = job;
}

static void on_changed(void *owner, struct executor *executor)
{
	CHECK(s.told_turn != s.turn); /* once a turn, whatever has happened in it */
	s.told_turn = s.turn;
	s.changes++;
}

static void on_found(void *owner, struct executor *executor, const struct uuid *task_id, int attempt)
{
	CHECK_INT(attempt, 1);
	s.found_id = *task_id;
	if (s.found++ == 0)
		executor->ops->discard(executor, task_id, attempt);
}

static const struct executor_listener listener = {
	.on_started = on_started, .on_ended = on_ended, .on_changed = on_changed, .on_found = on_found
};

/* ---- its life ---- */

static void on_prepare(uv_prepare_t *prepare)
{
	s.turn++;
}

static void job_init(int index)
{
	struct job *job = &s.jobs[index];
	char task[UUID_TEXT_SIZE];
	snprintf(task, sizeof(task), TASK, index);
	*job = (struct job){ .run = 1,
		.attempt = 1,
		.type = BYTES_LITERAL("evaluation"),
		.language = BYTES_LITERAL("python"),
		.files = &s.file,
		.file_count = 1,
		.runs = &s.run,
		.run_count = 1,
		.limits = { .memory_bytes = 64 << 20,
			.cpu_millis = 500,
			.total_timeout_us = 60 * US_PER_S,
			.output_bytes = 1 << 20 } };
	REQUIRE(uuid_parse(bytes_of(task), &job->task_id));
	job->name = bytes_of(job_name_format(&job->task_id, 1, s.names[index]));
}

static const struct executor_status *status(void)
{
	return s.executor->ops->status(s.executor);
}

static int free_slots(void)
{
	return status()->slots - status()->busy;
}

static void begin(struct kubernetes_executor_options options, const char *listed)
{
	struct err err = { 0 };
	s = (struct scene){ .pods = -1, .listed = listed, .told_turn = UINT64_MAX };
	world_open(answer_all);
	uv_prepare_init(&w.loop, &s.prepare);
	uv_prepare_start(&s.prepare, on_prepare);
	uv_unref((uv_handle_t *)&s.prepare);
	REQUIRE(languages_parse(languages_builtin(), "built-in", &s.languages, &err) == 0);
	s.file = (struct job_file){ BYTES_LITERAL("main.py"), BYTES_LITERAL("print(1)") };
	s.run = (struct job_run){ .timeout_us = 10 * US_PER_S };
	for (int i = 0; i < JOBS_MAX; i++)
		job_init(i);
	options.loop = &w.loop;
	options.log = &w.log;
	options.languages = s.languages;
	options.access = (struct kube_access_options){ .loop = &w.loop, .url = w.url };
	options.manifest.namespace = "crucible";
	options.manifest.instance = "main";
	options.manifest.wrapper_path = "/usr/bin/assay-wrap";
	options.manifest.user_id = 10001;
	options.manifest.keep_us = 86400 * US_PER_S;
	if (options.manifest.start_timeout_us == 0)
		options.manifest.start_timeout_us = 300 * US_PER_S;
	options.key = BYTES_LITERAL("key");
	s.executor = kubernetes_executor_new(&options, &err);
	REQUIRE(s.executor);
	REQUIRE(s.executor->ops->start(s.executor, &listener, NULL, &err) == 0);
	RUN_UNTIL(s.watched && status()->health == EXECUTOR_HEALTHY);
}

/* So many of them, from `first` on: the Job and the Secret of each are there. */
static void run_jobs(int first, int count)
{
	struct job *jobs[JOBS_MAX];
	int posts = s.posts;
	for (int i = 0; i < count; i++)
		jobs[i] = &s.jobs[first + i];
	s.executor->ops->run(s.executor, jobs, (size_t)count);
	RUN_UNTIL(s.posts == posts + 2 * count);
}

static void on_stopped(void *owner)
{
	s.stopped = true;
}

static void done(void)
{
	s.executor->ops->stop(s.executor, on_stopped, NULL);
	run_until(&s.stopped);
	s.executor->ops->free(s.executor);
	languages_free(s.languages);
	uv_close((uv_handle_t *)&s.prepare, NULL);
	world_close();
}

/* ---- tests ---- */

TEST(starts_make_room_and_are_told_once)
{
	begin((struct kubernetes_executor_options){ .slots = 5, .starting_max = 3 }, NULL);
	CHECK_INT(free_slots(), 3);
	run_jobs(0, 3);
	CHECK_INT(status()->busy, 3);
	CHECK_INT(free_slots(), 0);
	size_t changes = s.changes;
	pods_become((const int[]){ 0, 1, 2 }, (const char *const[]){ RUNNING, RUNNING, RUNNING }, 3);
	RUN_UNTIL(s.started == 3 && s.changes > changes);
	CHECK_INT(free_slots(), 2); /* five in all */
	changes = s.changes;
	pods_become((const int[]){ 0, 1, 2 }, (const char *const[]){ RUNNING, RUNNING, RUNNING }, 3);
	run_jobs(3, 1);
	CHECK_INT(free_slots(), 1);
	CHECK_INT(s.changes, changes); /* nothing has become free */
	done();
}

TEST(deadlines_end_in_their_order)
{
	begin((struct kubernetes_executor_options){ .slots = 5,
		      .starting_max = 5,
		      .image_grace_us = 300 * US_PER_MS,
		      .manifest.start_timeout_us = 10 * US_PER_MS },
		NULL);
	run_jobs(0, 4);
	pods_become((const int[]){ 0, 1, 2, 3, 2 },
		(const char *const[]){ STUCK, PREPARING, PREPARING, STUCK, RUNNING }, 5);
	RUN_UNTIL(s.ended == 3);
	CHECK(s.ended_jobs[0] == &s.jobs[1]);
	CHECK_INT(s.reasons[0], REASON_START_TIMEOUT);
	CHECK(s.ended_jobs[1] == &s.jobs[0] || s.ended_jobs[1] == &s.jobs[3]);
	CHECK_INT(s.reasons[1], REASON_IMAGE_PULL);
	CHECK_INT(s.reasons[2], REASON_IMAGE_PULL);
	CHECK_INT(status()->busy, 1);
	CHECK_INT(s.deletes, 0); /* not before it is in the store; and one is another's */
	s.executor->ops->disown(s.executor, &s.ended_jobs[0]->task_id, s.ended_jobs[0]->attempt);
	for (int i = 1; i < 3; i++)
		s.executor->ops->settled(s.executor, &s.ended_jobs[i]->task_id, s.ended_jobs[i]->attempt);
	RUN_UNTIL(s.deletes == 2);
	done();
}

TEST(what_another_has_taken_up_ends_here_and_may_be_taken_up_again)
{
	begin((struct kubernetes_executor_options){ .slots = 5, .starting_max = 5 }, NULL);
	run_jobs(0, 2);
	pods_become((const int[]){ 0, 1 }, (const char *const[]){ RUNNING, RUNNING }, 2);
	RUN_UNTIL(s.started == 2);
	s.executor->ops->disown(s.executor, &s.jobs[0].task_id, 1);
	s.jobs[2].task_id = s.jobs[0].task_id; /* taken up under another name while the first has not ended here yet */
	s.executor->ops->adopt(s.executor, &s.jobs[2]);
	s.executor->ops->disown(s.executor, &s.jobs[2].task_id, 1);
	RUN_UNTIL(s.ended == 2);
	CHECK(s.ended_jobs[0] == &s.jobs[0]);
	CHECK(s.ended_jobs[1] == &s.jobs[2]);
	CHECK_INT(s.reasons[0], REASON_EXECUTOR_LOST);
	s.executor->ops->settled(s.executor, &s.jobs[0].task_id, 1); /* nobody's */
	CHECK_INT(status()->busy, 1);
	CHECK_INT(s.deletes, 0);
	done();
}

TEST(an_attempt_whose_job_two_lists_do_not_name_is_lost)
{
	begin((struct kubernetes_executor_options){ .slots = 5, .starting_max = 5, .reconcile_us = US_PER_MS }, NULL);
	run_jobs(0, 2);
	RUN_UNTIL(s.ended == 2);
	CHECK_INT(s.reasons[0], REASON_DELETED);
	CHECK_INT(s.reasons[1], REASON_DELETED);
	done();
}

#define LISTED(task, more) \
	"{\"metadata\":{\"name\":\"x\"" more ",\"labels\":{\"assay.dev/task\":\"" task \
	"\",\"assay.dev/attempt\":\"1\"}}}"
#define STRANGE "01934a00-0102-7003-8004-0506070809ff"
#define GOING "01934a00-0102-7003-8004-0506070809fe"
#define OURS "01934a00-0102-7003-8004-050607080900"

/* A Job that goes already is nobody's business, nor is one that is no attempt's. */
TEST(a_job_that_is_not_tracked_is_told_and_what_is_discarded_is_deleted)
{
	struct uuid strange;
	REQUIRE(uuid_parse(BYTES_LITERAL(STRANGE), &strange));
	begin((struct kubernetes_executor_options){ .slots = 5, .starting_max = 5, .reconcile_us = US_PER_MS },
		LISTED(STRANGE, "") "," LISTED(GOING, ",\"deletionTimestamp\":\"2024-01-01T00:00:00Z\"") "," LISTED(
			OURS, "") ",{\"metadata\":{\"name\":\"y\"}},7");
	RUN_UNTIL(s.deletes == 1);
	char path[128], name[JOB_NAME_SIZE];
	snprintf(path, sizeof(path), "DELETE /apis/batch/v1/namespaces/crucible/jobs/%s",
		job_name_format(&strange, 1, name));
	CHECK(memmem(w.seen.data, w.seen.len, path, strlen(path)) != NULL);
	/* It is told again with each list, until it has gone; ours is, once it is tracked, no more. */
	run_jobs(0, 1);
	int lists = s.lists;
	RUN_UNTIL(s.lists >= lists + 2);
	size_t found = s.found;
	RUN_UNTIL(s.found >= found + 3);
	CHECK_INT(uuid_compare(&s.found_id, &strange), 0);
	CHECK_INT(s.ended, 0);
	CHECK_INT(s.deletes, 1);
	done();
}

/* By two lists it has ended, while the watch of pods says nothing: it is asked for, and a third list is enough. */
TEST(an_end_that_nobody_can_tell)
{
	begin((struct kubernetes_executor_options){ .slots = 5, .starting_max = 5, .reconcile_us = US_PER_MS },
		"{\"metadata\":{\"name\":\"x\",\"labels\":{\"assay.dev/task\":\"" OURS
		"\",\"assay.dev/attempt\":\"1\"}},"
		"\"status\":{\"conditions\":[{\"type\":\"Suspended\",\"status\":\"True\"},{\"type\":\"Complete\","
		"\"status\":\"True\"}]}}");
	s.found = 1; /* it is known from the first list, and not discarded */
	run_jobs(0, 1);
	RUN_UNTIL(s.ended == 1);
	CHECK_INT(s.reasons[0], REASON_DELETED);
	static const char asked[] = "GET /apis/batch/v1/namespaces/crucible/jobs/eval-";
	CHECK(memmem(w.seen.data, w.seen.len, asked, sizeof(asked) - 1) != NULL);
	done();
}

TEST_MAIN()
