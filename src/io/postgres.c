/* The life of a connection: its states, what each change of them tells whom, and its handles.
 *
 * Two things run on the loop: the watch on libpq's socket (postgres_connect.c while it is being made, postgres_pump.c
 * after) and `prepare`, which runs before the loop sleeps in each turn in which postgres_wake was called: it sends what
 * was handed in and gives back what was refused, so that nothing is answered from within a call. A prepare handle that
 * is started while the loop runs such handles waits for the next turn, for which the loop must not sleep: hence `idle`.
 *
 * The watch lies in memory of its own, since it is closed and made anew whenever libpq may have changed its socket, and
 * always before libpq closes it. The other handles live until the end, and their closing is what on_stopped waits
 * for. */
#include "io/postgres_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/text.h"

#define BACKOFF_MIN_MS 100
#define BACKOFF_MAX_MS 5000
#define WIRE_HASH_BYTES 8
#define TICKS 4 /* of the timer in which nothing was heard make a silence */

/* === what is told === */

bool postgres_is_fatal(const char *sqlstate)
{
	static const char *const classes[] = { "28", "3D", "42", "0A" };
	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		if (strncmp(sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

bool postgres_is_of_pooler(const char *sqlstate)
{
	return strcmp(sqlstate, "42P05") == 0 || strcmp(sqlstate, "26000") == 0;
}

static bool is_sqlstate(const char *text)
{
	for (int i = 0; i < 5; i++)
		if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'A' && text[i] <= 'Z'))
			return false;
	return true;
}

void postgres_error_text(struct err *err, int code, const char *message, char ret_sqlstate[static 6])
{
	char line[sizeof(err->message)];
	size_t len = 0;
	ret_sqlstate[0] = '\0';
	/* "FATAL:  28P01: password …\nLOCATION:  auth_failed, auth.c:326\n": what the server says of its source helps
	 * nobody here. */
	for (const char *at = message; *at && len < sizeof(line) - 1; at++) {
		if (strncmp(at, "LOCATION:", 9) == 0 && (at == message || at[-1] == '\n')) {
			at += strcspn(at, "\n");
			if (!*at)
				break;
			continue;
		}
		if (at - message >= 3 && strncmp(at - 3, ":  ", 3) == 0 && is_sqlstate(at) && at[5] == ':') {
			memcpy(ret_sqlstate, at, 5);
			ret_sqlstate[5] = '\0';
			at += 6;
			if (*at != ' ')
				at--;
			continue;
		}
		bool is_space = *at == '\n' || *at == '\t' || *at == ' ';
		if (is_space && (len == 0 || line[len - 1] == ' '))
			continue;
		line[len++] = is_space ? ' ' : *at;
	}
	while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '.'))
		len--;
	line[len] = '\0';
	err_set(err, code, "%s", len > 0 ? line : "the connection was lost");
}

void postgres_tell(struct postgres *postgres, bool up, bool fatal)
{
	const struct err *why = up ? &(struct err){ 0 } : &postgres->last_error;
	if (postgres->is_stopping)
		return;
	if (postgres->told && postgres->told_up == up && postgres->told_fatal == fatal &&
		strcmp(postgres->told_error.message, why->message) == 0)
		return;
	postgres->told = true;
	postgres->told_up = up;
	postgres->told_fatal = fatal;
	postgres->told_error = *why;
	if (up)
		log_event(postgres->options.log, LOG_INFO, "postgresql connected",
			L_STR("purpose", postgres->options.purpose), L_INT("version", postgres->server_version));
	else
		log_event(postgres->options.log, fatal ? LOG_ERROR : LOG_WARNING, "postgresql not connected",
			L_STR("purpose", postgres->options.purpose), L_ERR(why));
	if (postgres->options.on_state)
		postgres->options.on_state(postgres->options.owner, up, fatal, up ? NULL : &postgres->told_error);
}

/* === handles === */

static void on_watch_closed(uv_handle_t *handle)
{
	free(handle);
}

void postgres_unwatch(struct postgres *postgres)
{
	uv_poll_t *watch = STEAL(postgres->watch);
	if (watch)
		uv_close((uv_handle_t *)watch, on_watch_closed);
}

