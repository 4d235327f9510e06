/* The store's start and stop, its connections, and what it tells of them.
 *
 *   NEW ──start──► RUNNING ──stop──► STOPPING ──(errands given back, connections stopped, handles closed)──► STOPPED
 *
 *   start ─► the LISTEN connection: migrations, check ─► the lanes' connections ─► all up: available
 *
 * The store owns its connections. Operations belong to their callers; between the call and `done` each has an errand, in exactly one lane or in `refused`. */
#include "store/postgres/postgres_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgres/internal.h"
#include "store/postgres/schema.h"

#define DRAIN_MS 10000 /* how long stop waits for operations under way */
#define LAST_ANSWER_MS 1000

static const struct postgres_statement write_statements[] = WRITE_STATEMENTS;
static const struct postgres_statement read_statements[] = READ_STATEMENTS;

/* What each lane is for, and which statements it prepares. */
static const struct {
	const char *purpose;
	size_t depth;
	bool vital; /* without it the store is away */
	int writes[20], reads[20]; /* each with -1 behind the last */
} lanes[LANE_COUNT] = {
	[LANE_SUBMIT... LANE_SUBMIT_LAST] = { "submit", PARALLEL_SUBMITS, true,
		{ WRITE_REGISTER, WRITE_SUBMIT_NEW, WRITE_SUBMIT, WRITE_SUBMIT_FOUND, WRITE_HORIZON, -1 }, { -1 } },
	[LANE_CLAIM] = { "claim", 1, true,
		{ WRITE_REGISTER, WRITE_PROMOTE, WRITE_CLAIM_LAST, WRITE_CLAIM, WRITE_CLAIM_LEFT, -1 }, { -1 } },
	[LANE_SETTLE] = { "settle", 1, true,
		{ WRITE_SETTLE_PLAIN, WRITE_SETTLE_LOCK, WRITE_SETTLE, WRITE_SETTLE_OUTPUT, WRITE_SETTLE_ROWS,
			WRITE_SETTLE_EVENTS, WRITE_CANCEL, WRITE_RUN, WRITE_BATCH_IDS, WRITE_COMMAND_EVENTS, -1 },
		{ -1 } },
	[LANE_BEAT] = { "beat", 1, true,
		{ WRITE_REGISTER, WRITE_BEAT, WRITE_BEAT_LEARN, WRITE_TOLD, WRITE_CANCEL_REQUESTS, WRITE_TELL_TURNS,
			WRITE_LEARN_TURNS, -1 },
		{ -1 } },
	[LANE_READ] = { "read", 16, false, { -1 },
		{ READ_TASK_BY_ID, READ_TASK_BY_ID_WITH_PARAMS, READ_EVENTS_ALL, READ_EVENTS_TASK, READ_EVENTS_OUTPUT,
			READ_OUTPUT, -1 } },
	[LANE_SCAN] = { "scan", 4, false, { -1 },
		{ READ_MATCH_PREFIX, READ_MATCH_SUFFIX_NEWEST, READ_MATCH_SUFFIX_WAITING, READ_LIST_ALL,
			READ_LIST_TENANT, READ_LIST_BATCH, READ_LIST_EVAL_ID, READ_POSITION, READ_COUNTS,
			READ_STREAM_END, READ_OLDEST_WAITING, READ_CALLBACK_OF, READ_DELIVERIES, READ_DELIVERY_ATTEMPTS,
			-1 } },
	[LANE_KEEP] = { "keep", 1, false,
		{ WRITE_REGISTER, WRITE_PROMOTE, WRITE_FOLD_COUNTS, WRITE_BURY, WRITE_TAKE_DEAD, WRITE_TAKE_OWN,
			WRITE_TRIM_LOCK, WRITE_TRIM, WRITE_FORGET_REPLICAS, WRITE_FORGET_TURNS, WRITE_DELIVERY_CLAIM,
			WRITE_DELIVERY_LEFT, WRITE_DELIVERY_WAITING, WRITE_DELIVERY_SETTLE, WRITE_DELIVERY_RELEASE,
			-1 },
		{ -1 } },
};

/* ---- the operations ---- */

