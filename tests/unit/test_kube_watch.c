/* LIST and WATCH against a server that says what the test wants and cuts where it wants. What the listener was told is
 * written down in words: "begin", "end", "A:name" (M, D), "up", "down". */
#include "executor/kubernetes/watch.h"

#include <errno.h>

#include "base/text.h"
#include "kube_world.h"

#define OBJECT(name, version) "{\"metadata\":{\"name\":\"" name "\",\"resourceVersion\":\"" version "\"}}"
#define EVENT(type, name, version) "{\"type\":\"" type "\",\"object\":" OBJECT(name, version) "}\n"
#define LIST(version, items) \
	"{\"kind\":\"JobList\",\"metadata\":{\"resourceVersion\":\"" version "\"},\"items\":[" items "]}"
#define PAGE_OF(version, next, items) \
	"{\"kind\":\"JobList\",\"metadata\":{\"resourceVersion\":\"" version "\",\"continue\":\"" next \
	"\"},\"items\":[" items "]}"
#define STATUS(code, reason, message) \
	"{\"kind\":\"Status\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"" message "\",\"reason\":\"" reason \
	"\",\"code\":" #code "}"
#define ERROR(code, reason, message) "{\"type\":\"ERROR\",\"object\":" STATUS(code, reason, message) "}\n"
#define PATH "/apis/batch/v1/namespaces/crucible/jobs"

/* ---- the server ---- */

enum end { END, CUT, KEEP };

/* What one request is answered; in their order. Behind the last one requests are kept without an answer. */
static struct step {
	const char *wants; /* in its query */
	int status;
	const char *body;
	enum end end; /* of a watch's stream */
	const char *retry_after;
} steps[16];
static int step_count, step_at;

static bool query_has(const struct http_request *request, const char *words)
{
	return memmem(request->query.data, request->query.len, words, strlen(words)) != NULL;
}

static void answer_steps(struct http_exchange *exchange, const struct http_request *request)
{
	if (step_at == step_count) {
		keep_open(exchange);
		return;
	}
	struct step step = steps[step_at++];
	if (!CHECK(query_has(request, step.wants)))
		printf("# request %d: %.*s, not %s\n", step_at, (int)request->query.len, request->query.data,
			step.wants);
	struct http_header header = { BYTES_LITERAL("Retry-After"), bytes_of(step.retry_after) };
	if (step.status == 0) {
		http_exchange_cut(exchange);
	} else if (!query_has(request, "watch=1") || step.status != 200) {
		http_respond(exchange, step.status, "application/json", bytes_of(step.body), &header,
			step.retry_after ? 1 : 0);
	} else {
		http_stream_start(exchange, 200, "application/json", NULL, 0);
		if (*step.body)
			http_stream_write(exchange, bytes_of(step.body));
		if (step.end == END)
			http_stream_end(exchange);
		else if (step.end == CUT)
			http_exchange_cut(exchange);
		else
			keep_open(exchange);
	}
}

#define SCRIPT(...) \
	do { \
		static const struct step script[] = { __VA_ARGS__ }; \
		_Static_assert(sizeof(script) <= sizeof(steps), "a script fits"); \
		memcpy(steps, script, sizeof(script)); \
		step_count = (int)ARRAY_SIZE(script); \
		step_at = 0; \
	} while (0)

/* ---- the listener ---- */

static struct heard {
	struct kube_watch *watch;
	struct buffer log;
	struct err cause; /* of the last "down" */
	bool stopped;
	const char *stop_at; /* the word at which the listener stops */
	bool call_from_object; /* hands a call to the client from on_object */
	struct kube_call call;
	bool called;
	size_t largest; /* length of the longest string "data" of an object */
} heard;

static void on_stopped(void *owner)
{
	CHECK(owner == &heard);
	CHECK(!w.inside);
	CHECK(!heard.stopped);
	heard.stopped = true;
	heard.watch = NULL;
}

static void say(const char *word)
{
	CHECK(!w.inside);
	CHECK(heard.watch != NULL);
	buffer_append_string(&heard.log, heard.log.len ? " " : "");
	buffer_append_string(&heard.log, word);
	if (heard.stop_at && strcmp(heard.stop_at, word) == 0) {
		heard.stop_at = NULL;
		w.inside = true;
		kube_watch_stop(heard.watch, on_stopped, &heard);
		w.inside = false;
	}
}

