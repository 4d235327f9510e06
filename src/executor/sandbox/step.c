/* See step.h for the states and for what proves the end. Nothing that comes over the report's socket is believed to be
 * well-formed, although only assay-launch and bubblewrap can write there. */
#include "executor/sandbox/step.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "executor/sandbox/spawn.h"

enum { PIPE_REPORT, PIPE_STDOUT, PIPE_STDERR };

#define START_WAIT_MS 60000 /* from the launch to the program: more is a sick machine */
#define KILL_AGAIN_MS 20
#define ASK_WAIT_MS \
	150 /* for process 1 to end it: more than a period of the cpu quota, of which it has its share too */
#define KILL_WITHOUT_CGROUP_AFTER 50 /* kills: so long process 1 has for ending everything where only it can */

static void check_end(struct step *step);

/* Process 1 sees this, kills everything inside, and can still tell what it took; it also works where there is no
 * cgroup. */
static void ask_to_end(struct step *step)
{
	uv_os_fd_t socket;
	if (step->open[PIPE_REPORT] && uv_fileno((uv_handle_t *)&step->pipes[PIPE_REPORT], &socket) == 0)
		shutdown(socket, SHUT_WR);
}

/* Bubblewrap is spared as long as others live: that it ends by itself proves that process 1 did. */
static void kill_now(struct step *step)
{
	ask_to_end(step);
	step->kills++;
	if (step->cgroup->made && step->host->isolated)
		cgroup_slot_kill(step->cgroup, step->pid);
	else if (step->kills > KILL_WITHOUT_CGROUP_AFTER && step->pid > 0)
		kill(step->pid, SIGKILL);
}

static void on_again(uv_timer_t *timer)
{
	struct step *step = timer->data;
	kill_now(step);
	check_end(step);
}

void step_stop(struct step *step, enum step_stop why)
{
	if (step->state != STEP_RUNNING || step->result.stop != STEP_NOT_STOPPED)
		return;
	step->result.stop = why;
	uv_timer_stop(&step->deadline);
	bool ask = step->result.started && why != STEP_STOPPED_BY_OWNER;
	if (ask)
		ask_to_end(step);
	else
		kill_now(step);
	uv_update_time(step->loop);
	uv_timer_start(&step->again, on_again, ask ? ASK_WAIT_MS : KILL_AGAIN_MS, KILL_AGAIN_MS);
}

static void on_deadline(uv_timer_t *timer)
{
	struct step *step = timer->data;
	step_stop(step, step->result.started ? STEP_STOPPED_TIMEOUT : STEP_STOPPED_NO_START);
}

static void note_started(struct step *step)
{
	if (step->result.started)
		return;
	step->result.started = true;
	step->started_us = clock_monotonic_us();
	if (step->result.stop != STEP_NOT_STOPPED)
		return;
	uv_update_time(step->loop);
	uv_timer_start(&step->deadline, on_deadline, (uint64_t)(step->timeout_us / US_PER_MS) + 1, 0);
	step->listener->on_started(step);
}

static void note_message(struct step *step, const char *text, size_t len)
{
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
		len--;
	len = utf8_valid_prefix((struct bytes){ text, len });
	size_t have = strlen(step->result.message);
	if (len > 0)
		snprintf(step->result.message + have, sizeof(step->result.message) - have, "%s%.*s", have ? "; " : "",
			(int)len, text);
}

static void take_report(struct step *step, const struct report *report)
{
	switch (report->kind) {
	case REPORT_STARTED:
		note_started(step);
		break;
	case REPORT_ENDED:
		if (!step->result.started)
			break;
		/* Killed by us just before: that came first. Otherwise its time is over: it ended by itself. */
		uv_timer_stop(&step->deadline);
		step->result.ended = true;
		step->result.report = *report;
		break;
	case REPORT_FAILED: {
		char text[160];
		int len = snprintf(text, sizeof(text), "%.*s: %s", (int)sizeof(report->where), report->where,
			strerror(report->value));
		note_message(step, text, (size_t)len);
		break;
	}
	default:
		break;
	}
}

