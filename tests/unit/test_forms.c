/* Status objects, event payloads, cursors. */
#include <stdlib.h>
#include <yyjson.h>

#include "base/clock.h"
#include "task/forms.h"
#include "test.h"

static const struct uuid task_id = { { 1, 0x93, 0x4a, 0, 1, 2, 0x70, 3, 0x80, 4, 5, 6, 7, 8, 9, 10 } };
#define JOB_NAME "eval-agjuuaabajyahaaeaudaocajbi"

static struct task a_task(void)
{
	return (struct task){
		.id = task_id,
		.status = TASK_RUNNING,
		.run = 1,
		.attempt = 2,
		.attempts = 1,
		.max_attempts = 3,
		.priority = 5,
		.locked_by = BYTES_LITERAL("host#1#abc"),
		.type = BYTES_LITERAL("evaluation"),
		.queue = BYTES_LITERAL("default"),
		.executor = BYTES_LITERAL("sandbox"),
		.eval_id = BYTES_LITERAL("e\"1"),
		.queued_at_us = 1000 * US_PER_S,
		.started_at_us = 1001 * US_PER_S,
		.created_at_us = 1000 * US_PER_S,
	};
}

static struct attempt_record a_record(void)
{
	return (struct attempt_record){
		.status = TASK_FAILED,
		.reason = REASON_TESTS_FAILED,
		.exit_code = 0,
		.usage = { .wall_us = 1250000, .cpu_us = -1, .memory_bytes = 4096 },
		.stderr_truncated = true,
		.has_score = true,
		.score = 1,
		.max_score = 2.5,
		.tests_passed = 1,
		.tests_total = 2,
		.tests = BYTES_LITERAL("[{\"name\":\"t\"}]"),
		.started_at_us = 1001 * US_PER_S,
		.finished_at_us = 1002 * US_PER_S + 250000,
		.node = BYTES_LITERAL("n1"),
		.extra = BYTES_LITERAL("\"answer\":\"pong\""),
	};
}

/* Parses what was written; every text a form writes must be one JSON value. */
static yyjson_doc *parsed(struct buffer *buffer)
{
	yyjson_doc *document = yyjson_read(buffer->data, buffer->len, 0);
	if (!document)
		printf("# not JSON: %.*s\n", (int)buffer->len, buffer->data);
	REQUIRE(document);
	/* No name twice. */
	size_t i, count;
	yyjson_val *key, *value, *root = yyjson_doc_get_root(document);
	yyjson_obj_foreach(root, i, count, key, value)
	{
		if (!CHECK(yyjson_obj_get(root, yyjson_get_str(key)) == value))
			printf("# %s\n", yyjson_get_str(key));
	}
	return document;
}

static const char *text_at(yyjson_doc *document, const char *pointer)
{
	return yyjson_get_str(yyjson_doc_ptr_get(document, pointer));
}

static bool null_at(yyjson_doc *document, const char *pointer)
{
	return yyjson_is_null(yyjson_doc_ptr_get(document, pointer));
}

TEST(the_status_of_a_running_task_comes_from_its_row)
{
	struct buffer buffer = BUFFER_MAX(0);
	struct json json = JSON_TO(&buffer);
	struct task task = a_task();
	form_status(&json, &task);
	yyjson_doc *document = parsed(&buffer);
	CHECK_STR(text_at(document, "/job_name"), JOB_NAME);
	CHECK_STR(text_at(document, "/eval_id"), "e\"1");
	CHECK_STR(text_at(document, "/task_id"), "01934a00-0102-7003-8004-05060708090a");
	CHECK_STR(text_at(document, "/status"), "running");
	CHECK_STR(text_at(document, "/phase"), "running");
	CHECK(null_at(document, "/reason"));
	CHECK(null_at(document, "/fault"));
	CHECK(null_at(document, "/exit_code"));
	CHECK(null_at(document, "/signal"));
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/attempts")), 1);
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/attempt")), 2);
	CHECK_STR(text_at(document, "/queued_at"), "1970-01-01T00:16:40.000Z");
	CHECK(null_at(document, "/finished_at"));
	CHECK(null_at(document, "/duration_seconds"));
	CHECK(null_at(document, "/usage"));
	CHECK(null_at(document, "/node"));
	CHECK(null_at(document, "/batch_id"));
	CHECK_STR(text_at(document, "/route/replica"), "host#1");
	CHECK(!yyjson_doc_ptr_get(document, "/score"));
	yyjson_doc_free(document);
	buffer_fini(&buffer);
}

