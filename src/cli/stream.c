/* Streams that reconnect. A stream owns its transfer while it is CONNECTED; curl's callbacks only hand bytes on, and
 * every decision is made in step(), outside of them. */
#include "cli/stream.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "cli/exit_code.h"

#define BACKOFF_FIRST_MS 250
#define BACKOFF_MAX_MS 5000
#define PATIENCE_US (300 * US_PER_S)
#define REFUSAL_MAX 65536
#define TICK_MS 100

int64_t stream_backoff_us(unsigned failures, int64_t at_least_ms, uint32_t random)
{
	int64_t ms = BACKOFF_MAX_MS;
	if (failures < 5 && (BACKOFF_FIRST_MS << failures) < BACKOFF_MAX_MS)
		ms = BACKOFF_FIRST_MS << failures;
	ms = ms / 2 + (int64_t)(random % (uint32_t)(ms / 2 + 1));
	return (ms < at_least_ms ? at_least_ms : ms) * US_PER_MS;
}

static bool on_body(struct transfer *transfer, struct bytes data)
{
	struct stream *stream = transfer->owner;
	if (transfer->status != 200) {
		buffer_append_bytes(&stream->refusal, data);
		return !stream->refusal.failed;
	}
	stream->reached = true;
	stream->failures = 0;
	stream->away_since_us = 0;
	stream->cli->away_told = false;
	return stream->on_data(stream, data);
}

static void connect_now(struct stream *stream)
{
	struct buffer path CLEANUP(buffer_fini) = { 0 };
	struct request request = { .accept = stream->accept, .last_event_id = BYTES_NONE };
	stream->on_connect(stream, &path, &request.last_event_id);
	buffer_append_char(&path, '\0');
	request.path = path.data;
	buffer_clear(&stream->refusal);
	stream->transfer = (struct transfer){ .on_body = on_body, .owner = stream };
	stream->state = STREAM_CONNECTED;
	transfer_start(&stream->cli->client, &stream->transfer, &request);
}

static void end(struct stream *stream, int code)
{
	stream->state = STREAM_ENDED;
	stream->code = code;
}

static void wait_and_try(struct stream *stream, int64_t at_least_ms)
{
	uint32_t random;
	random_bytes(&random, sizeof(random));
	if (at_least_ms < stream->retry_ms)
		at_least_ms = stream->retry_ms;
	stream->next_at_us = clock_monotonic_us() + stream_backoff_us(stream->failures++, at_least_ms, random);
	stream->state = STREAM_WAITING;
}

/* The service is away, or says that it cannot serve now. */
static void on_away(struct stream *stream, const struct transfer *transfer)
{
	int64_t now = clock_monotonic_us();
	bool refused = transfer->result == TRANSFER_OK;
	if (!stream->reached || (stream->away_since_us && now - stream->away_since_us > PATIENCE_US)) {
		end(stream, refused ? cli_report_refusal(stream->cli, transfer->status, buffer_bytes(&stream->refusal))
				    : cli_report_lost(stream->cli, transfer->result, transfer->message));
		return;
	}
	if (!stream->away_since_us)
		stream->away_since_us = now;
	if (!stream->cli->away_told)
		term_note(&stream->cli->term, refused ? "assay: the service cannot serve now, trying again"
						      : "assay: the connection was lost, trying again");
	stream->cli->away_told = true;
	wait_and_try(stream, transfer->retry_after_s * 1000);
}

static void on_transfer_done(struct stream *stream)
{
	struct transfer transfer = stream->transfer;
	transfer_fini(&stream->cli->client, &stream->transfer);
	bool answered = transfer.result == TRANSFER_OK && transfer.status != 200;
	if (answered && transfer.status != 429 && transfer.status != 503) {
		end(stream, cli_report_refusal(stream->cli, transfer.status, buffer_bytes(&stream->refusal)));
		return;
	}
	bool orderly = !answered && (transfer.result == TRANSFER_OK || transfer.result == TRANSFER_STOPPED);
	if (stream->on_end(stream, orderly) == STREAM_DONE)
		end(stream, stream->code);
	else if (orderly)
		wait_and_try(stream, 0);
	else
		on_away(stream, &transfer);
}

static void step(struct stream *stream, int64_t now)
{
	if (stream->state == STREAM_CONNECTED && stream->transfer.done)
		on_transfer_done(stream);
	else if (stream->state == STREAM_WAITING && stream->next_at_us <= now)
		connect_now(stream);
}

int stream_run(struct cli *cli, struct stream *const *streams, size_t count, void (*on_tick)(void *owner), void *owner)
{
	int code = EXIT_OK;
	size_t open = count;
	for (size_t i = 0; i < count; i++) {
		streams[i]->cli = cli;
		streams[i]->state = STREAM_WAITING;
		streams[i]->code = EXIT_OK;
		streams[i]->refusal = BUFFER_MAX(REFUSAL_MAX);
	}
	while (open > 0 && code == EXIT_OK) {
		open = 0;
		for (size_t i = 0; i < count; i++) {
			step(streams[i], clock_monotonic_us());
			if (streams[i]->state != STREAM_ENDED)
				open++;
			else if (code == EXIT_OK)
				code = streams[i]->code;
		}
		if (on_tick)
			on_tick(owner);
		if (open > 0 && code == EXIT_OK)
			client_step(&cli->client, TICK_MS);
		if (cli->client.interrupted)
			code = EXIT_INTERRUPTED;
		else if (cli->term.failed && code == EXIT_OK)
			code = EXIT_OUTPUT; /* main() says so */
	}
	for (size_t i = 0; i < count; i++) {
		if (streams[i]->state == STREAM_CONNECTED)
			transfer_fini(&cli->client, &streams[i]->transfer);
		buffer_fini(&streams[i]->refusal);
	}
	return code;
}
