/* The HTTP front fed with anything, over a fake connection.
 *
 * The first byte chooses how the handler answers and how much the client takes, the second where the input is cut; the
 * rest is what the client sends. What the handler gets to see must not depend on the cuts, and at the end nothing may
 * be left: no memory counted, no connection. */
#include "../unit/http_fake.h"
#include "fuzz.h"

enum { MODE_LATER = 1, MODE_STREAM = 2, MODE_SLOW = 4, MODE_STOP = 8, MODE_CUT = 16, MODE_TIME = 32, MODE_FAIL = 64 };

static void start_stream(struct fake *fake, struct http_exchange *exchange)
{
	fake_keep(fake, exchange);
	http_stream_start(exchange, 200, "text/plain", NULL, 0);
	http_stream_write(exchange, BYTES_LITERAL("at once"));
}

static void finish_exchange(struct fake *fake, unsigned mode)
{
	struct http_exchange *exchange = STEAL(fake->exchange);
	if (!exchange)
		return;
	http_exchange_on_abort(exchange, NULL);
	if (mode & MODE_CUT) {
		http_exchange_cut(exchange);
	} else if (mode & MODE_STREAM) {
		http_stream_write(exchange, BYTES_LITERAL("more"));
		http_stream_end(exchange);
	} else {
		fake_answer(fake, exchange);
	}
	fake_run(fake);
}

static void feed(struct fake *fake, struct bytes bytes, size_t step, unsigned mode)
{
	for (size_t at = 0, len; at < bytes.len; at += len) {
		len = step < bytes.len - at ? step : bytes.len - at;
		fake_send(fake, (struct bytes){ bytes.data + at, len });
		if (mode & MODE_SLOW && fake->takes < 4096)
			fake->takes += 40;
		if (mode & MODE_STOP && at > bytes.len / 2)
			http_core_stop(&fake->core);
		if (mode & MODE_TIME)
			fake_pass(fake, 7000);
		if (mode & MODE_FAIL && at > bytes.len / 2)
			fake->write_error = UV_EPIPE;
		fake_run(fake);
		finish_exchange(fake, mode);
	}
	while (fake->exchange)
		finish_exchange(fake, mode);
	fake_send_end(fake);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3 || size > 8192) /* below the bounds at which a cut may decide, such as that of chunk framing */
		return 0;
	struct bytes bytes = { (const char *)data + 2, size - 2 };
	size_t step = data[1] ? data[1] : 1;
	struct fake whole, cut;
	fake_start(&whole);
	feed(&whole, bytes, bytes.len, 0);
	fake_start(&cut);
	feed(&cut, bytes, step, 0);
	HOLDS(bytes_equal(buffer_bytes(&whole.requests), buffer_bytes(&cut.requests)));
	HOLDS(whole.core.statistics.refused == cut.core.statistics.refused);
	HOLDS(fake_stop(&whole) == 0);
	HOLDS(fake_stop(&cut) == 0);
	unsigned mode = data[0];
	fake_start_with(&cut, (struct http_limits){ .head_max = 512, .header_count_max = 4, .write_queue_max = 64 });
	cut.handle = mode & MODE_STREAM ? start_stream : mode & MODE_LATER ? fake_keep : fake_answer;
	cut.takes = mode & MODE_SLOW ? 0 : SIZE_MAX;
	feed(&cut, bytes, step, mode);
	HOLDS(fake_stop(&cut) == 0);
	return 0;
}