/* The same object, its members backwards and with white space, as a store may give it back. */
static struct bytes turned_round(struct bytes object, char **ret_text)
{
	yyjson_doc *document = yyjson_read(object.data, object.len, 0);
	yyjson_mut_doc *turned = yyjson_mut_doc_new(NULL);
	yyjson_mut_val *root = yyjson_mut_obj(turned), *key;
	size_t i, count, length;
	yyjson_val *name, *value;
	yyjson_mut_doc_set_root(turned, root);
	yyjson_obj_foreach(yyjson_doc_get_root(document), i, count, name, value)
	{
		key = yyjson_mut_strcpy(turned, yyjson_get_str(name));
		yyjson_mut_obj_insert(root, key, yyjson_val_mut_copy(turned, value), 0);
	}
	*ret_text = yyjson_mut_write(turned, YYJSON_WRITE_PRETTY, &length);
	yyjson_mut_doc_free(turned);
	yyjson_doc_free(document);
	return (struct bytes){ *ret_text, length };
}

/* The row as the store gives it back when the attempt has ended so. */
static struct task ended_task(const struct attempt_record *record, struct bytes result)
{
	struct task task = a_task();
	task.status = record->status;
	task.reason = record->reason;
	task.cause = record->cause;
	task.error = record->error;
	task.node = record->node;
	task.pod = record->pod;
	task.image = record->image;
	task.started_at_us = record->started_at_us;
	task.finished_at_us = record->finished_at_us;
	task.locked_by = BYTES_NONE;
	task.result = result;
	return task;
}

TEST(a_result_in_another_order_is_the_same_status)
{
	struct buffer result = BUFFER_MAX(0), status = BUFFER_MAX(0), other = BUFFER_MAX(0);
	struct json json = JSON_TO(&result);
	struct task task = a_task();
	struct attempt_record record = a_record();
	char *text;
	form_result(&json, &task, &record);
	task = ended_task(&record, buffer_bytes(&result));
	json = JSON_TO(&status);
	form_status(&json, &task);
	task.result = turned_round(buffer_bytes(&result), &text);
	CHECK(!bytes_equal(task.result, buffer_bytes(&result)));
	json = JSON_TO(&other);
	form_status(&json, &task);
	CHECK_BYTES(buffer_bytes(&other), buffer_bytes(&status));
	free(text);
	buffer_fini(&result);
	buffer_fini(&status);
	buffer_fini(&other);
}