static void on_called(struct kube_call *call)
{
	heard.called = true;
}

static void on_object(void *owner, enum kube_change change, yyjson_val *object)
{
	char word[80];
	yyjson_val *metadata = yyjson_obj_get(object, "metadata");
	size_t len = yyjson_get_len(yyjson_obj_get(metadata, "data"));
	CHECK(owner == &heard);
	heard.largest = len > heard.largest ? len : heard.largest;
	snprintf(word, sizeof(word), "%c:%s", "AMD"[change], yyjson_get_str(yyjson_obj_get(metadata, "name")));
	if (heard.call_from_object) {
		heard.call_from_object = false;
		heard.call = (struct kube_call){ .method = "GET", .path = "/?wanted", .done = on_called };
		kube_client_call(w.client, &heard.call);
	}
	say(word);
}

static void on_listed(void *owner, bool end)
{
	say(end ? "end" : "begin");
}

static void on_state(void *owner, bool up, const struct err *cause)
{
	CHECK(up == !cause);
	if (cause)
		heard.cause = *cause;
	say(up ? "up" : "down");
}

static void watch_with(struct kube_watch_options options)
{
	heard = (struct heard){ .log = BUFFER_MAX(0) };
	options.loop = &w.loop;
	options.client = w.client;
	options.path = PATH;
	options.listener = (struct kube_watch_listener){ on_object, on_listed, on_state, &heard };
	if (options.pause_us == 0)
		options.pause_us = options.pause_max_us = US_PER_MS;
	if (options.short_us == 0)
		options.short_us = 60 * US_PER_S; /* however slow the machine is */
	w.inside = true;
	heard.watch = kube_watch_start(&options);
	w.inside = false;
}

static void begin(void)
{
	world_open(answer_steps);
	world_client(NULL, NULL);
}

static void stop(void)
{
	w.inside = true;
	kube_watch_stop(heard.watch, on_stopped, &heard);
	w.inside = false;
	run_until(&heard.stopped);
}

static bool log_is(const char *words)
{
	return bytes_is(buffer_bytes(&heard.log), words);
}

/* Waits until so much was said, and compares. */
static void hear(const char *words)
{
	RUN_UNTIL(heard.log.len >= strlen(words));
	CHECK_BYTES(buffer_bytes(&heard.log), words);
}

static void done(void)
{
	if (heard.watch)
		stop();
	kube_call_fini(&heard.call);
	buffer_fini(&heard.log);
	world_close();
}

/* ---- what goes well ---- */

TEST(a_list_in_pages_then_changes)
{
	begin();
	SCRIPT({ "limit=2", 200, PAGE_OF("10", "a/b", OBJECT("one", "3") "," OBJECT("two", "4")) },
		{ "continue=a%2Fb", 200, PAGE_OF("11", "c", OBJECT("three", "5")) },
		{ "continue=c", 200, LIST("12", "") },
		{ "resourceVersion=10&", 200, EVENT("ADDED", "four", "11") EVENT("MODIFIED", "one", "12"), KEEP });
	watch_with((struct kube_watch_options){ .label_selector = "app=evaluation,x in (y)", .page = 2 });
	hear("begin A:one A:two A:three end up A:four M:one");
	http_stream_write(w.open[0], BYTES_LITERAL(EVENT("DELETED", "one", "13")));
	hear("begin A:one A:two A:three end up A:four M:one D:one");
	struct bytes seen = buffer_bytes(&w.seen);
	static const char selector[] = "&labelSelector=app%3Devaluation%2Cx%20in%20%28y%29";
	static const char first[] = "GET " PATH " limit=2&labelSelector=app%3Devaluation%2Cx%20in%20%28y%29 - - -\n";
	CHECK(seen.len > sizeof(first) && memcmp(seen.data, first, sizeof(first) - 1) == 0);
	for (int i = 0; i < 4; i++) {
		const char *found = memmem(seen.data, seen.len, selector, sizeof(selector) - 1);
		REQUIRE(found);
		seen.len -= (size_t)(found + 1 - seen.data);
		seen.data = found + 1;
	}
	struct kube_watch_figures figures = kube_watch_figures(heard.watch);
	CHECK(figures.up);
	CHECK_INT(figures.events, 3);
	CHECK_INT(figures.listed, 3);
	CHECK_INT(figures.lists, 1);
	CHECK_INT(figures.restarts, 0);
	CHECK_INT(figures.failures, 0);
	done();
}

