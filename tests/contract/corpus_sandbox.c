/* Runs tests/corpus through the sandbox executor, several at a time, so that the hostile ones have company. Arguments:
 * the program assay-launch, the corpus, and names of cases if not all are wanted. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/text.h"
#include "drive.h"
#include "executor/sandbox/sandbox.h"
#include "task/evaluation.h"
#include "task/lifecycle.h"

#define CASES_MAX 256
#define SLOTS 4

struct corpus_case {
	char *name;
	yyjson_doc *doc; /* case.json */
	yyjson_doc *body; /* the request, whole */
	struct arena arena;
	struct driven driven;
	struct job_run *runs;
	bool submitted, judged;
};

static void die(const char *what, const char *which)
{
	printf("Bail out! %s: %s\n", what, which);
	exit(1);
}

static void read_whole(const char *path, struct buffer *buffer)
{
	FILE *file = fopen(path, "rb");
	if (!file)
		die("cannot read", path);
	char part[4096];
	size_t n;
	while ((n = fread(part, 1, sizeof(part), file)) > 0)
		buffer_append(buffer, part, n);
	fclose(file);
}

static void add_files(yyjson_mut_doc *doc, yyjson_mut_val *files, const char *directory, const char *prefix)
{
	DIR *dir = opendir(directory);
	if (!dir)
		die("cannot read", directory);
	struct dirent *entry;
	while ((entry = readdir(dir))) {
		char path[1024], name[512];
		struct stat st;
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		snprintf(name, sizeof(name), "%s%s", prefix, entry->d_name);
		if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
			size_t len = strlen(name);
			snprintf(name + len, sizeof(name) - len, "/");
			add_files(doc, files, path, name);
			continue;
		}
		struct buffer content = BUFFER_MAX(8 << 20), encoded = BUFFER_MAX(16 << 20);
		read_whole(path, &content);
		base64_append(&encoded, buffer_bytes(&content));
		yyjson_mut_val *file = yyjson_mut_arr_add_obj(doc, files);
		yyjson_mut_obj_add_strcpy(doc, file, "path", name);
		yyjson_mut_obj_add_strncpy(doc, file, "content", encoded.len ? encoded.data : "", encoded.len);
		yyjson_mut_obj_add_str(doc, file, "encoding", "base64");
		buffer_fini(&content);
		buffer_fini(&encoded);
	}
	closedir(dir);
}

/* The request with its files, written out and read again as the API would. */
static void make_body(struct corpus_case *one, const char *directory)
{
	char path[1024];
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *body = yyjson_val_mut_copy(doc, yyjson_obj_get(yyjson_doc_get_root(one->doc), "request"));
	yyjson_mut_doc_set_root(doc, body);
	snprintf(path, sizeof(path), "%s/files", directory);
	add_files(doc, yyjson_mut_obj_add_arr(doc, body, "files"), path, "");
	size_t len;
	char *text = yyjson_mut_write(doc, 0, &len);
	one->body = text ? yyjson_read(text, len, 0) : NULL;
	free(text);
	yyjson_mut_doc_free(doc);
	if (!one->body)
		die("cannot make a body", one->name);
}

static void make_job(struct corpus_case *one)
{
	static const struct evaluation_limits limits = { .source_max = 2 << 20,
		.timeout_max_us = 3600 * US_PER_S,
		.memory_max = INT64_MAX,
		.cpu_max = INT64_MAX,
		.max_attempts_max = 25,
		.max_attempts_default = 3,
		.priority_default = 5,
		.timeout_default_us = 60 * US_PER_S };
	struct evaluation_request request = { 0 };
	struct field_errors errors = { 0 };
	if (!evaluation_read(yyjson_doc_get_root(one->body), "", &limits, &one->arena, &request, &errors))
		die(errors.items[0].detail, one->name);
	const struct evaluation *evaluation = &request.evaluation;
	driven_init(&one->driven, "", "");
	struct job *job = &one->driven.job;
	job->language = evaluation->language;
	job->entrypoint = evaluation->entrypoint;
	job->files = evaluation->files;
	job->file_count = evaluation->file_count;
	job->env = evaluation->env;
	job->env_count = evaluation->env_count;
	job->limits.memory_bytes = evaluation->memory_bytes;
	job->limits.cpu_millis = evaluation->cpu_millis;
	job->limits.compile_timeout_us = evaluation->timeout_us;
	job->limits.disk_bytes = INT64_C(256) << 20;
	job->run_count = evaluation->test_count > 0 ? evaluation->test_count : 1;
	one->runs = arena_array(&one->arena, job->run_count, sizeof(*one->runs));
	one->runs[0] = (struct job_run){ .stdin_data = evaluation->stdin_data,
		.args = evaluation->args,
		.arg_count = evaluation->arg_count,
		.timeout_us = evaluation->timeout_us };
	for (size_t i = 0; i < evaluation->test_count; i++)
		one->runs[i] = evaluation->tests[i].run;
	job->runs = one->runs;
}