TEST(the_status_of_an_ended_task_is_of_its_row_and_its_result)
{
	struct buffer result = BUFFER_MAX(0), status = BUFFER_MAX(0), whole = BUFFER_MAX(0);
	struct json json = JSON_TO(&result);
	struct task task = a_task();
	struct attempt_record record = a_record();
	form_result(&json, &task, &record);
	yyjson_doc *document = parsed(&result);
	CHECK_STR(text_at(document, "/status"), "failed");
	CHECK_STR(text_at(document, "/reason"), "tests_failed");
	CHECK_STR(text_at(document, "/route/replica"), "host#1");
	CHECK(!yyjson_doc_ptr_get(document, "/signal"));
	yyjson_doc_free(document);

	task = ended_task(&record, buffer_bytes(&result));
	task.params = BYTES_LITERAL("{\"code\":\"\"}");
	json = JSON_TO(&status);
	form_status(&json, &task);
	document = parsed(&status);
	CHECK_STR(text_at(document, "/status"), "failed");
	CHECK_STR(text_at(document, "/phase"), "failed");
	CHECK_STR(text_at(document, "/reason"), "tests_failed");
	CHECK_STR(text_at(document, "/fault"), "user");
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/exit_code")), 0);
	CHECK(null_at(document, "/signal"));
	CHECK(yyjson_get_num(yyjson_doc_ptr_get(document, "/duration_seconds")) == 1.25);
	CHECK(yyjson_get_num(yyjson_doc_ptr_get(document, "/usage/wall_seconds")) == 1.25);
	CHECK(null_at(document, "/usage/cpu_seconds"));
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/usage/memory_bytes")), 4096);
	CHECK(yyjson_get_num(yyjson_doc_ptr_get(document, "/score/max_points")) == 2.5);
	CHECK_STR(text_at(document, "/tests/0/name"), "t");
	CHECK_STR(text_at(document, "/answer"), "pong");
	CHECK_STR(text_at(document, "/node"), "n1");
	CHECK_STR(text_at(document, "/route/replica"), "host#1");
	CHECK(yyjson_get_bool(yyjson_doc_ptr_get(document, "/stderr_truncated")));
	CHECK(!yyjson_get_bool(yyjson_doc_ptr_get(document, "/stdout_truncated")));
	yyjson_doc_free(document);

	json = JSON_TO(&whole);
	form_task(&json, &task);
	document = parsed(&whole);
	CHECK_STR(text_at(document, "/status"), "failed");
	CHECK_STR(text_at(document, "/state"), "FAILED");
	CHECK_STR(text_at(document, "/id"), "01934a00-0102-7003-8004-05060708090a");
	CHECK_STR(text_at(document, "/result/reason"), "tests_failed");
	CHECK_STR(text_at(document, "/params/code"), "");
	CHECK_STR(text_at(document, "/created_at"), "1970-01-01T00:16:40.000Z");
	CHECK(null_at(document, "/metadata"));
	yyjson_doc_free(document);

	/* Run again: what the row says now holds, whatever the old result was. */
	task.status = TASK_QUEUED;
	task.reason = REASON_NONE;
	task.run = 2;
	task.started_at_us = 0;
	buffer_clear(&status);
	json = JSON_TO(&status);
	form_status(&json, &task);
	document = parsed(&status);
	CHECK_STR(text_at(document, "/phase"), "queued");
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/run")), 2);
	yyjson_doc_free(document);
	buffer_fini(&result);
	buffer_fini(&status);
	buffer_fini(&whole);
}

TEST(a_task_cancelled_while_it_waited_is_told_from_its_row)
{
	static const char *const results[] = { NULL, "{}",
		"{\"reason\":\"cancelled\",\"note\":\"\\\"job_name\\\":\"}" };
	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
		struct buffer buffer = BUFFER_MAX(0);
		struct json json = JSON_TO(&buffer);
		struct task task = a_task();
		task.status = TASK_CANCELLED;
		task.reason = REASON_CANCELLED;
		task.started_at_us = 0;
		task.finished_at_us = 1005 * US_PER_S;
		task.result = bytes_of(results[i]);
		form_status(&json, &task);
		yyjson_doc *document = parsed(&buffer);
		CHECK_STR(text_at(document, "/job_name"), JOB_NAME);
		CHECK_STR(text_at(document, "/status"), "failed");
		CHECK_STR(text_at(document, "/phase"), "cancelled");
		CHECK_STR(text_at(document, "/fault"), "platform");
		CHECK_STR(text_at(document, "/finished_at"), "1970-01-01T00:16:45.000Z");
		yyjson_doc_free(document);
		buffer_fini(&buffer);
	}
}

TEST(a_result_that_was_a_whole_status_is_read_the_same)
{
	struct buffer buffer = BUFFER_MAX(0);
	struct json json = JSON_TO(&buffer);
	struct task task = a_task();
	task.status = TASK_COMPLETED;
	task.result = BYTES_LITERAL(
		"{\"job_name\": \"x\", \"exit_code\": 7, \"signal\": null, \"usage\": null, \"compile_output\": \"c\", "
		"\"stdout_truncated\": true, \"route\": {\"queue\": \"q\", \"replica\": \"old\", \"executor\": "
		"\"e\"}}");
	form_status(&json, &task);
	yyjson_doc *document = parsed(&buffer);
	CHECK_STR(text_at(document, "/job_name"), JOB_NAME);
	CHECK_STR(text_at(document, "/executor"), "sandbox");
	CHECK_STR(text_at(document, "/route/replica"), "old");
	CHECK_STR(text_at(document, "/compile_output"), "c");
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/exit_code")), 7);
	CHECK(null_at(document, "/usage"));
	CHECK(yyjson_get_bool(yyjson_doc_ptr_get(document, "/stdout_truncated")));
	yyjson_doc_free(document);
	buffer_fini(&buffer);
}