/* It never watches, and a list that fails is tried again after a pause, as with one that does. */
TEST(lists_alone)
{
	begin();
	SCRIPT({ "limit=1", 200, PAGE_OF("10", "a", OBJECT("one", "3")) },
		{ "continue=a", 200, LIST("10", OBJECT("two", "4")) }, { "limit=1", 500, "{}" },
		{ "limit=1", 410, STATUS(410, "Expired", "too old") }, { "limit=1", 200, LIST("12", "") });
	watch_with((struct kube_watch_options){ .page = 1, .list_every_us = US_PER_MS });
	hear("begin A:one A:two end up begin down begin begin end up begin");
	CHECK(memmem(w.seen.data, w.seen.len, "watch=1", 7) == NULL);
	struct kube_watch_figures figures = kube_watch_figures(heard.watch);
	CHECK(figures.up);
	CHECK_INT(figures.events, 0);
	CHECK_INT(figures.listed, 2);
	CHECK_INT(figures.lists, 5);
	CHECK_INT(figures.restarts, 0);
	done();
}

TEST(a_watch_asks_for_bookmarks_and_an_end)
{
	begin();
	SCRIPT({ "limit=250", 200, LIST("10", "") },
		{ "watch=1&allowWatchBookmarks=true&timeoutSeconds=", 200, "", KEEP });
	watch_with((struct kube_watch_options){ .timeout_us = 100 * US_PER_S });
	hear("begin end up");
	const char *at = memmem(w.seen.data, w.seen.len, "timeoutSeconds=", 15);
	REQUIRE(at);
	long seconds = strtol(at + 15, NULL, 10);
	CHECK(seconds >= 75 && seconds <= 125);
	done();
}

/* Between the ends of streams: what came is there before a cut throws away what was not read. */
TEST(a_watch_goes_on_from_the_version_last_seen)
{
	begin();
	SCRIPT({ "limit=", 200, LIST("10", "") },
		{ "resourceVersion=10", 200, EVENT("ADDED", "a", "11") EVENT("BOOKMARK", "", "15"), END },
		{ "resourceVersion=15", 200, EVENT("BOOKMARK", "", "20"), KEEP },
		{ "resourceVersion=20", 200, EVENT("MODIFIED", "a", "21"), KEEP });
	watch_with((struct kube_watch_options){ 0 });
	RUN_UNTIL(kube_watch_figures(heard.watch).bookmarks == 2);
	http_exchange_cut(take_open(0));
	hear("begin end up A:a M:a");
	struct kube_watch_figures figures = kube_watch_figures(heard.watch);
	CHECK_INT(figures.bookmarks, 2);
	CHECK_INT(figures.events, 2);
	CHECK_INT(figures.restarts, 2);
	CHECK_INT(figures.lists, 1);
	CHECK_INT(figures.failures, 0);
	done();
}

TEST(a_call_may_be_made_from_an_object)
{
	begin();
	SCRIPT({ "limit=", 200, LIST("10", "") }, { "resourceVersion=10", 200, EVENT("ADDED", "a", "11"), KEEP },
		{ "wanted", 200, "{}" });
	watch_with((struct kube_watch_options){ 0 });
	heard.call_from_object = true;
	run_until(&heard.called);
	CHECK_INT(heard.call.status, 200);
	CHECK(log_is("begin end up A:a"));
	done();
}

/* ---- streams in pieces ---- */

/* A store: what happened, by version. The first watch is cut after so many bytes. */
static const char *const history[] = { EVENT("ADDED", "a", "11"), EVENT("MODIFIED", "b", "12"),
	EVENT("DELETED", "c", "13") };
static size_t cut_after; /* SIZE_MAX: not */

static void answer_history(struct http_exchange *exchange, const struct http_request *request)
{
	if (!query_has(request, "watch=1")) {
		respond(exchange, 200, LIST("10", ""));
		return;
	}
	struct buffer text = BUFFER_MAX(0);
	int from = query_has(request, "resourceVersion=10")   ? 0
		   : query_has(request, "resourceVersion=11") ? 1
		   : query_has(request, "resourceVersion=12") ? 2
							      : 3;
	for (int i = from; i < 3; i++)
		buffer_append_string(&text, history[i]);
	size_t len = text.len < cut_after ? text.len : cut_after;
	http_stream_start(exchange, 200, "application/json", NULL, 0);
	/* One chunk for each byte. */
	for (size_t i = 0; i < len; i++)
		http_stream_write(exchange, (struct bytes){ text.data + i, 1 });
	keep_open(exchange);
	buffer_fini(&text);
}