#define OPERATION(name, type, lane) \
	static void name(struct store *store, struct type *operation) \
	{ \
		errand_hand_in(postgres_store_of(store), lane, &operation->operation, begin_##name); \
	}

/* While one batch waits for the disk another is executed, where both are large. Small ones follow each other over one connection, whose process
 * is warm and finds the next when it is done with the last: two that take turns, or the processor from each other, are slower. */
static void submit(struct store *self, struct store_submit *operation)
{
	struct postgres_store *store = postgres_store_of(self);
	enum lane_name name = LANE_SUBMIT;
	while (operation->count >= PARALLEL_ROWS && name < LANE_SUBMIT_LAST &&
		(store->lanes[name].running > 0 || !list_empty(&store->lanes[name].waiting)))
		name++;
	errand_hand_in(store, name, &operation->operation, begin_submit);
}

OPERATION(claim, store_claim, LANE_CLAIM)
OPERATION(settle, store_settle, LANE_SETTLE)
OPERATION(command, store_command, LANE_SETTLE)
OPERATION(heartbeat, store_heartbeat, LANE_BEAT)
OPERATION(take, store_take, LANE_KEEP)
OPERATION(trim, store_trim, LANE_KEEP)
OPERATION(read_task, read_task, LANE_READ)
OPERATION(read_match, read_match, LANE_SCAN)
OPERATION(read_list, read_list, LANE_SCAN)
OPERATION(read_events, read_events, LANE_READ)
OPERATION(read_output, read_output, LANE_READ)
OPERATION(read_position, read_position, LANE_SCAN)
OPERATION(read_counts, read_counts, LANE_SCAN)
OPERATION(delivery_claim, store_delivery_claim, LANE_KEEP)
OPERATION(delivery_settle, store_delivery_settle, LANE_KEEP)
OPERATION(read_deliveries, read_deliveries, LANE_SCAN)

static void follow_events(struct store *store, bool wanted)
{
	notices_follow(postgres_store_of(store), wanted);
}

static void follow_output(struct store *store, const struct uuid *id)
{
	notices_about(postgres_store_of(store), 'F', id);
}

/* ---- availability ---- */

static void tell(struct postgres_store *store, const struct err *why_not)
{
	bool available = why_not == NULL;
	if (store->state != STATE_RUNNING)
		return;
	store->why_not = available ? (struct err){ 0 } : *why_not;
	if (store->told_available == available && (store->told_once || !available))
		return;
	if (!store->told_once && !available)
		return; /* it is being waited for */
	store->told_once = true;
	store->told_available = available;
	if (store->notices.on_available)
		store->notices.on_available(store->owner, available, why_not);
}

static void look(struct postgres_store *store)
{
	const struct err *why_not = NULL;
	if (store->schema_wrong) {
		tell(store, &store->why_not);
		return;
	}
	/* What was available stays so while lanes of reads are away: their operations alone are. */
	for (int i = 0; i < LANE_COUNT && !why_not; i++)
		if (!store->lanes[i].up && (store->lanes[i].vital || !store->told_available))
			why_not = &store->lanes[i].err;
	struct err copy = why_not ? *why_not : (struct err){ 0 };
	tell(store, why_not ? &copy : NULL);
}

/* What no waiting mends, before there was anything else. */
static void fail(struct postgres_store *store, const struct err *why)
{
	store->why_not = *why;
	if (store->told_once || store->told_failed || store->state != STATE_RUNNING)
		return;
	store->told_failed = true;
	if (store->notices.on_failed)
		store->notices.on_failed(store->owner, why);
}

void postgres_store_lost(struct lane *lane, const struct err *why)
{
	if (!lane->up || postgres_is_up(lane->postgres))
		return;
	lane->up = false;
	lane->err = *why;
	marks_drop(lane->store); /* what it wrote last is not known */
	look(lane->store);
}

static void on_lane(void *owner, bool up, bool fatal, const struct err *why_not)
{
	struct lane *lane = owner;
	struct postgres_store *store = lane->store;
	bool missed = up && !lane->up && store->told_available && store->state == STATE_RUNNING;
	lane->up = up;
	lane->given_up = false;
	if (!up) {
		lane->err = *why_not;
		marks_drop(store); /* what it wrote last is not known */
	}
	if (!up && fatal)
		fail(store, why_not);
	look(store);
	for (int i = 0; i < LANE_COUNT; i++)
		errand_pump(&store->lanes[i]);
	/* Who reads when told of events was refused meanwhile. */
	if (missed && store->notices.on_events)
		store->notices.on_events(store->owner);
}

static void on_listening(void *owner, bool up, bool fatal, const struct err *why_not)
{
	struct postgres_store *store = owner;
	store->notifier.up = up;
	if (!up) {
		bool is_wrong = postgres_setup_is_refused(store->notifier.postgres);
		if (fatal && (is_wrong || !store->lanes_started))
			fail(store, why_not);
		if (!store->lanes_started)
			for (int i = 0; i < LANE_COUNT; i++)
				store->lanes[i].err = *why_not;
		/* With the lanes there, notices can be done without: what keeps their connection alone away is no word on the
		 * schema. One that was found wrong stays so until it is found right. */
		if (is_wrong && store->lanes_started) {
			store->schema_wrong = true;
			store->why_not = *why_not;
		}
		look(store);
		return;
	}
	store->schema_wrong = false;
	if (!store->lanes_started && store->state == STATE_RUNNING) {
		store->lanes_started = true;
		for (int i = 0; i < LANE_COUNT; i++)
			postgres_start(store->lanes[i].postgres);
	}
	look(store);
	notices_on_up(store);
}

/* ---- stop ---- */

static void on_closed(uv_handle_t *handle)
{
	struct postgres_store *store = handle->data;
	if (--store->handles_open > 0)
		return;
	store->state = STATE_STOPPED;
	store->on_stopped(store->stop_owner);
}

static void on_connection_stopped(void *owner)
{
	struct postgres_store *store = owner;
	if (--store->connections_open > 0)
		return;
	store->connections_stopped = true;
	postgres_store_turn(store);
}

static void stop_connections(struct postgres_store *store)
{
	uv_timer_stop(&store->drain);
	store->connections_open = store->lanes_started ? LANE_COUNT + 1 : 1;
	notices_stop(store);
	for (int i = 0; i < LANE_COUNT && store->lanes_started; i++)
		postgres_stop(store->lanes[i].postgres, LAST_ANSWER_MS, on_connection_stopped, store);
	postgres_stop(store->notifier.postgres, LAST_ANSWER_MS, on_connection_stopped, store);
}

static void on_drain_over(uv_timer_t *timer)
{
	struct postgres_store *store = timer->data;
	for (int i = 0; i < LANE_COUNT; i++)
		errand_refuse_all(&store->lanes[i]);
	/* Those under way come back as UNKNOWN. */
	if (store->connections_open == 0)
		stop_connections(store);
}

static void on_turn(uv_timer_t *timer)
{
	struct postgres_store *store = timer->data;
	for (struct list *link; (link = list_pop_front(&store->refused));) {
		struct errand *errand = LIST_ENTRY(link, struct errand, link);
		struct store_operation *operation = errand->operation;
		free(errand);
		store->errands--;
		operation->done(operation);
	}
	if (store->state != STATE_STOPPING || store->errands > 0)
		return;
	if (store->connections_stopped) {
		uv_close((uv_handle_t *)&store->turn, on_closed);
		uv_close((uv_handle_t *)&store->drain, on_closed);
		uv_close((uv_handle_t *)&store->patience, on_closed);
		uv_close((uv_handle_t *)&store->notifier.timer, on_closed);
	} else if (store->connections_open == 0) {
		stop_connections(store);
	}
}

void postgres_store_turn(struct postgres_store *store)
{
	uv_timer_start(&store->turn, on_turn, 0, 0);
}

static void stop(struct store *base, void (*on_stopped)(void *owner), void *owner)
{
	struct postgres_store *store = postgres_store_of(base);
	store->on_stopped = on_stopped;
	store->stop_owner = owner;
	store->state = STATE_STOPPING;
	uv_timer_start(&store->drain, on_drain_over, DRAIN_MS, 0);
	for (int i = 0; i < LANE_COUNT; i++)
		errand_pump(&store->lanes[i]); /* none is waited for any more */
	postgres_store_turn(store);
}

/* ---- start ---- */

static int start(struct store *base, const struct store_notices *notices, void *owner, struct err *err)
{
	struct postgres_store *store = postgres_store_of(base);
	uv_timer_t *const timers[] = { &store->turn, &store->drain, &store->patience, &store->notifier.timer };
	store->notices = notices ? *notices : (struct store_notices){ 0 };
	store->owner = owner;
	for (size_t i = 0; i < ARRAY_SIZE(timers); i++) {
		uv_timer_init(store->options.loop, timers[i]); /* cannot fail */
		timers[i]->data = store;
	}
	store->handles_open = ARRAY_SIZE(timers);
	store->state = STATE_RUNNING;
	postgres_start(store->notifier.postgres);
	return 0;
}

static void status(const struct store *base, struct store_status *ret_status)
{
	const struct postgres_store *store = CONTAINER_OF(base, const struct postgres_store, store);
	*ret_status = (struct store_status){
		.kind = "postgres",
		.available = store->state == STATE_RUNNING && store->told_available,
		.schema_wrong = store->schema_wrong,
		.parallel_submits = PARALLEL_SUBMITS,
		.parallel_rows = PIPELINED_ROWS,
	};
	int version = postgres_server_version(store->notifier.postgres);
	int length = snprintf(ret_status->description, sizeof(ret_status->description), "%s, schema %s", store->place,
		store->options.schema);
	if (version > 0 && length > 0 && length < (int)sizeof(ret_status->description))
		snprintf(ret_status->description + length, sizeof(ret_status->description) - (size_t)length,
			", PostgreSQL %d.%d", version / 10000, version % 10000);
	if (store->state != STATE_RUNNING)
		err_set(&ret_status->err, -ESHUTDOWN, "the store is not running");
	else if (!ret_status->available)
		ret_status->err = store->why_not;
}

static void free_lane(struct lane *lane)
{
	postgres_free(lane->postgres);
}

static void free_store(struct store *base)
{
	struct postgres_store *store = postgres_store_of(base);
	for (int i = 0; i < LANE_COUNT; i++)
		free_lane(&store->lanes[i]);
	postgres_free(store->notifier.postgres);
	notices_free(store);
	marks_free(store);
	arena_fini(&store->upkeep_arena);
	for (int i = 0; i < WRITE_COUNT; i++)
		free((char *)store->write[i].sql);
	for (int i = 0; i < READ_COUNT; i++)
		free((char *)store->read[i].sql);
	free((char *)store->registered.data);
	free((char *)store->options.url);
	free((char *)store->options.listen_url);
	free((char *)store->options.schema);
	free(store->setup);
	free(store);
}

static const struct store_ops ops = {
	.start = start,
	.stop = stop,
	.free = free_store,
	.status = status,
	.submit = submit,
	.claim = claim,
	.settle = settle,
	.command = command,
	.heartbeat = heartbeat,
	.take = take,
	.trim = trim,
	.delivery_claim = delivery_claim,
	.delivery_settle = delivery_settle,
	.follow_events = follow_events,
	.follow_output = follow_output,
	.read_task = read_task,
	.read_match = read_match,
	.read_list = read_list,
	.read_events = read_events,
	.read_output = read_output,
	.read_position = read_position,
	.read_counts = read_counts,
	.read_deliveries = read_deliveries,
};

/* ---- made ---- */

/* The statement, of this store's schema. */
static struct postgres_statement statement_of(const struct postgres_statement *template, const char *schema)
{
	struct buffer sql = { 0 };
	schema_append(&sql, template->sql, schema);
	buffer_append_char(&sql, '\0');
	return (struct postgres_statement){ template->name, sql.data, template->parameter_count };
}

static struct postgres *lane_connection(struct postgres_store *store, enum lane_name name)
{
	struct lane *lane = &store->lanes[name];
	const int *writes = lanes[name].writes, *reads = lanes[name].reads;
	size_t count = 0;
	lane->statements[count++] = &store->write[reads[0] < 0 ? WRITE_PLANNER : WRITE_READER];
	for (int i = 0; writes[i] >= 0; i++)
		lane->statements[count++] = &store->write[writes[i]];
	for (int i = 0; reads[i] >= 0; i++)
		lane->statements[count++] = &store->read[reads[i]];
	const struct postgres_options options = {
		.loop = store->options.loop,
		.log = store->options.log,
		.conninfo = store->options.url,
		.purpose = lanes[name].purpose,
		.statements = lane->statements,
		/* A pooler has settings of its own. */
		.setup = store->is_pooled ? NULL : POSTGRES_SETUP_KEEPALIVE,
		.setup_may_fail = true,
		.on_state = on_lane,
		.owner = lane,
	};
	return postgres_new(&options);
}

static struct postgres *listen_connection(struct postgres_store *store)
{
	const char *schema = store->options.schema;
	struct buffer setup = { 0 };
	buffer_append_string(&setup, POSTGRES_SETUP_KEEPALIVE "\n");
	postgres_store_migration_sql(schema, false, &setup);
	/* What is told is lost with the server anyway. */
	buffer_printf(&setup, "SET synchronous_commit = off;\nLISTEN \"%s\";\n", schema);
	buffer_append_char(&setup, '\0');
	store->setup = setup.data;
	store->notifier.statements[0] = &store->write[WRITE_NOTIFY];
	const struct postgres_options options = {
		.loop = store->options.loop,
		.log = store->options.log,
		.conninfo = store->options.listen_url,
		.purpose = "listen",
		.statements = store->notifier.statements,
		.setup = store->setup,
		.setup_takes_long = true,
		.on_state = on_listening,
		.on_notice = notices_on_notice,
		.owner = store,
	};
	return postgres_new(&options);
}

/* Where it is, without its secrets. */
static void describe(struct postgres_store *store)
{
	static const char *const keywords[] = { "host", "hostaddr", "port", "dbname", "user" };
	struct buffer text = { 0 };
	PQconninfoOption *words = PQconninfoParse(store->options.url, NULL);
	for (PQconninfoOption *word = words; word && word->keyword; word++)
		for (size_t i = 0; i < ARRAY_SIZE(keywords); i++)
			if (word->val && strcmp(word->keyword, keywords[i]) == 0)
				buffer_printf(&text, "%s%s=%s", text.len ? " " : "", word->keyword, word->val);
	PQconninfoFree(words);
	snprintf(store->place, sizeof(store->place), "%.*s", (int)text.len, text.data ? text.data : "");
	buffer_fini(&text);
}

struct store *postgres_store_new(const struct postgres_store_options *options)
{
	struct postgres_store *store = alloc(sizeof(*store));
	store->store.ops = &ops;
	store->options = *options;
	store->options.url = string_copy(options->url);
	store->options.listen_url = string_copy(options->listen_url ? options->listen_url : options->url);
	store->options.schema = string_copy(options->schema ? options->schema : POSTGRES_STORE_SCHEMA_DEFAULT);
	for (int i = 0; i < WRITE_COUNT; i++)
		store->write[i] = statement_of(&write_statements[i], store->options.schema);
	for (int i = 0; i < READ_COUNT; i++)
		store->read[i] = statement_of(&read_statements[i], store->options.schema);
	store->is_pooled = strcmp(store->options.url, store->options.listen_url) != 0;
	list_init(&store->refused);
	list_init(&store->marks);
	/* Until the first heartbeat tells, there may be others. */
	store->others = store->followers = 1;
	describe(store);
	err_set(&store->why_not, -ENOTCONN, "not connected yet");
	for (int i = 0; i < LANE_COUNT; i++) {
		struct lane *lane = &store->lanes[i];
		lane->store = store;
		lane->name = (enum lane_name)i;
		lane->vital = lanes[i].vital;
		lane->depth = lanes[i].depth;
		lane->err = store->why_not;
		list_init(&lane->waiting);
		lane->postgres = lane_connection(store, (enum lane_name)i);
	}
	store->notifier.postgres = listen_connection(store);
	return &store->store;
}