TEST(a_terminal_event_carries_what_the_seeds_read)
{
	struct buffer data = BUFFER_MAX(0), payload = BUFFER_MAX(0);
	struct task task = a_task();
	struct attempt_record record = a_record();
	record.status = TASK_FAILED;
	record.reason = REASON_MAX_ATTEMPTS;
	record.cause = REASON_NODE_LOST;
	record.exit_code = -1;
	record.signal = 9;
	record.error = BYTES_LITERAL("the node is gone");
	form_terminal_data(&data, &task, &record);
	struct event event = {
		.kind = EVENT_FAILED,
		.task_id = task_id,
		.sequence = 4,
		.run = 1,
		.attempt = 2,
		.timestamp_us = 1002 * US_PER_S + 500000,
		.eval_id = BYTES_LITERAL("e1"),
		.data = buffer_bytes(&data),
		.output = BYTES_LITERAL("a\xff\0"),
		.error = BYTES_LITERAL("oops"),
		.output_truncated = true,
	};
	form_event(&payload, &event);
	yyjson_doc *document = parsed(&payload);
	CHECK_STR(text_at(document, "/kind"), "failed");
	CHECK_STR(text_at(document, "/eval_id"), "e1");
	CHECK(yyjson_get_num(yyjson_doc_ptr_get(document, "/timestamp")) == 1002.5);
	CHECK_STR(text_at(document, "/task_id"), "01934a00-0102-7003-8004-05060708090a");
	CHECK_STR(text_at(document, "/job_name"), JOB_NAME);
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/run")), 1);
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/attempt")), 2);
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/sequence")), 4);
	CHECK(null_at(document, "/exit_code"));
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/signal")), 9);
	CHECK(yyjson_get_num(yyjson_doc_ptr_get(document, "/duration_seconds")) == 1.25);
	CHECK_STR(text_at(document, "/reason"), "max_attempts");
	CHECK_STR(text_at(document, "/fault"), "platform");
	CHECK_STR(text_at(document, "/cause"), "node_lost");
	CHECK_STR(text_at(document, "/message"), "the node is gone");
	CHECK_INT(yyjson_get_len(yyjson_doc_ptr_get(document, "/output")), 5);
	CHECK_STR(text_at(document, "/output"), "a\xef\xbf\xbd");
	CHECK_STR(text_at(document, "/error"), "oops");
	CHECK_STR(text_at(document, "/encoding"), "lossy");
	CHECK(yyjson_get_bool(yyjson_doc_ptr_get(document, "/truncated")));
	CHECK_STR(text_at(document, "/logs"), "/logs/" JOB_NAME "?attempt=2");
	yyjson_doc_free(document);
	buffer_fini(&data);
	buffer_fini(&payload);
}

TEST(other_events_are_plain)
{
	struct buffer payload = BUFFER_MAX(0);
	struct event event = {
		.kind = EVENT_QUEUED, .task_id = task_id, .sequence = 1, .run = 1, .timestamp_us = 1500000
	};
	form_event(&payload, &event);
	CHECK_BYTES(buffer_bytes(&payload),
		"{\"kind\":\"queued\",\"eval_id\":\"01934a00-0102-7003-8004-05060708090a\",\"timestamp\":1.5,"
		"\"task_id\":\"01934a00-0102-7003-8004-05060708090a\",\"job_name\":\"" JOB_NAME
		"\",\"run\":1,\"attempt\":0,\"tenant\":null,\"replica\":null,\"sequence\":1,\"cursor\":\"0\"}");
	buffer_clear(&payload);
	struct live_event live = {
		.kind = EVENT_LOG,
		.task_id = task_id,
		.run = 1,
		.attempt = 1,
		.timestamp_us = 2000000,
		.eval_id = BYTES_LITERAL("e"),
		.batch_id = task_id,
		.stream = 2,
		.offset = 70,
		.data = BYTES_LITERAL("x\n"),
	};
	form_live_event(&payload, &live);
	yyjson_doc *document = parsed(&payload);
	CHECK_STR(text_at(document, "/kind"), "log");
	CHECK_STR(text_at(document, "/stream"), "stderr");
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/offset")), 70);
	CHECK_STR(text_at(document, "/data"), "x\n");
	CHECK_STR(text_at(document, "/batch_id"), "01934a00-0102-7003-8004-05060708090a");
	CHECK(!yyjson_doc_ptr_get(document, "/sequence"));
	CHECK(!yyjson_doc_ptr_get(document, "/encoding"));
	yyjson_doc_free(document);
	buffer_clear(&payload);
	live.kind = EVENT_PROGRESS;
	live.stream = 0;
	live.data = BYTES_LITERAL("\"percent\":50");
	form_live_event(&payload, &live);
	document = parsed(&payload);
	CHECK_INT(yyjson_get_int(yyjson_doc_ptr_get(document, "/percent")), 50);
	CHECK(null_at(document, "/stream"));
	yyjson_doc_free(document);
	buffer_fini(&payload);
}