/* Words first, then whole reports. */
static void read_inbox(struct step *step)
{
	const uint64_t magic = REPORT_MAGIC;
	for (;;) {
		char *at = memmem(step->inbox, step->inbox_len, &magic, sizeof(magic));
		if (!at)
			return;
		size_t before = (size_t)(at - step->inbox);
		if (before > 0)
			note_message(step, step->inbox, before);
		if (step->inbox_len - before < sizeof(struct report)) {
			memmove(step->inbox, at, step->inbox_len -= before);
			return;
		}
		struct report report;
		memcpy(&report, at, sizeof(report));
		step->inbox_len -= before + sizeof(report);
		memmove(step->inbox, at + sizeof(report), step->inbox_len);
		take_report(step, &report);
	}
}

static void take_report_bytes(struct step *step, const char *data, size_t len)
{
	while (len > 0) {
		size_t room = sizeof(step->inbox) - step->inbox_len;
		if (room == 0) { /* words without end: the first are kept */
			note_message(step, step->inbox, step->inbox_len);
			step->inbox_len = 0;
			continue;
		}
		size_t part = len < room ? len : room;
		memcpy(step->inbox + step->inbox_len, data, part);
		step->inbox_len += part;
		data += part;
		len -= part;
		read_inbox(step);
	}
}

static void take_output(struct step *step, int stream, const char *data, size_t len)
{
	int i = stream - 1;
	note_started(step); /* only the program has this descriptor: its report is under way */
	uint64_t left = step->output_max - step->output[i];
	if (step->result.truncated[i] || step->result.stop == STEP_STOPPED_BY_OWNER)
		return;
	size_t kept = len < left ? len : (size_t)left;
	step->output[i] += kept;
	if (kept < len)
		step->result.truncated[i] = true;
	if (kept > 0)
		step->listener->on_output(step, stream, (struct bytes){ data, kept });
	if (kept < len)
		step_stop(step, STEP_STOPPED_OUTPUT);
}

/* ---- the end ---- */

static void finish(struct step *step)
{
	struct step_result result = step->result;
	step->state = STEP_IDLE;
	step->listener->on_done(step, &result);
}

static void on_pipe_closed(uv_handle_t *handle)
{
	struct step *step = handle->data;
	if (--step->handles == 0 && step->state == STEP_CLOSING)
		finish(step);
}

static void close_pipe(struct step *step, int index)
{
	if (!step->open[index])
		return;
	step->open[index] = false;
	uv_close((uv_handle_t *)&step->pipes[index], on_pipe_closed);
}

static void check_end(struct step *step)
{
	if (step->state != STEP_RUNNING || step->pid > 0 || step->open[PIPE_REPORT] || step->open[PIPE_STDOUT] ||
		step->open[PIPE_STDERR])
		return;
	/* Bubblewrap was killed (out of memory, by us, by hand), so it proves nothing. */
	if (!step->launcher_exited && !cgroup_slot_is_empty(step->cgroup)) {
		if (!uv_is_active((uv_handle_t *)&step->again))
			uv_timer_start(&step->again, on_again, KILL_AGAIN_MS, KILL_AGAIN_MS);
		return;
	}
	uv_timer_stop(&step->deadline);
	uv_timer_stop(&step->again);
	if (step->inbox_len > 0)
		note_message(step, step->inbox, step->inbox_len);
	if (step->result.started)
		step->result.wall_us = clock_monotonic_us() - step->started_us;
	cgroup_slot_read(step->cgroup, &step->result.usage);
	step->state = STEP_CLOSING;
	if (step->handles == 0)
		finish(step);
}

void step_reap(struct step *step)
{
	int status;
	if (step->state != STEP_RUNNING || step->pid <= 0)
		return;
	pid_t pid = waitpid(step->pid, &status, WNOHANG);
	if (pid == 0 || (pid < 0 && errno == EINTR))
		return;
	step->launcher_exited = pid > 0 && WIFEXITED(status);
	step->pid = 0;
	/* If bubblewrap was killed alone (out of memory, by hand), what it left must follow. */
	if (step->open[PIPE_REPORT] && !uv_is_active((uv_handle_t *)&step->again))
		uv_timer_start(&step->again, on_again, KILL_AGAIN_MS, KILL_AGAIN_MS);
	check_end(step);
}

/* ---- reading ---- */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	struct step *step = handle->data;
	*buffer = uv_buf_init(step->scratch, STEP_SCRATCH_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
	struct step *step = stream->data;
	int index = (int)((uv_pipe_t *)stream - step->pipes);
	if (n > 0 && index == PIPE_REPORT)
		take_report_bytes(step, buffer->base, (size_t)n);
	else if (n > 0)
		take_output(step, index, buffer->base, (size_t)n);
	if (n < 0) { /* end of file; anything else is one too */
		close_pipe(step, index);
		check_end(step);
	}
}

