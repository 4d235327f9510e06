#include "wrap/plan_write.h"

#include <limits.h>
#include <zlib.h>

#include "launch/archive.h"

#define GZIP 16

static void put_head(struct buffer *plan, enum plan_kind kind, size_t len)
{
	struct plan_record record = { .kind = kind, .length = (uint32_t)len };
	if (len > UINT32_MAX)
		plan->failed = true;
	buffer_append(plan, &record, sizeof(record));
}

void wrap_plan_put(struct buffer *plan, enum plan_kind kind, struct bytes bytes)
{
	put_head(plan, kind, bytes.len);
	buffer_append_bytes(plan, bytes);
}

void wrap_plan_begin(struct buffer *plan, const struct plan_settings *settings)
{
	buffer_append(plan, PLAN_TEXT, PLAN_TEXT_SIZE);
	wrap_plan_put(plan, PLAN_SETTINGS, (struct bytes){ (const char *)settings, sizeof(*settings) });
}

void wrap_plan_file(struct buffer *plan, struct bytes path, struct bytes content)
{
	struct archive_entry entry = {
		.type = ARCHIVE_FILE, .path_len = (uint16_t)path.len, .content_len = content.len
	};
	entry.executable = content.len > 2 && memcmp(content.data, "#!", 2) == 0;
	if (path.len == 0 || path.len > ARCHIVE_PATH_MAX)
		plan->failed = true;
	put_head(plan, PLAN_ARCHIVE, sizeof(entry) + path.len + content.len);
	buffer_append(plan, &entry, sizeof(entry));
	buffer_append_bytes(plan, path);
	buffer_append_bytes(plan, content);
}

void wrap_plan_step(struct buffer *plan, enum plan_kind kind, int64_t timeout_us)
{
	struct plan_step step = { .timeout_us = timeout_us };
	wrap_plan_put(plan, kind, (struct bytes){ (const char *)&step, sizeof(step) });
}

void wrap_plan_end(struct buffer *plan)
{
	wrap_plan_put(plan, PLAN_END, BYTES_LITERAL(""));
}

/* The base two logarithm of a window that all fits into (zlib's manual, deflateInit2; 8 is not for gzip): zlib makes its tables
 * as large as the window, whatever is put in. */
static int window_bits(size_t len)
{
	int bits = 9;
	while (bits < 15 && (size_t)1 << bits < len)
		bits++;
	return bits;
}

void wrap_plan_zip(struct bytes plan, struct buffer *zipped)
{
	z_stream stream = { .next_in = (unsigned char *)(uintptr_t)plan.data, .avail_in = (unsigned)plan.len };
	unsigned char piece[16384];
	int state = Z_OK, bits = window_bits(plan.len);
	if (plan.len > UINT_MAX || deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, bits + GZIP,
					   bits < 14 ? bits - 6 : 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		zipped->failed = true;
		return;
	}
	while (state == Z_OK && !zipped->failed) {
		stream.next_out = piece;
		stream.avail_out = sizeof(piece);
		state = deflate(&stream, Z_FINISH);
		buffer_append(zipped, piece, sizeof(piece) - stream.avail_out);
	}
	deflateEnd(&stream);
	if (state != Z_STREAM_END)
		zipped->failed = true;
}