static struct event an_event(void)
{
	return (struct event){
		.kind = EVENT_COMPLETED,
		.task_id = task_id,
		.sequence = 4000000000,
		.run = 2,
		.attempt = 3,
		.timestamp_us = 1700000000123457,
		.cursor = { .length = 3, .bytes = { 1, 2, 255 } },
		.tenant = BYTES_LITERAL("ten\"ant"),
		.eval_id = BYTES_LITERAL("e1"),
		.batch_id = { { 7 } },
		.data = BYTES_LITERAL("\"exit_code\":0"),
		.output = BYTES_LITERAL("a\xff\n"),
		.publisher = BYTES_LITERAL("host#00ff"),
	};
}

TEST(an_event_is_read_back_and_given_out_as_it_came)
{
	struct buffer payload = BUFFER_MAX(0), again = BUFFER_MAX(0);
	struct arena arena = { 0 };
	struct event event = an_event(), back;
	form_event(&payload, &event);
	REQUIRE(form_event_parse(buffer_bytes(&payload), &arena, &back));
	CHECK_INT(back.kind, EVENT_COMPLETED);
	CHECK_INT(uuid_compare(&back.task_id, &task_id), 0);
	CHECK_INT(uuid_compare(&back.batch_id, &event.batch_id), 0);
	CHECK_INT(back.sequence, 4000000000);
	CHECK_INT(back.run, 2);
	CHECK_INT(back.attempt, 3);
	CHECK_INT(back.timestamp_us, event.timestamp_us);
	CHECK_BYTES(back.tenant, event.tenant);
	CHECK_BYTES(back.eval_id, "e1");
	CHECK_BYTES(back.publisher, "host#00ff");
	CHECK(memcmp(&back.cursor, &event.cursor, sizeof(back.cursor)) == 0);
	form_event(&again, &back);
	CHECK_BYTES(buffer_bytes(&again), buffer_bytes(&payload));

	/* Without what may be missing. */
	event.eval_id = event.tenant = BYTES_NONE;
	event.batch_id = (struct uuid){ 0 };
	buffer_clear(&payload);
	form_event(&payload, &event);
	REQUIRE(form_event_parse(buffer_bytes(&payload), &arena, &back));
	CHECK(!back.eval_id.data);
	CHECK(!back.tenant.data);
	CHECK(uuid_is_nil(&back.batch_id));
	struct live_event live;
	CHECK(!form_live_event_parse(buffer_bytes(&payload), &arena, &live));
	buffer_fini(&payload);
	buffer_fini(&again);
	arena_fini(&arena);
}

TEST(a_live_event_is_read_back)
{
	struct buffer payload = BUFFER_MAX(0), again = BUFFER_MAX(0);
	struct arena arena = { 0 };
	struct live_event back, live = {
		.kind = EVENT_LOG,
		.task_id = task_id,
		.run = 1,
		.attempt = 1,
		.timestamp_us = 2000000,
		.tenant = BYTES_LITERAL("t"),
		.stream = 2,
		.offset = 1234567890123,
		.data = BYTES_LITERAL("x\ny"),
		.publisher = BYTES_LITERAL("host#1"),
	};
	form_live_event(&payload, &live);
	REQUIRE(form_live_event_parse(buffer_bytes(&payload), &arena, &back));
	CHECK_INT(back.stream, 2);
	CHECK_INT(back.offset, 1234567890123);
	CHECK_BYTES(back.data, "x\ny");
	CHECK(!back.eval_id.data);
	form_live_event(&again, &back);
	CHECK_BYTES(buffer_bytes(&again), buffer_bytes(&payload));
	struct event event;
	CHECK(!form_event_parse(buffer_bytes(&payload), &arena, &event));

	/* Bytes that did not come whole are not given: their number is wrong. */
	live.data = BYTES_LITERAL("x\xff");
	buffer_clear(&payload);
	form_live_event(&payload, &live);
	REQUIRE(form_live_event_parse(buffer_bytes(&payload), &arena, &back));
	CHECK(!back.data.data);

	live.kind = EVENT_PROGRESS;
	live.stream = 0;
	live.data = BYTES_LITERAL("\"percent\":1");
	buffer_clear(&payload);
	form_live_event(&payload, &live);
	REQUIRE(form_live_event_parse(buffer_bytes(&payload), &arena, &back));
	CHECK_INT(back.kind, EVENT_PROGRESS);
	CHECK_INT(back.stream, 0);
	buffer_fini(&payload);
	buffer_fini(&again);
	arena_fini(&arena);
}

