/* See job.h. The plan comes from a trusted side, but what is inside was sized by a user: every length is checked
 * against what is there. */
#include "wrap/job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/write_all.h"
#include "launch/archive.h"

static int fail(char message[REPORT_MESSAGE_MAX], int error, const char *what)
{
	snprintf(message, REPORT_MESSAGE_MAX, "the plan: %s: %s", what, strerror(-error));
	return error;
}

static int malformed(char message[REPORT_MESSAGE_MAX], const char *what)
{
	snprintf(message, REPORT_MESSAGE_MAX, "the plan is malformed: %s", what);
	return -EBADMSG;
}

/* ---- unzipping ---- */

static int open_plan(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
		return fd;
	int inside = openat(fd, PLAN_FILE, O_RDONLY | O_CLOEXEC);
	close(fd);
	return inside;
}

/* A plan that is not zipped is known by its own first bytes. */
static int unzip(int from, int to)
{
	static unsigned char in[16384], out[32768];
	z_stream stream = { 0 };
	uint64_t total = 0;
	bool zipped = true, begun = false;
	int rc = 0, state = Z_OK;
	ssize_t n;
	while (rc == 0 && state != Z_STREAM_END && (n = read(from, in, sizeof(in))) != 0) {
		if (n < 0) {
			rc = errno == EINTR ? 0 : -errno;
			continue;
		}
		if (!begun) {
			begun = true;
			zipped = n < PLAN_TEXT_SIZE || memcmp(in, PLAN_TEXT, PLAN_TEXT_SIZE) != 0;
			if (zipped && inflateInit2(&stream, 15 + 16) != Z_OK)
				return -ENOMEM;
		}
		stream.next_in = in;
		stream.avail_in = (unsigned)n;
		do {
			unsigned have = (unsigned)n;
			const unsigned char *bytes = in;
			if (zipped) {
				stream.next_out = out;
				stream.avail_out = sizeof(out);
				state = inflate(&stream, Z_NO_FLUSH);
				if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR)
					rc = state == Z_MEM_ERROR ? -ENOMEM : -EBADMSG;
				have = sizeof(out) - stream.avail_out;
				bytes = out;
			}
			total += have;
			if (rc == 0)
				rc = total > PLAN_SIZE_MAX ? -E2BIG : write_all(to, bytes, have);
		} while (zipped && rc == 0 && state != Z_STREAM_END && stream.avail_out == 0);
	}
	if (begun && zipped)
		inflateEnd(&stream);
	return rc < 0 ? rc : !begun || (zipped && state != Z_STREAM_END) ? -EBADMSG : 0;
}

