/* One line per event on one descriptor: key=value text, or JSON. A line is written with one write(2); a line that
 * cannot be written is dropped and counted. No secrets: callers give ids, never payloads. */
#ifndef ASSAY_BASE_LOG_H
#define ASSAY_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/uuid.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

struct log {
	int fd; /* borrowed */
	enum log_level level;
	bool json;
	uint64_t dropped;
};

enum log_field_type { LOG_FIELD_STRING, LOG_FIELD_INT, LOG_FIELD_SECONDS, LOG_FIELD_UUID, LOG_FIELD_BYTES };

struct log_field {
	const char *key;
	enum log_field_type type;
	union {
		const char *string;
		int64_t integer; /* SECONDS: microseconds, printed as seconds */
		const struct uuid *uuid;
		struct bytes bytes;
	};
};

/* Fields of a line, for log_event(log, LOG_INFO, "task settled", L_TASK(&id), L_INT("attempt", 2)). */
#define L_STR(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_STRING, .string = (v) })
#define L_BYTES(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_BYTES, .bytes = (v) })
#define L_INT(k, v) ((struct log_field){ .key = (k), .type = LOG_FIELD_INT, .integer = (v) })
#define L_SECONDS(k, us) ((struct log_field){ .key = (k), .type = LOG_FIELD_SECONDS, .integer = (us) })
#define L_TASK(id) ((struct log_field){ .key = "task", .type = LOG_FIELD_UUID, .uuid = (id) })
#define L_ERR(e) L_STR("error", (e)->message)

void log_write(
	struct log *log, enum log_level level, const char *message, const struct log_field *fields, size_t count);

#define log_event(log, level_, message, ...) \
	do { \
		if ((level_) <= (log)->level) { \
			const struct log_field fields_[] = { __VA_ARGS__ }; \
			log_write((log), (level_), (message), fields_, sizeof(fields_) / sizeof(fields_[0])); \
		} \
	} while (0)

#endif
