/* The progress line. Pure. */
#include "cli/progress.h"

#include "base/alloc.h"
#include "base/clock.h"

#define BAR_WIDTH 20

void duration_append(struct buffer *to, double seconds)
{
	if (!(seconds >= 0))
		seconds = 0;
	if (seconds < 0.9995) {
		buffer_printf(to, "%.0f ms", seconds * 1000);
		return;
	}
	if (seconds < 59.95) {
		buffer_printf(to, "%.1f s", seconds);
		return;
	}
	int64_t whole = seconds < 1e15 ? (int64_t)(seconds + 0.5) : INT64_C(1000000000000000);
	if (whole < 3600)
		buffer_printf(to, "%d min %02d s", (int)(whole / 60), (int)(whole % 60));
	else if (whole < 86400)
		buffer_printf(to, "%d h %02d min", (int)(whole / 3600), (int)(whole / 60 % 60));
	else
		buffer_printf(to, "%lld d %d h", (long long)(whole / 86400), (int)(whole / 3600 % 24));
}

void size_append(struct buffer *to, double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	size_t unit = 0;
	while (bytes >= 1023.95 && unit + 1 < ARRAY_SIZE(units)) {
		bytes /= 1024;
		unit++;
	}
	buffer_printf(to, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

static void append_bar(const struct progress *progress, size_t done, struct buffer *to)
{
	size_t filled = progress->total > 0 ? done * BAR_WIDTH / progress->total : BAR_WIDTH;
	if (filled > BAR_WIDTH)
		filled = BAR_WIDTH;
	buffer_append_char(to, '[');
	for (size_t i = 0; i < BAR_WIDTH; i++)
		buffer_append_char(to, i < filled ? '=' : i == filled ? '>' : ' ');
	buffer_append_string(to, "]  ");
}

void progress_render(const struct progress *progress, int64_t now_us, size_t columns, struct buffer *to)
{
	size_t done = progress->succeeded + progress->failed;
	size_t waiting = progress->total > done + progress->running ? progress->total - done - progress->running : 0;
	struct buffer text = { 0 };
	buffer_printf(&text, "%zu/%zu", done, progress->total);
	/* The counts in the order in which they are given up when the line is narrow: the last goes first. */
	size_t cuts[5];
	size_t cut_count = 0;
	cuts[cut_count++] = text.len;
	if (progress->failed > 0) {
		buffer_printf(&text, "  %zu failed", progress->failed);
		cuts[cut_count++] = text.len;
	}
	if (progress->running > 0) {
		buffer_printf(&text, "  %zu running", progress->running);
		cuts[cut_count++] = text.len;
	}
	if (waiting > 0) {
		buffer_printf(&text, "  %zu waiting", waiting);
		cuts[cut_count++] = text.len;
	}
	buffer_append_string(&text, "  ");
	duration_append(&text, (double)(now_us - progress->began_us) / (double)US_PER_S);
	size_t len = text.len;
	while (len > columns && cut_count > 0)
		len = cuts[--cut_count];
	if (len > columns)
		len = columns;
	if (len == text.len && len + BAR_WIDTH + 4 <= columns)
		append_bar(progress, done, to);
	buffer_append(to, text.data, len);
	buffer_fini(&text);
}