TEST(a_stream_cut_at_every_byte)
{
	size_t len = strlen(history[0]) + strlen(history[1]) + strlen(history[2]);
	for (size_t cut = 0; cut <= len; cut++) {
		world_open(answer_history);
		world_client(NULL, NULL);
		cut_after = cut;
		watch_with((struct kube_watch_options){ 0 });
		RUN_UNTIL(w.requests == 2);
		cut_after = SIZE_MAX;
		/* What was written goes out; then the connection ends without the end of the answer. */
		RUN_UNTIL(http_stream_queued(w.open[0]) == 0 && kube_watch_figures(heard.watch).up);
		http_exchange_cut(take_open(0));
		RUN_UNTIL(heard.log.len > 4 && memcmp(heard.log.data + heard.log.len - 3, "D:c", 3) == 0);
		/* Where nothing had come at all the cut is a failure, and told. */
		if (!log_is("begin end up A:a M:b D:c") && !log_is("begin end up down up A:a M:b D:c")) {
			CHECK_BYTES(buffer_bytes(&heard.log), "begin end up A:a M:b D:c");
			printf("# cut after %zu\n", cut);
		}
		CHECK_INT(kube_watch_figures(heard.watch).lists, 1);
		done();
	}
}

/* An event with a string of so many bytes inside. */
static char *large_event(const char *version, size_t size)
{
	char *text = alloc(size + 200);
	int head = snprintf(text, 200,
		"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"big\",\"resourceVersion\":"
		"\"%s\",\"data\":\"",
		version);
	memset(text + head, 'z', size);
	snprintf(text + head + size, 200 - (size_t)head, "\"}}}\n");
	return text;
}

TEST(events_of_megabytes)
{
	begin();
	SCRIPT({ "limit=", 200, LIST("10", "") }, { "resourceVersion=10", 200, "", KEEP });
	watch_with((struct kube_watch_options){ 0 });
	hear("begin end up");
	char *text = large_event("11", 3 << 20);
	http_stream_write(w.open[0], bytes_of(text));
	http_stream_write(w.open[0], BYTES_LITERAL(EVENT("ADDED", "small", "12")));
	free(text);
	hear("begin end up A:big A:small");
	CHECK_INT(heard.largest, 3 << 20);
	done();
}

TEST(an_event_that_is_too_large)
{
	begin();
	SCRIPT({ "limit=", 200, LIST("10", "") }, { "resourceVersion=10", 200, EVENT("ADDED", "a", "11"), KEEP },
		{ "resourceVersion=11", 200, EVENT("ADDED", "b", "12"), KEEP });
	watch_with((struct kube_watch_options){ .event_max = 1000 });
	hear("begin end up A:a");
	char *text = large_event("12", 2000);
	http_stream_write(w.open[0], bytes_of(text));
	free(text);
	hear("begin end up A:a down up A:b");
	CHECK_INT(heard.cause.code, -EMSGSIZE);
	CHECK_STR(heard.cause.message, "watch " PATH ": an event is larger than 1000 bytes");
	done();
}

/* ---- 410 ---- */

TEST(versions_that_are_gone)
{
	/* As HTTP's status, and as an event; twice in a row is told. */
	begin();
	SCRIPT({ "limit=", 200, LIST("10", OBJECT("a", "1") "," OBJECT("b", "2")) },
		{ "resourceVersion=10", 410, STATUS(410, "Expired", "too old") },
		{ "limit=", 200, LIST("20", OBJECT("a", "1")) },
		{ "resourceVersion=20", 200,
			EVENT("MODIFIED", "a", "21") ERROR(410, "Expired", "too old resource version"), END },
		{ "limit=", 200, LIST("30", "") },
		{ "resourceVersion=30", 200,
			ERROR(410, "Gone", "too old resource version: 30 (40)") EVENT("ADDED", "x", "1"), KEEP },
		{ "limit=", 200, LIST("40", "") }, { "resourceVersion=40", 200, EVENT("ADDED", "c", "41"), KEEP });
	watch_with((struct kube_watch_options){ 0 });
	hear("begin A:a A:b end begin A:a end up M:a begin end down begin end up A:c");
	CHECK_INT(heard.cause.code, -ESTALE);
	CHECK(strstr(heard.cause.message, "too old resource version: 30 (40)"));
	struct kube_watch_figures figures = kube_watch_figures(heard.watch);
	CHECK_INT(figures.expired, 3);
	CHECK_INT(figures.lists, 4);
	CHECK_INT(figures.failures, 1);
	CHECK_INT(figures.restarts, 0);
	done();
}

