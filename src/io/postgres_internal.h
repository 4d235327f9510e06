/* What the files of io/postgres share: the connection's insides. Nobody else includes this. */
#ifndef ASSAY_IO_POSTGRES_INTERNAL_H
#define ASSAY_IO_POSTGRES_INTERNAL_H

#include "io/postgres.h"

enum postgres_state {
	POSTGRES_STATE_DOWN, /* not started yet */
	POSTGRES_STATE_RESOLVING, /* a name is being looked up */
	POSTGRES_STATE_CONNECTING, /* PQconnectPoll */
	POSTGRES_STATE_SETTING_UP, /* options.setup runs */
	POSTGRES_STATE_PREPARING, /* statements are prepared, in pipeline mode from here on */
	POSTGRES_STATE_UP,
	POSTGRES_STATE_BACKOFF, /* nothing is open; the timer runs */
	POSTGRES_STATE_CLOSING, /* stopped: the handles are closing */
};

/* One place to try: a host of the list with one of its addresses. */
struct postgres_target {
	char *host; /* owned; NULL: libpq's default */
	char *address; /* owned, numeric; NULL: a socket's directory, or the default */
	char *port; /* owned; NULL: the default */
};

#define POSTGRES_WIRE_NAME_SIZE 64

struct postgres_lookup;

struct postgres {
	struct postgres_options options; /* conninfo, purpose: owned copies */
	enum postgres_state state;
	PGconn *conn; /* owned; CONNECTING to UP */
	uv_poll_t *watch; /* owned until it closes; on conn's socket */
	int watched; /* events it was started with */
	uv_idle_t idle; /* keeps the loop from sleeping while there is something for `prepare` */
	uv_prepare_t prepare; /* sends, and gives back what was refused: once a turn, started by postgres_wake */
	uv_timer_t timer; /* the state's: deadline of connecting, back-off, silence */
	uv_timer_t drain; /* of stop */
	unsigned handles_open;

	/* connecting */
	struct postgres_lookup *lookup; /* borrowed: frees itself; RESOLVING */
	struct postgres_target *targets; /* owned */
	size_t target_count, target; /* the one being tried */
	struct postgres_target *hosts; /* owned: as conninfo names them, to be looked up */
	size_t host_count, host;
	uint64_t connect_timeout_ms; /* for each target */
	unsigned failures; /* in a row */
	struct err last_error; /* why it is not up */
	bool told, told_up, told_fatal; /* what on_state said last */
	struct err told_error;

	/* statements */
	size_t statement_count;
	char (*wire_names)[POSTGRES_WIRE_NAME_SIZE]; /* owned; by options.statements */
	bool is_unnamed; /* a pooler between: named statements do not work */
	bool setup_is_refused; /* until the next attempt to connect */
	char refused_sqlstate[6]; /* SETTING_UP or PREPARING: a statement was refused, in last_error; empty: none was */

	/* work */
	struct list waiting; /* struct postgres_group: handed in, not yet given to libpq */
	struct list sent; /* … in the order of their answers */
	struct list again; /* … refused because of a pooler, to be sent before those that wait */
	struct list refused; /* … to be given back, outcome set */
	size_t count; /* of all four */
	unsigned quiet; /* ticks of the timer since the server was heard */
	bool is_late; /* the deadline has come, the socket is looked at once more */
	struct postgres_group
		probe; /* a Sync and nothing else, sent when nothing was heard for a while: is anybody there? */
	bool is_probing;
	bool blocked; /* libpq holds bytes that the socket would not take */
	bool is_stale; /* a cached plan does not fit its table any more: connect anew when all is answered */
	int server_version;
	int silence_ms;

	/* end */
	bool is_started, is_stopping;
	void (*on_stopped)(void *owner);
	void *stopped_owner; /* borrowed */
};

/* postgres.c */
void postgres_wake(struct postgres *postgres); /* on_prepare runs before the loop sleeps */
void postgres_tell(struct postgres *postgres, bool up, bool fatal);
/* Ends the connection, answers everything, and tries again after the back-off. last_error says why. */
void postgres_down(struct postgres *postgres, bool fatal);
/* Makes the watch if there is none; false: last_error says why not. */
bool postgres_watch(struct postgres *postgres, int events);
void postgres_unwatch(struct postgres *postgres);
void postgres_set_state(struct postgres *postgres, enum postgres_state state);
void postgres_close(struct postgres *postgres); /* the connection alone */
void postgres_finish_if_drained(struct postgres *postgres);
bool postgres_is_fatal(const char *sqlstate);
/* Is it that named statements do not work through a pooler that changes servers? */
bool postgres_is_of_pooler(const char *sqlstate);
/* libpq's message as one sentence of one line, and the SQLSTATE that a message of PQERRORS_VERBOSE holds. */
void postgres_error_text(struct err *err, int code, const char *message, char ret_sqlstate[static 6]);

/* postgres_connect.c */
void postgres_connect(struct postgres *postgres);
void postgres_connect_step(struct postgres *postgres); /* the socket is ready: CONNECTING */
void postgres_connect_late(struct postgres *postgres); /* the deadline of a target */
void postgres_connect_abandon(struct postgres *postgres); /* a look-up under way */
void postgres_setup_done(struct postgres *postgres); /* SETTING_UP or PREPARING is over, for good or ill */
void postgres_targets_free(struct postgres_target **targets, size_t *count);

/* postgres_pump.c */
void postgres_pump(struct postgres *postgres, bool read); /* SETTING_UP, PREPARING, UP */

/* postgres_group.c */
void postgres_group_forget_results(struct postgres_group *group);
void postgres_group_fail(struct postgres_group *group, enum postgres_outcome outcome, int code, const struct err *why);

#endif