static void on_ready(uv_poll_t *watch, int status, int events)
{
	struct postgres *postgres = watch->data;
	if (watch != postgres->watch || (postgres->is_stopping && postgres->state != POSTGRES_STATE_UP))
		return;
	postgres->quiet = 0;
	/* An error of the socket is libpq's to find, in reading; libuv has stopped the watch. */
	if (status < 0)
		postgres->watched = 0;
	if (postgres->state == POSTGRES_STATE_CONNECTING)
		postgres_connect_step(postgres);
	else
		postgres_pump(postgres, status < 0 || (events & UV_READABLE));
}

bool postgres_watch(struct postgres *postgres, int events)
{
	if (!postgres->watch) {
		uv_poll_t *watch = alloc(sizeof(*watch));
		int result = uv_poll_init(postgres->options.loop, watch, PQsocket(postgres->conn));
		if (result < 0) {
			free(watch);
			err_set(&postgres->last_error, result, "the socket cannot be watched: %s", uv_strerror(result));
			return false;
		}
		watch->data = postgres;
		postgres->watch = watch;
		postgres->watched = 0;
	}
	if (postgres->watched != events)
		uv_poll_start(postgres->watch, events, on_ready);
	postgres->watched = events;
	return true;
}

static void on_idle(uv_idle_t *idle)
{
	/* Its being there is what it is for. */
}

static void give_back_refused(struct postgres *postgres)
{
	struct list refused;
	list_init(&refused);
	list_splice_back(&refused, &postgres->refused);
	for (struct list *link; (link = list_pop_front(&refused));) {
		struct postgres_group *group = LIST_ENTRY(link, struct postgres_group, link);
		postgres->count--;
		group->done(group);
	}
}

static void on_prepare(uv_prepare_t *prepare)
{
	struct postgres *postgres = prepare->data;
	uv_idle_stop(&postgres->idle);
	uv_prepare_stop(&postgres->prepare);
	give_back_refused(postgres);
	if (postgres->state == POSTGRES_STATE_UP)
		postgres_pump(postgres, /* read= */ false);
	postgres_finish_if_drained(postgres);
}

void postgres_wake(struct postgres *postgres)
{
	if (postgres->state == POSTGRES_STATE_CLOSING)
		return;
	uv_idle_start(&postgres->idle, on_idle);
	uv_prepare_start(&postgres->prepare, on_prepare);
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct postgres *postgres = handle->data;
	if (--postgres->handles_open > 0)
		return;
	give_back_refused(postgres); /* what was handed in since */
	postgres->on_stopped(postgres->stopped_owner);
}

/* === states === */

static void on_probed(struct postgres_group *group)
{
	struct postgres *postgres = group->owner;
	postgres->is_probing = false;
}

/* Who was stopped itself for a while finds the timer due before it has looked at the socket: that costs one tick and
 * not the connection. */