static int map_plan(struct job *job, const char *path)
{
	int from = open_plan(path);
	if (from < 0)
		return -errno;
	job->fd = memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc = job->fd < 0 ? -errno : unzip(from, job->fd);
	close(from);
	struct stat st = { 0 };
	if (rc == 0 &&
		(fstat(job->fd, &st) < 0 ||
			fcntl(job->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0))
		rc = -errno;
	if (rc < 0)
		return rc;
	job->len = (size_t)st.st_size;
	if (job->len < PLAN_TEXT_SIZE)
		return -EBADMSG;
	void *data = mmap(NULL, job->len, PROT_READ, MAP_PRIVATE, job->fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	job->data = data;
	return memcmp(data, PLAN_TEXT, PLAN_TEXT_SIZE) == 0 ? 0 : -EBADMSG;
}

/* ---- looking up ---- */

/* The record at *at, or false at the end or where it does not fit. */
static bool take(const struct job *job, size_t *at, size_t to, struct plan_record *ret_record, const char **ret_data)
{
	if (!job->data || to - *at < sizeof(*ret_record))
		return false;
	memcpy(ret_record, job->data + *at, sizeof(*ret_record));
	if (ret_record->length > to - *at - sizeof(*ret_record))
		return false;
	*ret_data = job->data + *at + sizeof(*ret_record);
	*at += sizeof(*ret_record) + ret_record->length;
	return true;
}

const char *job_next(const struct job *job, uint32_t kind, size_t *at, size_t to, size_t *ret_len)
{
	struct plan_record record;
	const char *data;
	while (take(job, at, to, &record, &data))
		if (record.kind == kind) {
			*ret_len = record.length;
			return data;
		}
	return NULL;
}

static size_t count(const struct job *job, uint32_t kind, size_t at, size_t to, size_t *ret_bytes)
{
	size_t found = 0, len;
	*ret_bytes = 0;
	while (job_next(job, kind, &at, to, &len)) {
		found++;
		*ret_bytes += len;
	}
	return found;
}

/* The records of a kind as strings in one piece of memory, with room for `more` pointers before the NULL. */
static char **strings(const struct job *job, uint32_t kind, size_t at, size_t to, size_t more)
{
	size_t bytes, found = count(job, kind, at, to, &bytes), len;
	char **list = malloc((found + more + 1) * sizeof(*list) + bytes + found), **next = list;
	if (!list)
		return NULL;
	char *text = (char *)(list + found + more + 1);
	for (const char *data; (data = job_next(job, kind, &at, to, &len));) {
		*next++ = text;
		memcpy(text, data, len);
		text[len] = 0;
		text += len + 1;
	}
	*next = NULL;
	return list;
}

char **job_words(const struct job *job, const struct job_step *step)
{
	return strings(job, PLAN_WORD, step->from, step->to, 0);
}

void job_forget(const struct job *job)
{
	madvise((void *)(uintptr_t)job->data, job->len, MADV_DONTNEED);
}

/* ---- reading ---- */

static bool is_set(char **env, const char *pair)
{
	size_t name = strcspn(pair, "=");
	for (; *env; env++)
		if (strncmp(*env, pair, name) == 0 && (*env)[name] == '=')
			return true;
	return false;
}

static int read_environment(struct job *job, char **inherited)
{
	size_t more = 0;
	bool inherit = job->settings.flags & PLAN_INHERIT;
	while (inherit && inherited[more])
		more++;
	job->env = strings(job, PLAN_ENV, PLAN_TEXT_SIZE, job->common_to, more);
	if (!job->env)
		return -ENOMEM;
	size_t have = 0;
	while (job->env[have])
		have++;
	for (size_t i = 0; i < more; i++) {
		const char *pair = inherited[i];
		if (!strchr(pair, '=') || strncmp(pair, "ASSAY_", 6) == 0 || strncmp(pair, "KUBERNETES_", 11) == 0 ||
			is_set(job->env, pair))
			continue;
		job->env[have] = strdup(pair);
		if (!job->env[have])
			return -ENOMEM;
		job->env[++have] = NULL;
	}
	return 0;
}

static char *text_of(const struct job *job, uint32_t kind, size_t *at)
{
	size_t len;
	const char *data = job_next(job, kind, at, job->common_to, &len);
	return data ? strndup(data, len) : NULL;
}

static bool check_archive(const char *data, size_t len)
{
	struct archive_entry entry;
	if (len < sizeof(entry))
		return false;
	memcpy(&entry, data, sizeof(entry));
	len -= sizeof(entry);
	return entry.path_len > 0 && entry.path_len <= ARCHIVE_PATH_MAX && entry.path_len <= len &&
	       entry.content_len == len - entry.path_len;
}

static int take_step(struct job *job, const struct plan_record *record, const char *data, size_t at)
{
	struct plan_step step;
	bool compile = record->kind == PLAN_COMPILE;
	if (record->length != sizeof(step) || job->step_count == REPORT_STEPS_MAX || (compile && job->step_count > 0))
		return -EBADMSG;
	memcpy(&step, data, sizeof(step));
	job->has_compile |= compile;
	uint32_t run = (uint32_t)(job->step_count - job->has_compile);
	job->steps[job->step_count++] = (struct job_step){
		.compile = compile, .run = compile ? 0 : run, .timeout_us = step.timeout_us, .from = at, .to = job->len
	};
	return 0;
}

/* Looks at every record once. */
static int read_records(struct job *job, char message[REPORT_MESSAGE_MAX])
{
	size_t at = PLAN_TEXT_SIZE;
	struct plan_record record = { 0 };
	job->common_to = job->len;
	while (at < job->len) {
		const char *data;
		size_t begin = at;
		if (!take(job, &at, job->len, &record, &data))
			return malformed(message, "it is cut off");
		if ((begin == PLAN_TEXT_SIZE) != (record.kind == PLAN_SETTINGS))
			return malformed(message, "the settings come once, and first");
		switch (record.kind) {
		case PLAN_SETTINGS:
			if (record.length != sizeof(job->settings))
				return malformed(message, "settings of another version");
			memcpy(&job->settings, data, sizeof(job->settings));
			break;
		case PLAN_COMPILE:
		case PLAN_RUN:
			if (job->step_count == 0)
				job->common_to = begin;
			else
				job->steps[job->step_count - 1].to = begin;
			if (take_step(job, &record, data, at) < 0)
				return malformed(message, "its steps");
			break;
		case PLAN_ARCHIVE:
			if (!check_archive(data, record.length))
				return malformed(message, "a file");
			break;
		case PLAN_LISTENER:
		case PLAN_CHANNEL:
		case PLAN_BOX:
		case PLAN_ALSO:
		case PLAN_ENV:
		case PLAN_WORD:
			if (memchr(data, 0, record.length))
				return malformed(message, "a NUL within a text");
			break;
		case PLAN_STDIN:
		case PLAN_END:
			break;
		default:
			return malformed(message, "a record of another version");
		}
	}
	if (record.kind != PLAN_END)
		return malformed(message, "it is cut off");
	if (job->step_count == 0 || (job->has_compile && job->step_count == 1))
		return malformed(message, "nothing to run");
	return 0;
}

static int check_steps(const struct job *job, char message[REPORT_MESSAGE_MAX])
{
	for (size_t i = 0; i < job->step_count; i++) {
		size_t at = job->steps[i].from, len;
		if (!job_next(job, PLAN_WORD, &at, job->steps[i].to, &len) || len == 0)
			return malformed(message, "a step without a command");
	}
	return 0;
}

int job_read(struct job *job, const char *path, char **inherited, char message[REPORT_MESSAGE_MAX])
{
	*job = (struct job){ .fd = -1 };
	int rc = map_plan(job, path);
	if (rc < 0)
		return fail(message, rc, path);
	job->steps = calloc(REPORT_STEPS_MAX, sizeof(*job->steps));
	if (!job->steps)
		return fail(message, -ENOMEM, path);
	rc = read_records(job, message);
	if (rc == 0)
		rc = check_steps(job, message);
	if (rc < 0)
		return rc;
	rc = read_environment(job, inherited);
	if (rc < 0)
		return fail(message, rc, "its environment");
	size_t at = PLAN_TEXT_SIZE;
	while (job->listener_count < POST_ADDRESSES &&
		(job->listeners[job->listener_count] = text_of(job, PLAN_LISTENER, &at)))
		job->listener_count++;
	at = PLAN_TEXT_SIZE;
	job->channel = text_of(job, PLAN_CHANNEL, &at);
	at = PLAN_TEXT_SIZE;
	job->box = text_of(job, PLAN_BOX, &at);
	at = PLAN_TEXT_SIZE;
	while (job->also_count < sizeof(job->also) / sizeof(*job->also) &&
		(job->also[job->also_count] = text_of(job, PLAN_ALSO, &at)))
		job->also_count++;
	job_forget(job);
	return job->box && job->box[0] == '/' ? 0 : malformed(message, "no directory for the code");
}