/* Each with one member as it must not be. */
TEST(what_is_none_of_ours_is_no_event)
{
	static const char *const wrong[][2] = {
		{ "\"kind\":\"completed\"", "\"kind\":\"done\"" },
		{ "\"kind\":\"completed\"", "\"kind\":\"log\"" },
		{ "\"kind\":\"completed\"", "\"kind\":7" },
		{ "\"task_id\":\"0", "\"task_id\":\"x" },
		{ "\"task_id\":", "\"task\":" },
		{ "\"sequence\":4000000000", "\"sequence\":4294967296" },
		{ "\"sequence\":4000000000", "\"sequence\":-1" },
		{ "\"sequence\":4000000000", "\"sequence\":1.5" },
		{ "\"run\":2", "\"run\":\"2\"" },
		{ "\"attempt\":3", "\"attempt\":3000000000" },
		{ "\"timestamp\":1", "\"timestamp\":-1" },
		{ "\"timestamp\":1", "\"timestamp\":1e300,\"x\":1" },
		{ "\"cursor\":\"0102ff\"", "\"cursor\":\"010\"" },
		{ "\"cursor\":\"0102ff\"", "\"cursor\":null" },
		{ "\"replica\":\"host", "\"replica\":null,\"r\":\"host" },
		{ "\"replica\":\"host", "\"replica\":\"\\u0000host" },
		{ "\"tenant\":", "\"tenant\":3,\"x\":" },
		{ "\"batch_id\":\"0", "\"batch_id\":\"" },
		{ "}", "" },
	};
	struct buffer payload = BUFFER_MAX(0), changed = BUFFER_MAX(0);
	struct arena arena = { 0 };
	struct event event = an_event(), back;
	form_event(&payload, &event);
	buffer_append_char(&payload, 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const char *at = strstr(payload.data, wrong[i][0]);
		REQUIRE(at);
		buffer_clear(&changed);
		buffer_append(&changed, payload.data, (size_t)(at - payload.data));
		buffer_append_string(&changed, wrong[i][1]);
		buffer_append_string(&changed, at + strlen(wrong[i][0]));
		if (!CHECK(!form_event_parse(buffer_bytes(&changed), &arena, &back)))
			printf("# %s\n", wrong[i][1]);
	}
	CHECK(!form_event_parse(BYTES_NONE, &arena, &back));
	CHECK(!form_event_parse(BYTES_LITERAL("[]"), &arena, &back));
	CHECK(!form_event_parse(BYTES_LITERAL("null"), &arena, &back));
	buffer_fini(&payload);
	buffer_fini(&changed);
	arena_fini(&arena);
}

TEST(cursors_are_read_back)
{
	struct cursor cursor = { 0 }, back;
	char text[CURSOR_TEXT_SIZE];
	CHECK_STR(cursor_format(&cursor, text), "0");
	REQUIRE(cursor_parse(bytes_of(text), &back));
	CHECK_INT(back.length, 0);
	for (size_t length = 1; length <= sizeof(cursor.bytes); length++) {
		cursor.length = (uint8_t)length;
		cursor.bytes[length - 1] = (uint8_t)(0xf0 + length);
		REQUIRE(cursor_parse(bytes_of(cursor_format(&cursor, text)), &back));
		CHECK_INT(back.length, length);
		CHECK(memcmp(back.bytes, cursor.bytes, sizeof(cursor.bytes)) == 0);
	}
	static const char *const bad[] = { "", "1", "00f", "0g", "zz", "-1",
		"000000000000000000000000000000000000000000000000" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!cursor_parse(bytes_of(bad[i]), &back));
	CHECK(!cursor_parse(BYTES_NONE, &back));
}

TEST_MAIN()