static void on_tick(struct postgres *postgres)
{
	postgres->quiet++;
	if (list_empty(&postgres->sent) && postgres->quiet >= TICKS) {
		postgres->quiet = 0;
		postgres->is_probing = true;
		postgres_submit(postgres, &postgres->probe);
	} else if (postgres->quiet > TICKS) {
		err_set(&postgres->last_error, -ETIMEDOUT, "the server has not answered for %d ms",
			postgres->silence_ms);
		postgres_down(postgres, /* fatal= */ false);
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct postgres *postgres = timer->data;
	if (postgres->is_stopping && postgres->state != POSTGRES_STATE_UP)
		return;
	switch (postgres->state) {
	case POSTGRES_STATE_BACKOFF:
		postgres_connect(postgres);
		break;
	case POSTGRES_STATE_CONNECTING:
	case POSTGRES_STATE_SETTING_UP:
	case POSTGRES_STATE_PREPARING:
		/* Where this process stood still the answer may be there: the loop runs timers before it looks. */
		if (postgres->is_late) {
			postgres_connect_late(postgres);
			break;
		}
		postgres->is_late = true;
		uv_timer_start(&postgres->timer, on_timer, 1, 0);
		break;
	case POSTGRES_STATE_UP:
		on_tick(postgres);
		break;
	default:
		break;
	}
}

void postgres_set_state(struct postgres *postgres, enum postgres_state state)
{
	uint64_t tick = (uint64_t)postgres->silence_ms / TICKS;
	unsigned doublings = postgres->failures < 7 ? postgres->failures : 7;
	uint64_t delay = (uint64_t)BACKOFF_MIN_MS << doublings;
	uint16_t jitter = 0;
	postgres->state = state;
	postgres->is_late = false;
	uv_timer_stop(&postgres->timer);
	switch (state) {
	case POSTGRES_STATE_UP:
		postgres->quiet = 0;
		uv_timer_start(&postgres->timer, on_timer, tick, tick);
		break;
	case POSTGRES_STATE_CONNECTING:
		uv_timer_start(&postgres->timer, on_timer, postgres->connect_timeout_ms, 0);
		break;
	case POSTGRES_STATE_SETTING_UP:
		if (postgres->options.setup_takes_long)
			break;
		/* fall through */
	case POSTGRES_STATE_PREPARING:
		/* A server that answers neither is as lost as one that does not let us in. */
		uv_timer_start(&postgres->timer, on_timer, postgres->connect_timeout_ms, 0);
		break;
	case POSTGRES_STATE_BACKOFF:
		random_bytes(&jitter, sizeof(jitter));
		delay = delay > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : delay;
		uv_timer_start(&postgres->timer, on_timer, delay / 2 + (delay / 2) * jitter / UINT16_MAX, 0);
		postgres->failures++;
		break;
	default:
		break;
	}
}

void postgres_close(struct postgres *postgres)
{
	postgres_unwatch(postgres);
	PQfinish(STEAL(postgres->conn));
	postgres->blocked = false;
	postgres->is_stale = false;
}

static void refuse(struct postgres *postgres, struct postgres_group *group, enum postgres_outcome outcome, int code)
{
	postgres_group_fail(group, outcome, code, &postgres->last_error);
	list_push_back(&postgres->refused, &group->link);
	postgres_wake(postgres);
}

/* All that was written is UNKNOWN, all that was not is NOT_SENT; in the order it came. */
static void refuse_all(struct postgres *postgres)
{
	for (struct list *link; (link = list_pop_front(&postgres->sent));)
		refuse(postgres, LIST_ENTRY(link, struct postgres_group, link), POSTGRES_UNKNOWN, -ECONNRESET);
	list_splice_back(&postgres->again, &postgres->waiting);
	for (struct list *link; (link = list_pop_front(&postgres->again));)
		refuse(postgres, LIST_ENTRY(link, struct postgres_group, link), POSTGRES_NOT_SENT, -ENOTCONN);
}

void postgres_down(struct postgres *postgres, bool fatal)
{
	postgres_close(postgres);
	refuse_all(postgres);
	postgres_set_state(postgres, postgres->is_stopping ? POSTGRES_STATE_DOWN : POSTGRES_STATE_BACKOFF);
	give_back_refused(postgres);
	postgres_tell(postgres, /* up= */ false, fatal);
	postgres_wake(postgres); /* drained now, if it is stopping */
}

/* === the calls === */

/* Names on the wire bear a hash of their text: behind a pooler, a connection of the server may still hold what another
 * release prepared under the same name. */
static void name_statements(struct postgres *postgres)
{
	const struct postgres_statement *const *statements = postgres->options.statements;
	if (!statements)
		return;
	while (statements[postgres->statement_count])
		postgres->statement_count++;
	postgres->wire_names = alloc_array(postgres->statement_count, sizeof(*postgres->wire_names));
	for (size_t i = 0; i < postgres->statement_count; i++) {
		uint8_t digest[SHA256_SIZE];
		char *name = postgres->wire_names[i];
		sha256(bytes_of(statements[i]->sql), digest);
		int len = snprintf(name, POSTGRES_WIRE_NAME_SIZE - 2 * WIRE_HASH_BYTES, "%s_", statements[i]->name);
		if (len > POSTGRES_WIRE_NAME_SIZE - 2 * WIRE_HASH_BYTES - 1)
			len = POSTGRES_WIRE_NAME_SIZE - 2 * WIRE_HASH_BYTES - 1;
		for (size_t k = 0; k < WIRE_HASH_BYTES; k++, len += 2)
			snprintf(name + len, 3, "%02x", digest[k]);
	}
}

struct postgres *postgres_new(const struct postgres_options *options)
{
	struct postgres *postgres = alloc(sizeof(*postgres));
	postgres->options = *options;
	postgres->options.conninfo = string_copy(options->conninfo);
	postgres->options.purpose = string_copy(options->purpose);
	postgres->silence_ms = options->silence_ms ? options->silence_ms : POSTGRES_SILENCE_MS;
	postgres->probe.done = on_probed;
	postgres->probe.owner = postgres;
	list_init(&postgres->waiting);
	list_init(&postgres->sent);
	list_init(&postgres->again);
	list_init(&postgres->refused);
	name_statements(postgres);
	err_set(&postgres->last_error, -ENOTCONN, "not connected yet");
	return postgres;
}

void postgres_start(struct postgres *postgres)
{
	uv_loop_t *loop = postgres->options.loop;
	uv_idle_init(loop, &postgres->idle);
	uv_prepare_init(loop, &postgres->prepare);
	uv_timer_init(loop, &postgres->timer);
	uv_timer_init(loop, &postgres->drain);
	postgres->idle.data = postgres->prepare.data = postgres->timer.data = postgres->drain.data = postgres;
	postgres->handles_open = 4;
	postgres->is_started = true;
	/* The back-off's timer, due at once, so that nothing is told from within this call. */
	postgres->state = POSTGRES_STATE_BACKOFF;
	uv_timer_start(&postgres->timer, on_timer, 0, 0);
}

void postgres_submit(struct postgres *postgres, struct postgres_group *group)
{
	postgres_group_forget_results(group);
	postgres->count++;
	if (group->values.failed) {
		refuse(postgres, group, POSTGRES_FAILED, -E2BIG);
		memcpy(group->sqlstate, "54000", sizeof(group->sqlstate));
		err_set(&group->err, -E2BIG, "the parameters are larger than PostgreSQL takes");
	} else if (postgres->state != POSTGRES_STATE_UP || postgres->is_stopping) {
		refuse(postgres, group, POSTGRES_NOT_SENT, -ENOTCONN);
	} else {
		list_push_back(&postgres->waiting, &group->link);
		postgres_wake(postgres);
	}
}

void postgres_finish_if_drained(struct postgres *postgres)
{
	if (!postgres->is_stopping || postgres->state == POSTGRES_STATE_CLOSING || postgres_in_flight(postgres) > 0)
		return;
	postgres_close(postgres);
	give_back_refused(postgres);
	postgres_set_state(postgres, POSTGRES_STATE_CLOSING);
	uv_close((uv_handle_t *)&postgres->idle, on_handle_closed);
	uv_close((uv_handle_t *)&postgres->prepare, on_handle_closed);
	uv_close((uv_handle_t *)&postgres->timer, on_handle_closed);
	uv_close((uv_handle_t *)&postgres->drain, on_handle_closed);
}

static void on_drain_late(uv_timer_t *timer)
{
	struct postgres *postgres = timer->data;
	err_set(&postgres->last_error, -ETIMEDOUT, "the server had not answered when the service stopped");
	postgres_close(postgres);
	postgres_set_state(postgres, POSTGRES_STATE_DOWN);
	refuse_all(postgres);
	postgres_wake(postgres);
}

void postgres_stop(struct postgres *postgres, uint64_t drain_ms, void (*on_stopped)(void *owner), void *owner)
{
	postgres->on_stopped = on_stopped;
	postgres->stopped_owner = owner;
	postgres->is_stopping = true;
	err_set(&postgres->last_error, -ECANCELED, "the service is stopping");
	for (struct list *link; (link = list_pop_front(&postgres->waiting));)
		refuse(postgres, LIST_ENTRY(link, struct postgres_group, link), POSTGRES_NOT_SENT, -ECANCELED);
	if (postgres->state != POSTGRES_STATE_UP)
		postgres_connect_abandon(postgres);
	uv_timer_start(&postgres->drain, on_drain_late, drain_ms, 0);
	postgres_wake(postgres);
}

void postgres_free(struct postgres *postgres)
{
	if (!postgres)
		return;
	postgres_targets_free(&postgres->hosts, &postgres->host_count);
	postgres_targets_free(&postgres->targets, &postgres->target_count);
	free(postgres->wire_names);
	free((char *)postgres->options.conninfo);
	free((char *)postgres->options.purpose);
	free(postgres);
}

void postgres_set_silence(struct postgres *postgres, int silence_ms)
{
	if (silence_ms == postgres->silence_ms)
		return;
	postgres->silence_ms = silence_ms;
	if (postgres->state == POSTGRES_STATE_UP)
		postgres_set_state(postgres, POSTGRES_STATE_UP); /* its timer ticks anew */
}

bool postgres_is_up(const struct postgres *postgres)
{
	return postgres->state == POSTGRES_STATE_UP && !postgres->is_stopping;
}

bool postgres_setup_is_refused(const struct postgres *postgres)
{
	return postgres->setup_is_refused;
}

int postgres_server_version(const struct postgres *postgres)
{
	return postgres->server_version;
}

size_t postgres_in_flight(const struct postgres *postgres)
{
	return postgres->count - postgres->is_probing;
}