/* ---- what is expected ---- */

static bool wrong(const char *what, const char *wanted, const char *found)
{
	printf("# %s: wanted %.200s, found %.200s\n", what, wanted, found);
	return false;
}

static bool word_fits(const char *what, yyjson_val *wanted, const char *found)
{
	size_t index, max;
	yyjson_val *word;
	if (!wanted)
		return true;
	if (yyjson_is_null(wanted))
		return !found || wrong(what, "none", found);
	if (!found)
		return wrong(what, "something", "none");
	if (yyjson_is_str(wanted))
		return strcmp(yyjson_get_str(wanted), found) == 0 || wrong(what, yyjson_get_str(wanted), found);
	yyjson_arr_foreach(wanted, index, max, word)
	{
		if (strcmp(yyjson_get_str(word), found) == 0)
			return true;
	}
	return wrong(what, "one of several", found);
}

static bool number_fits(const char *what, yyjson_val *wanted, int64_t found)
{
	char text[2][32];
	if (!wanted || yyjson_get_sint(wanted) == found)
		return true;
	snprintf(text[0], 32, "%lld", (long long)yyjson_get_sint(wanted));
	snprintf(text[1], 32, "%lld", (long long)found);
	return wrong(what, text[0], text[1]);
}

static bool text_fits(const char *what, yyjson_val *wanted, struct bytes found)
{
	if (!wanted ||
		(yyjson_get_len(wanted) == found.len && memcmp(yyjson_get_str(wanted), found.data, found.len) == 0))
		return true;
	char text[256];
	snprintf(text, sizeof(text), "%.*s", (int)found.len, found.data);
	return wrong(what, yyjson_get_str(wanted), text);
}

static bool contains(const char *what, yyjson_val *wanted, struct bytes found)
{
	size_t index, max;
	yyjson_val *word;
	bool fits = true;
	yyjson_arr_foreach(wanted, index, max, word)
	{
		if (found.len == 0 || !memmem(found.data, found.len, yyjson_get_str(word), yyjson_get_len(word)))
			fits = wrong(what, yyjson_get_str(word), "not in it");
	}
	return fits;
}

static bool runs_fit(yyjson_val *wanted, const struct driven *driven)
{
	size_t index, max, at = 0;
	yyjson_val *run;
	bool fits = true;
	yyjson_arr_foreach(wanted, index, max, run)
	{
		while (at < driven->step_count && driven->steps[at].end.kind == STEP_COMPILE)
			at++;
		if (at >= driven->step_count)
			return wrong("runs", "more", "fewer");
		const struct drive_step *step = &driven->steps[at++];
		fits &= text_fits("stdout of a run", yyjson_obj_get(run, "stdout"), buffer_bytes(&step->streams[0]));
		fits &= number_fits("exit code of a run", yyjson_obj_get(run, "exit_code"), step->end.exit_code);
	}
	return fits;
}