TEST(a_list_whose_next_page_is_gone_begins_anew)
{
	begin();
	SCRIPT({ "limit=250", 200, PAGE_OF("10", "next", OBJECT("a", "1")) },
		{ "continue=next", 410, STATUS(410, "Expired", "the continue parameter is too old") },
		{ "limit=250", 200, LIST("20", OBJECT("b", "2")) }, { "resourceVersion=20", 200, "", KEEP });
	watch_with((struct kube_watch_options){ 0 });
	hear("begin A:a begin A:b end up");
	const char *asked = memmem(w.seen.data, w.seen.len, "continue=", 9);
	REQUIRE(asked);
	asked++; /* once, and not of the new list */
	CHECK(!memmem(asked, (size_t)(w.seen.data + w.seen.len - asked), "continue=", 9));
	done();
}

/* ---- failures ---- */

TEST(failures_are_told_and_mended)
{
	static const struct {
		struct step failing; /* in place of the list, or of the watch */
		int code;
		const char *words;
		bool lists; /* anew after it */
	} cases[] = {
		{ { "limit=", 401, STATUS(401, "Unauthorized", "Unauthorized") }, -EACCES,
			"list " PATH ": the API server answered 401 Unauthorized: Unauthorized", true },
		{ { "limit=", 403, STATUS(403, "Forbidden", "jobs.batch is forbidden: User \\\"u\\\" cannot list") },
			-EPERM, "403 Forbidden: jobs.batch is forbidden: User \"u\" cannot list", true },
		{ { "limit=", 404, "404 page not found" }, -ENOENT, "404", true },
		{ { "limit=", 503, "" }, -EIO, "503", true },
		{ { "limit=", 0, "" }, -EPROTO, "list " PATH ": ", true },
		{ { "limit=", 200, "{" }, -EPROTO, "is no list: " PATH, true },
		{ { "limit=", 200, "{\"kind\":\"Job\",\"metadata\":{\"resourceVersion\":\"1\"}}" }, -EPROTO,
			"is no list", true },
		{ { "limit=", 200, "{\"metadata\":{},\"items\":[]}" }, -EPROTO, "is no list", true },
		{ { "watch=1", 403, STATUS(403, "Forbidden", "cannot watch") }, -EPERM,
			"watch " PATH ": the API server answered 403 Forbidden: cannot watch", false },
		{ { "watch=1", 500, "" }, -EIO, "500", false },
		{ { "watch=1", 400, STATUS(400, "BadRequest", "invalid resource version") }, -EINVAL, "invalid", true },
		{ { "watch=1", 200, "", END }, -EIO, "the API server ended the watch at once", false },
		{ { "watch=1", 200, "garbage\n", KEEP }, -EPROTO, "sent what is no event", true },
		{ { "watch=1", 200, "{\"type\":\"ADDED\"}\n", KEEP }, -EPROTO, "sent what is no event", true },
		{ { "watch=1", 200, EVENT("RENAMED", "a", "1"), KEEP }, -EPROTO, "sent what is no event", true },
		{ { "watch=1", 200, ERROR(500, "InternalError", "etcd is away"), KEEP }, -EIO,
			"ended it with 500: etcd is away", false },
		{ { "watch=1", 200, ERROR(429, "TooManyRequests", "slow"), KEEP }, -EIO, "ended it with 429: slow",
			false },
		{ { "watch=1", 200, ERROR(403, "Forbidden", "no more"), KEEP }, -EIO, "ended it with 403: no more",
			true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct step list = { "limit=", 200, LIST("10", "") };
		const struct step watch = { "resourceVersion=10", 200, EVENT("ADDED", "a", "11"), KEEP };
		bool listing = strcmp(cases[i].failing.wants, "limit=") == 0;
		begin();
		step_at = step_count = 0;
		if (!listing)
			steps[step_count++] = list;
		steps[step_count++] = cases[i].failing;
		if (cases[i].lists)
			steps[step_count++] = list;
		steps[step_count++] = watch;
		watch_with((struct kube_watch_options){ 0 });
		RUN_UNTIL(heard.log.len > 3 && memcmp(heard.log.data + heard.log.len - 3, "A:a", 3) == 0);
		bool headed = !listing && cases[i].failing.status == 200;
		const char *wanted = listing           ? "begin down begin end up A:a"
				     : !cases[i].lists ? (headed ? "begin end up down up A:a" : "begin end down up A:a")
				     : headed          ? "begin end up down begin end up A:a"
						       : "begin end down begin end up A:a";
		CHECK_BYTES(buffer_bytes(&heard.log), wanted);
		CHECK_INT(heard.cause.code, cases[i].code);
		if (!CHECK(strstr(heard.cause.message, cases[i].words)))
			printf("# case %zu: %s\n", i, heard.cause.message);
		CHECK_INT(kube_watch_figures(heard.watch).failures, 1);
		done();
	}
}

TEST(a_cause_that_stays_is_told_once)
{
	begin();
	SCRIPT({ "limit=", 503, "" }, { "limit=", 503, "" }, { "limit=", 403, "" }, { "limit=", 403, "" },
		{ "limit=", 200, LIST("1", "") }, { "watch=1", 200, "", KEEP });
	watch_with((struct kube_watch_options){ 0 });
	hear("begin down begin begin down begin begin end up");
	done();
}

TEST(what_the_server_asks_to_wait_is_waited)
{
	begin();
	SCRIPT({ "limit=", 429, "", END, "1" }, { "limit=", 200, LIST("1", "") }, { "watch=1", 200, "", KEEP });
	int64_t began_us = clock_monotonic_us();
	watch_with((struct kube_watch_options){ 0 });
	hear("begin down begin end up");
	CHECK_INT(heard.cause.code, -EAGAIN);
	CHECK(clock_monotonic_us() - began_us >= US_PER_S);
	done();
}

TEST(pauses_grow_where_watches_end_at_once)
{
	begin();
	SCRIPT({ "limit=", 200, LIST("1", "") }, { "watch=1", 200, "", END }, { "watch=1", 200, "", END },
		{ "watch=1", 200, "", END }, { "watch=1", 200, "", END }, { "watch=1", 200, "", KEEP });
	int64_t began_us = clock_monotonic_us();
	watch_with((struct kube_watch_options){ .pause_us = 20 * US_PER_MS, .pause_max_us = US_PER_S });
	hear("begin end up down up down up down up down up");
	/* At least half of 20, 40, 80 and 160 ms. */
	CHECK(clock_monotonic_us() - began_us >= 150 * US_PER_MS);
	done();
}

TEST(a_watch_that_lasted_is_a_success_without_anything_new)
{
	begin();
	SCRIPT({ "limit=", 200, LIST("1", "") }, { "resourceVersion=1", 200, "", END },
		{ "resourceVersion=1", 200, EVENT("ADDED", "a", "2"), KEEP });
	watch_with((struct kube_watch_options){ .short_us = 1 });
	hear("begin end up A:a");
	CHECK_INT(kube_watch_figures(heard.watch).failures, 0);
	CHECK_INT(kube_watch_figures(heard.watch).restarts, 1);
	done();
}

/* Each watch brings something new before it fails. */
static void answer_progress(struct http_exchange *exchange, const struct http_request *request)
{
	char event[300];
	if (!query_has(request, "watch=1")) {
		respond(exchange, 200, LIST("10", ""));
		return;
	}
	snprintf(event, sizeof(event),
		"{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"%d\"}}}\n%s", w.requests + 10,
		ERROR(500, "InternalError", "etcd is away"));
	http_stream_start(exchange, 200, "application/json", NULL, 0);
	http_stream_write(exchange, bytes_of(event));
	http_stream_end(exchange);
}

TEST(pauses_stay_short_where_there_is_progress)
{
	world_open(answer_progress);
	world_client(NULL, NULL);
	int64_t began_us = clock_monotonic_us();
	watch_with((struct kube_watch_options){ .pause_us = US_PER_MS, .pause_max_us = 60 * US_PER_S });
	RUN_UNTIL(kube_watch_figures(heard.watch).failures == 16);
	/* The sixteenth of a row would be half a minute long. */
	CHECK(clock_monotonic_us() - began_us < 10 * US_PER_S);
	CHECK_INT(kube_watch_figures(heard.watch).lists, 1);
	done();
}

TEST(a_page_that_is_too_large_is_halved)
{
	begin();
	SCRIPT({ "limit=4", 200, LIST("10", OBJECT("a", "1") "," OBJECT("b", "2")) },
		{ "limit=2", 200, LIST("10", OBJECT("a", "1") "," OBJECT("b", "2")) },
		{ "limit=1", 200, PAGE_OF("10", "n", OBJECT("a", "1")) },
		{ "limit=1&continue=n", 200, LIST("10", OBJECT("b", "2")) }, { "resourceVersion=10", 200, "", KEEP });
	watch_with((struct kube_watch_options){ .page = 4, .page_max = strlen(PAGE_OF("10", "n", OBJECT("a", "1"))) });
	RUN_UNTIL(step_at == 5);
	RUN_UNTIL(kube_watch_figures(heard.watch).up);
	CHECK_BYTES(buffer_bytes(&heard.log), "begin begin begin A:a A:b end up");
	done();
}

/* ---- silence ---- */

TEST(a_stream_that_is_silent_for_too_long_is_begun_again)
{
	begin();
	SCRIPT({ "limit=", 200, LIST("10", "") }, { "resourceVersion=10", 200, EVENT("ADDED", "a", "11"), KEEP },
		{ "resourceVersion=11", 200, EVENT("ADDED", "b", "12"), KEEP });
	watch_with((struct kube_watch_options){ .timeout_us = 4 * US_PER_S, .silence_us = 10 * US_PER_MS });
	hear("begin end up A:a A:b"); /* not down meanwhile */
	CHECK_INT(kube_watch_figures(heard.watch).restarts, 1);
	CHECK_INT(kube_watch_figures(heard.watch).failures, 0);
	done();
}

TEST(a_server_that_does_not_answer_is_told_soon)
{
	begin();
	SCRIPT({ "limit=", 200, LIST("10", "") });
	watch_with((struct kube_watch_options){ .list_deadline_us = 4 * US_PER_S });
	RUN_UNTIL(heard.cause.code);
	CHECK(log_is("begin end down"));
	CHECK_INT(heard.cause.code, -ETIMEDOUT);
	CHECK_STR(heard.cause.message, "watch " PATH ": no answer within the time allowed");
	done();
	begin();
	SCRIPT({ "limit=", 503, "" });
	watch_with((struct kube_watch_options){ .list_deadline_us = US_PER_S / 10 });
	RUN_UNTIL(heard.cause.code == -ETIMEDOUT);
	done();
}

/* ---- the end ---- */

TEST(it_stops_at_any_moment)
{
	static const char *const moments[] = { "begin", "A:a", "end", "up", "M:a", "down" };
	for (size_t i = 0; i < ARRAY_SIZE(moments); i++) {
		begin();
		SCRIPT({ "limit=", 200, PAGE_OF("10", "n", OBJECT("a", "1") "," OBJECT("b", "2")) },
			{ "continue=n", 200, LIST("10", OBJECT("c", "3")) },
			{ "watch=1", 200,
				EVENT("MODIFIED", "a", "11") EVENT("MODIFIED", "b", "12") ERROR(500, "x", "y"), KEEP });
		watch_with((struct kube_watch_options){ 0 });
		heard.stop_at = moments[i];
		run_until(&heard.stopped);
		/* Nothing more was told. */
		size_t len = strlen(moments[i]);
		CHECK(heard.log.len >= len && memcmp(heard.log.data + heard.log.len - len, moments[i], len) == 0);
		done();
	}
	/* Before it began; without an answer to the list; to the watch; while resting. */
	for (int i = 0; i < 4; i++) {
		begin();
		step_count = step_at = 0;
		steps[0] = (struct step){ "limit=", i == 3 ? 503 : 200, i == 3 ? "" : LIST("1", "") };
		step_count = i >= 2;
		watch_with((struct kube_watch_options){ .pause_us = 60 * US_PER_S, .pause_max_us = 60 * US_PER_S });
		if (i == 1 || i == 2)
			RUN_UNTIL(w.requests == i);
		if (i == 3)
			RUN_UNTIL(heard.cause.code);
		done();
		CHECK(heard.stopped);
	}
}

TEST_MAIN()
