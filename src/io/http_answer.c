/* The text of answers. A head is written with one reservation and copies into it: it is made for every answer. */
#include "io/http_answer.h"

#include <stdio.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"

#define FIXED_MAX 256 /* what a head holds at most beside the caller's strings */
#define NUMBER_MAX 20

const char *http_date_line(struct http_date *date, uint64_t now_ms)
{
	if (now_ms >= date->until_ms) {
		static const char days[][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
		static const char months[][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
			"Nov", "Dec" };
		int64_t wall_us = clock_wall_us();
		time_t seconds = (time_t)(wall_us / US_PER_S);
		struct tm tm;
		gmtime_r(&seconds, &tm);
		/* RFC 9110, section 5.6.7: IMF-fixdate; strftime would write the names of the locale. */
		snprintf(date->line, sizeof(date->line), "Date: %s, %02u %s %04u %02u:%02u:%02u GMT\r\n",
			days[tm.tm_wday % 7], (unsigned)tm.tm_mday % 100, months[tm.tm_mon % 12],
			(unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
			(unsigned)tm.tm_sec % 100);
		date->until_ms = now_ms + 1000 - (uint64_t)(wall_us % US_PER_S / US_PER_MS);
	}
	return date->line;
}

const char *http_status_reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 201:
		return "Created";
	case 202:
		return "Accepted";
	case 204:
		return "No Content";
	case 304:
		return "Not Modified";
	case 400:
		return "Bad Request";
	case 401:
		return "Unauthorized";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 406:
		return "Not Acceptable";
	case 408:
		return "Request Timeout";
	case 409:
		return "Conflict";
	case 413:
		return "Content Too Large";
	case 414:
		return "URI Too Long";
	case 415:
		return "Unsupported Media Type";
	case 417:
		return "Expectation Failed";
	case 422:
		return "Unprocessable Content";
	case 429:
		return "Too Many Requests";
	case 431:
		return "Request Header Fields Too Large";
	case 500:
		return "Internal Server Error";
	case 501:
		return "Not Implemented";
	case 503:
		return "Service Unavailable";
	case 505:
		return "HTTP Version Not Supported";
	default:
		return "Status"; /* the phrase says nothing to a program: RFC 9112, section 4 */
	}
}

static char *put(char *to, const char *from, size_t len)
{
	memcpy(to, from, len);
	return to + len;
}

#define PUT(to, literal) put((to), (literal), sizeof(literal) - 1)

static char *put_number(char *to, uint64_t number)
{
	char digits[NUMBER_MAX], *at = digits + sizeof(digits);
	do {
		*--at = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	return put(to, at, (size_t)(digits + sizeof(digits) - at));
}

static char *put_value(char *to, const char *from, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (unsigned char)from[i] < ' ' && from[i] != '\t' ? ' ' : from[i];
	return to + len;
}

static bool is_ours(struct bytes name)
{
	static const struct bytes ours[] = { { "Content-Length", 14 }, { "Transfer-Encoding", 17 },
		{ "Connection", 10 }, { "Date", 4 } };
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (name.len == ours[i].len && strncasecmp(name.data, ours[i].data, name.len) == 0)
			return true;
	return false;
}

void http_answer_head(struct buffer *buffer, const struct http_answer *answer)
{
	const char *reason = http_status_reason(answer->status);
	size_t reason_len = strlen(reason), type_len = answer->content_type ? strlen(answer->content_type) : 0;
	size_t need = FIXED_MAX + reason_len + type_len;
	for (size_t i = 0; i < answer->header_count; i++)
		need += answer->headers[i].name.len + answer->headers[i].value.len + 4;
	char *begin = buffer_reserve(buffer, need);
	if (!begin)
		return;
	char *at = PUT(begin, "HTTP/1.1 ");
	at = put_number(at, (unsigned)answer->status);
	*at++ = ' ';
	at = put(at, reason, reason_len);
	at = PUT(at, "\r\n");
	at = put(at, answer->date_line, HTTP_DATE_LINE);
	if (answer->content_type) {
		at = PUT(at, "Content-Type: ");
		at = put_value(at, answer->content_type, type_len);
		at = PUT(at, "\r\n");
	}
	if (answer->length == HTTP_LENGTH_KNOWN) {
		at = PUT(at, "Content-Length: ");
		at = put_number(at, answer->content_length);
		at = PUT(at, "\r\n");
	} else if (answer->length == HTTP_LENGTH_CHUNKED) {
		at = PUT(at, "Transfer-Encoding: chunked\r\n");
	}
	if (answer->connection == HTTP_CONNECTION_CLOSE)
		at = PUT(at, "Connection: close\r\n");
	else if (answer->connection == HTTP_CONNECTION_KEEP_ALIVE)
		at = PUT(at, "Connection: keep-alive\r\n");
	for (size_t i = 0; i < answer->header_count; i++) {
		const struct http_header *header = &answer->headers[i];
		if (is_ours(header->name))
			continue;
		at = put_value(at, header->name.data, header->name.len);
		at = PUT(at, ": ");
		at = put_value(at, header->value.data, header->value.len);
		at = PUT(at, "\r\n");
	}
	at = PUT(at, "\r\n");
	buffer->len += (size_t)(at - begin);
}

void http_answer_problem(struct buffer *buffer, int status, const char *detail)
{
	buffer_printf(buffer, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":\"%s\"}\n",
		http_status_reason(status), status, detail);
}

size_t http_chunk_head(char line[static HTTP_CHUNK_HEAD], size_t len)
{
	char digits[2 * sizeof(len)], *at = digits + sizeof(digits);
	while (len > 0) {
		*--at = "0123456789abcdef"[len % 16];
		len /= 16;
	}
	char *end = put(line, at, (size_t)(digits + sizeof(digits) - at));
	end = PUT(end, "\r\n");
	return (size_t)(end - line);
}