static bool judge(struct corpus_case *one)
{
	struct driven *driven = &one->driven;
	yyjson_val *expect = yyjson_obj_get(yyjson_doc_get_root(one->doc), "expect");
	struct buffer streams[2] = { BUFFER_MAX(64 << 20), BUFFER_MAX(64 << 20) }, encoded = BUFFER_MAX(16 << 20);
	bool fits = true, truncated = false;
	if (driven->broken)
		fits = wrong("the contract", "kept", driven->broken);
	if (driven->end.reason != REASON_NONE)
		fits = wrong("the end", "every step reported", driven->end.message);
	const struct step_end *last = NULL, *worst = NULL;
	for (size_t i = 0; i < driven->step_count; i++) {
		last = &driven->steps[i].end;
		if (!worst && last->reason != REASON_NONE)
			worst = last;
		for (int k = 0; k < 2; k++)
			buffer_append_bytes(&streams[k], buffer_bytes(&driven->steps[i].streams[k]));
		truncated = truncated || last->stdout_truncated || last->stderr_truncated;
	}
	if (!last)
		return wrong("steps", "some", "none");
	last = worst ? worst : last;
	enum task_phase phase =
		task_phase_of(last->reason == REASON_NONE ? TASK_COMPLETED : TASK_FAILED, last->reason, last->at_us);
	fits &= word_fits("phase", yyjson_obj_get(expect, "phase"), task_phase_name(phase));
	fits &= word_fits("reason", yyjson_obj_get(expect, "reason"), task_reason_name(last->reason));
	fits &= number_fits("exit_code", yyjson_obj_get(expect, "exit_code"), last->exit_code);
	fits &= number_fits("signal", yyjson_obj_get(expect, "signal"), last->signal);
	fits &= text_fits("stdout", yyjson_obj_get(expect, "stdout"), buffer_bytes(&streams[0]));
	fits &= text_fits("stderr", yyjson_obj_get(expect, "stderr"), buffer_bytes(&streams[1]));
	base64_append(&encoded, buffer_bytes(&streams[0]));
	fits &= text_fits("stdout", yyjson_obj_get(expect, "stdout_base64"), buffer_bytes(&encoded));
	fits &= contains("stdout", yyjson_obj_get(expect, "stdout_contains"), buffer_bytes(&streams[0]));
	fits &= contains("stderr", yyjson_obj_get(expect, "stderr_contains"), buffer_bytes(&streams[1]));
	fits &= number_fits("length of stdout", yyjson_obj_get(expect, "stdout_length"), (int64_t)streams[0].len);
	fits &= number_fits("length of stderr", yyjson_obj_get(expect, "stderr_length"), (int64_t)streams[1].len);
	if (yyjson_obj_get(expect, "truncated") && yyjson_get_bool(yyjson_obj_get(expect, "truncated")) != truncated)
		fits = wrong("truncated", "otherwise", "this");
	fits &= runs_fit(yyjson_obj_get(expect, "runs"), driven);
	if (!fits)
		printf("# stdout: %.*s\n# stderr: %.*s\n", (int)(streams[0].len < 800 ? streams[0].len : 800),
			streams[0].data, (int)(streams[1].len < 800 ? streams[1].len : 800), streams[1].data);
	for (int k = 0; k < 2; k++)
		buffer_fini(&streams[k]);
	buffer_fini(&encoded);
	return fits;
}

/* ---- the whole ---- */

static void load(struct corpus_case *one, const char *corpus, const char *name)
{
	char directory[768], path[1024];
	struct buffer text = BUFFER_MAX(1 << 20);
	snprintf(directory, sizeof(directory), "%s/%s", corpus, name);
	snprintf(path, sizeof(path), "%s/case.json", directory);
	read_whole(path, &text);
	one->name = string_copy(name);
	one->doc = yyjson_read(text.data, text.len, 0);
	if (!one->doc)
		die("not JSON", path);
	buffer_fini(&text);
	make_body(one, directory);
	make_job(one);
}