/* ---- the start ---- */

struct ends {
	int ours[3], theirs[3];
};

static void close_ends(int fds[3])
{
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int make_ends(struct ends *ends, struct err *err)
{
	*ends = (struct ends){ { -1, -1, -1 }, { -1, -1, -1 } };
	for (int i = 0; i < 3; i++) {
		int pair[2];
		int rc = i == PIPE_REPORT ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)
					  : pipe2(pair, O_CLOEXEC);
		if (rc < 0) {
			rc = -errno;
			close_ends(ends->ours);
			close_ends(ends->theirs);
			return err_set(err, rc, "cannot make pipes: %s", strerror(-rc));
		}
		ends->ours[i] = pair[0];
		ends->theirs[i] = spawn_high_fd(pair[1]);
	}
	return 0;
}

static int launch(struct step *step, const struct step_spec *spec, const struct ends *ends, struct err *err)
{
	struct spawn_fds fds;
	int filter = -1;
	if (step->host->filter_fd >= 0) {
		filter = spawn_high_fd(memory_file_reopen(step->host->filter_fd));
		if (filter < 0)
			return err_set(err, filter, "cannot open the filter: %s", strerror(-filter));
	}
	fds.fd[LAUNCH_FD_STDIN] = spec->stdin_fd;
	fds.fd[LAUNCH_FD_STDOUT] = ends->theirs[PIPE_STDOUT];
	fds.fd[LAUNCH_FD_REPORT] = ends->theirs[PIPE_REPORT];
	fds.fd[LAUNCH_FD_PLAN] = spec->plan;
	fds.fd[LAUNCH_FD_STDERR] = ends->theirs[PIPE_STDERR];
	fds.fd[LAUNCH_FD_ARCHIVE_IN] = spec->archive_in;
	fds.fd[LAUNCH_FD_ARCHIVE_OUT] = spec->archive_out;
	fds.fd[LAUNCH_FD_PROGRAM] = step->host->launcher_fd;
	fds.fd[LAUNCH_FD_FILTER] = filter;
	int rc = spawn_launcher(step->host->launcher, &fds, &step->pid, err);
	if (filter >= 0)
		close(filter);
	return rc;
}

int step_start(struct step *step, const struct step_spec *spec, struct err *err)
{
	struct ends ends;
	int rc = make_ends(&ends, err);
	if (rc < 0)
		return rc;
	rc = launch(step, spec, &ends, err);
	close_ends(ends.theirs);
	if (rc < 0) {
		close_ends(ends.ours);
		return rc;
	}
	step->result = (struct step_result){ 0 };
	step->state = STEP_RUNNING;
	step->inbox_len = 0;
	step->kills = 0;
	step->launcher_exited = false;
	step->output[0] = step->output[1] = 0;
	step->output_max = spec->output_max;
	step->timeout_us = spec->timeout_us;
	for (int i = 0; i < 3; i++) {
		uv_pipe_init(step->loop, &step->pipes[i], 0);
		step->pipes[i].data = step;
		step->open[i] = true;
		step->handles++;
		rc = uv_pipe_open(&step->pipes[i], ends.ours[i]);
		if (rc < 0)
			close(ends.ours[i]);
		else
			rc = uv_read_start((uv_stream_t *)&step->pipes[i], on_alloc, on_read);
		if (rc < 0) { /* nothing to read by: as good as its end of file, and the step cannot go on */
			close_pipe(step, i);
			step_stop(step, STEP_STOPPED_NO_START);
		}
	}
	uv_update_time(step->loop);
	if (step->result.stop == STEP_NOT_STOPPED)
		uv_timer_start(&step->deadline, on_deadline, START_WAIT_MS, 0);
	return 0;
}

void step_init(struct step *step, uv_loop_t *loop, struct host *host, struct cgroup_slot *cgroup,
	const struct step_listener *listener, char *scratch)
{
	*step = (struct step){ .loop = loop, .host = host, .cgroup = cgroup, .listener = listener, .scratch = scratch };
	uv_timer_init(loop, &step->deadline);
	uv_timer_init(loop, &step->again);
	step->deadline.data = step->again.data = step;
}

void step_close(struct step *step, uv_close_cb on_closed)
{
	uv_close((uv_handle_t *)&step->deadline, on_closed);
	uv_close((uv_handle_t *)&step->again, on_closed);
}