/* Languages beyond the tested set need not be there, and rlimits do not tell every reason. */
static bool is_wanted(const struct corpus_case *one, const struct executor_status *status)
{
	yyjson_val *root = yyjson_doc_get_root(one->doc);
	if (yyjson_get_bool(yyjson_obj_get(root, "needs_cgroup")) &&
		memmem(status->isolation.data, status->isolation.len, "rlimits", 7))
		return false;
	if (!yyjson_get_bool(yyjson_obj_get(root, "optional")))
		return true;
	for (size_t i = 0; i < status->language_count; i++)
		if (bytes_equal(status->languages[i].name, one->driven.job.language))
			return status->languages[i].available;
	return false;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t list_cases(const char *corpus, char *names[CASES_MAX])
{
	DIR *dir = opendir(corpus);
	size_t count = 0;
	struct dirent *entry;
	if (!dir)
		die("cannot read", corpus);
	while ((entry = readdir(dir)) && count < CASES_MAX) {
		char path[1024];
		snprintf(path, sizeof(path), "%s/%s/case.json", corpus, entry->d_name);
		if (access(path, R_OK) == 0)
			names[count++] = string_copy(entry->d_name);
	}
	closedir(dir);
	qsort(names, count, sizeof(*names), compare_names);
	return count;
}

static void judge_ended(struct corpus_case *cases, size_t count, int *failed)
{
	for (size_t i = 0; i < count; i++) {
		struct corpus_case *one = &cases[i];
		if (!one->submitted || one->judged || !one->driven.ended)
			continue;
		one->judged = true;
		bool fits = judge(one);
		*failed += !fits;
		const struct step_end *last =
			one->driven.step_count ? &one->driven.steps[one->driven.step_count - 1].end : NULL;
		printf("%sok - %s\n", fits ? "" : "not ", one->name); /* they end in any order */
		if (last)
			printf("# wall %.3f s, cpu %.3f s, memory %.1f MiB\n", (double)last->usage.wall_us / 1e6,
				(double)last->usage.cpu_us / 1e6, (double)last->usage.memory_bytes / 1048576);
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	static struct corpus_case cases[CASES_MAX];
	static struct drive drive;
	char *names[CASES_MAX], state[] = "/tmp/assay-corpus-XXXXXX";
	struct log log = { .fd = 2, .level = LOG_WARNING };
	struct languages *languages;
	struct err err = { 0 };
	if (argc < 3)
		die("usage", "corpus_sandbox LAUNCHER CORPUS [CASE…]");
	if (!mkdtemp(state) || languages_parse(languages_builtin(), "languages", &languages, &err) < 0)
		die("cannot begin", err.message);
	size_t count = argc > 3 ? (size_t)argc - 3 : list_cases(argv[2], names);
	for (size_t i = 0; i < count; i++)
		load(&cases[i], argv[2], argc > 3 ? argv[i + 3] : names[i]);
	drive_open(&drive);
	struct sandbox_options options = { .loop = &drive.loop,
		.log = &log,
		.languages = languages,
		.launcher = argv[1],
		.state_dir = state,
		.slots = SLOTS };
	drive.executor = sandbox_executor_new(&options);
	if (drive_start(&drive, &err) < 0)
		die("cannot start", err.message);
	const struct executor_status *status = drive.executor->ops->status(drive.executor);
	if (status->health != EXECUTOR_HEALTHY) {
		printf("1..0 # SKIP %.*s\n", (int)status->detail.len, status->detail.data);
		drive_stop(&drive);
		return 0;
	}
	printf("1..%zu\n# %.*s\n", count, (int)status->isolation.len, status->isolation.data);
	int failed = 0;
	size_t next = 0;
	while (next < count || drive.open > 0) {
		while (next < count && drive.open < SLOTS) {
			struct corpus_case *one = &cases[next++];
			if (is_wanted(one, drive.executor->ops->status(drive.executor))) {
				one->submitted = true;
				drive_submit(&drive, &one->driven);
			} else {
				printf("ok - %s # SKIP not on this machine\n", one->name);
			}
		}
		int before = drive.open;
		while (before > 0 && drive.open == before)
			uv_run(&drive.loop, UV_RUN_ONCE);
		judge_ended(cases, count, &failed);
	}
	drive_stop(&drive);
	for (size_t i = 0; i < count; i++) {
		driven_fini(&cases[i].driven);
		arena_fini(&cases[i].arena);
		yyjson_doc_free(cases[i].doc);
		yyjson_doc_free(cases[i].body);
		free(cases[i].name);
		if (argc <= 3)
			free(names[i]);
	}
	languages_free(languages);
	rmdir(state);
	return failed > 0;
}
