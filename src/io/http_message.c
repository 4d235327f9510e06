/* Parsing one request.
 *
 * The head's bytes are fed to llhttp where they lie and are copied once, into `head`; when llhttp has seen the empty
 * line they are split here. What llhttp 9.2 in strict mode lets through and is refused here: several spaces in the
 * request line, HTTP/0.9 and 2.0, the RTSP and ICE protocols, an empty Transfer-Encoding (which it takes for none),
 * Transfer-Encoding in HTTP/1.0, codings other than chunked, missing or repeated Host, '#' in targets, any amount of
 * chunk extensions, leading zeros and trailers. The split trusts nothing of llhttp's but where the head ends: line
 * ends, names and values are checked again, and both must agree on the length of the body.
 *
 * A body of known length is counted here; a chunked one goes through llhttp. */
#include "io/http_message.h"

#include <stdlib.h>
#include <strings.h>

#include "base/alloc.h"

#define TARGET_MAX 8192 /* RFC 9112, section 3, asks for 8000 at least */
#define HEAD_FIRST 1024
#define HEAD_KEEP 4096 /* memory kept by a message that is reset */
#define BODY_KEEP 8192
#define FRAMING_PER_BYTE 16 /* of chunked content: chunks of one byte pass, floods of extensions do not */

enum { CHAR_TOKEN = 1, CHAR_VALUE = 2, CHAR_HOST = 4, CHAR_TARGET = 8 };

/* tchar of RFC 9110 5.6.2; field-vchar, space and tab of 5.5; what RFC 3986 3.2.2 and 3.2.3 have in host and port;
 * printable ASCII but '#' for targets. */
static inline unsigned class_of(unsigned char c)
{
	static const unsigned char classes[256] = {
#define V CHAR_VALUE
#define T (CHAR_TOKEN | CHAR_VALUE | CHAR_TARGET)
#define A (CHAR_TOKEN | CHAR_VALUE | CHAR_HOST | CHAR_TARGET)
#define H (CHAR_VALUE | CHAR_HOST | CHAR_TARGET)
#define P (CHAR_VALUE | CHAR_TARGET)
		['\t'] = V,
		[' '] = V,
		['!'] = A,
		['"'] = P,
		['#'] = CHAR_TOKEN | CHAR_VALUE,
		['$'] = A,
		['%'] = A,
		['&'] = A,
		['\''] = A,
		['('] = H,
		[')'] = H,
		['*'] = A,
		['+'] = A,
		[','] = H,
		['-'] = A,
		['.'] = A,
		['/'] = P,
		['0' ... '9'] = A,
		[':'] = H,
		[';'] = H,
		['<'] = P,
		['='] = H,
		['>'] = P,
		['?'] = P,
		['@'] = P,
		['A' ... 'Z'] = A,
		['['] = H,
		['\\'] = P,
		[']'] = H,
		['^'] = T,
		['_'] = A,
		['`'] = T,
		['a' ... 'z'] = A,
		['{'] = P,
		['|'] = T,
		['}'] = P,
		['~'] = A,
		[0x80 ... 0xff] = V,
#undef V
#undef T
#undef A
#undef H
#undef P
	};
	return classes[c];
}

static bool all_of(struct bytes bytes, unsigned class)
{
	for (size_t i = 0; i < bytes.len; i++)
		if (!(class_of((unsigned char)bytes.data[i]) & class))
			return false;
	return true;
}

static bool equal_without_case(struct bytes bytes, const char *string, size_t len)
{
	return bytes.len == len && strncasecmp(bytes.data, string, len) == 0;
}

#define IS(bytes, literal) equal_without_case((bytes), (literal), sizeof(literal) - 1)

static enum http_message_result refuse(struct http_message *message, int status, const char *detail)
{
	message->status = status;
	message->detail = detail;
	return HTTP_MESSAGE_REFUSED;
}

static struct http_message *of_parser(const llhttp_t *parser)
{
	return parser->data;
}

/* Stops llhttp behind the empty line, and before it decides about a body or an upgrade. */
static int on_headers_complete(llhttp_t *parser)
{
	of_parser(parser)->head_done = true;
	parser->upgrade = 0; /* an Upgrade is declined by being ignored: RFC 9110, section 7.8 */
	return HPE_PAUSED;
}

static int on_body(llhttp_t *parser, const char *at, size_t length)
{
	struct http_message *message = of_parser(parser);
	if (length > message->body_max - message->body.len) {
		refuse(message, 413, "The body is larger than this request may have.");
		return HPE_USER;
	}
	buffer_append(&message->body, at, length);
	return HPE_OK;
}

static int on_message_complete(llhttp_t *parser)
{
	of_parser(parser)->body_done = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

struct http_message *http_message_new(const struct http_limits *limits)
{
	struct http_message *message = alloc(sizeof(*message) + limits->header_count_max * sizeof(message->headers[0]));
	message->head_max = limits->head_max;
	message->header_count_max = limits->header_count_max;
	http_message_reset(message);
	return message;
}

void http_message_reset(struct http_message *message)
{
	if (message->arena.head)
		arena_fini(&message->arena);
	message->request = (struct http_request){ .headers = message->headers };
	message->http10 = message->keep_alive = message->chunked = message->expects_continue = false;
	message->content_length = 0;
	message->body_max = 0;
	message->status = 0;
	message->detail = NULL;
	llhttp_init(&message->parser, HTTP_REQUEST, &settings);
	message->parser.data = message;
	buffer_clear(&message->head);
	if (message->head.capacity > HEAD_KEEP)
		buffer_fini(&message->head);
	message->body.max = 0;
	buffer_clear(&message->body);
	if (message->body.capacity > BODY_KEEP)
		buffer_fini(&message->body);
	message->framing = 0;
	message->head_done = message->body_done = false;
}

void http_message_free(struct http_message *message)
{
	if (!message)
		return;
	arena_fini(&message->arena);
	buffer_fini(&message->head);
	buffer_fini(&message->body);
	free(message);
}

/* What llhttp refused: its own word for it is not enough to choose the status. */
static enum http_message_result refuse_head(struct http_message *message, llhttp_errno_t error)
{
	const char *head = message->head.data;
	size_t len = message->head.len;
	switch (error) {
	case HPE_INVALID_METHOD: {
		size_t at = 0;
		while (at < len && class_of((unsigned char)head[at]) & CHAR_TOKEN)
			at++;
		/* A method that could go on with the bytes to come counts as one as well. */
		if (at > 0 && (at == len || head[at] == ' '))
			return refuse(message, 501, "The method is not known here.");
		return refuse(message, 400, "The request line does not begin with a method.");
	}
	case HPE_INVALID_VERSION:
	case HPE_PAUSED_H2_UPGRADE: {
		const char *version = memmem(head, len, " HTTP/", 6);
		const char *number = version ? version + 6 : NULL;
		if (number && head + len - number >= 3 && number[0] >= '0' && number[0] <= '9' && number[1] == '.' &&
			number[2] >= '0' && number[2] <= '9' && !(number[0] == '1' && number[2] <= '1'))
			return refuse(message, 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
		return refuse(message, 400, "The request line does not end as HTTP/1.1 has it.");
	}
	case HPE_INVALID_URL:
		return refuse(message, 400, "The target of the request is malformed.");
	case HPE_UNEXPECTED_CONTENT_LENGTH:
	case HPE_INVALID_CONTENT_LENGTH:
		return refuse(message, 400, "Content-Length is malformed, repeated, or beside Transfer-Encoding.");
	case HPE_INVALID_TRANSFER_ENCODING:
		return refuse(message, 400, "Transfer-Encoding is malformed, repeated, or beside Content-Length.");
	default:
		return refuse(message, 400, "The head of the request is malformed.");
	}
}

static enum http_method method_of(unsigned method)
{
	switch (method) {
	case HTTP_GET:
		return HTTP_METHOD_GET;
	case HTTP_HEAD:
		return HTTP_METHOD_HEAD;
	case HTTP_POST:
		return HTTP_METHOD_POST;
	case HTTP_PUT:
		return HTTP_METHOD_PUT;
	case HTTP_PATCH:
		return HTTP_METHOD_PATCH;
	case HTTP_DELETE:
		return HTTP_METHOD_DELETE;
	case HTTP_OPTIONS:
		return HTTP_METHOD_OPTIONS;
	default:
		return HTTP_METHOD_OTHER;
	}
}

/* Takes the line at *at off a head that ends at `end`: without its CRLF. False when no CRLF ends it. */
static bool take_line(const char **at, const char *end, struct bytes *ret_line)
{
	const char *line = *at;
	const char *cr = memchr(line, '\r', (size_t)(end - line));
	if (!cr || cr + 1 >= end || cr[1] != '\n')
		return false;
	*ret_line = (struct bytes){ line, (size_t)(cr - line) };
	*at = cr + 2;
	return true;
}

/* request-target (RFC 9112, section 3.2): origin-form, or absolute-form, whose authority then stands for Host. */
static enum http_message_result split_target(
	struct http_message *message, struct bytes target, struct bytes *ret_authority)
{
	struct http_request *request = &message->request;
	*ret_authority = BYTES_NONE;
	if (target.len > TARGET_MAX)
		return refuse(message, 414, "The target of the request is too long.");
	if (!all_of(target, CHAR_TARGET))
		return refuse(message, 400, "The target of the request is malformed.");
	if (target.data[0] != '/') {
		size_t scheme = target.len >= 7 && strncasecmp(target.data, "http://", 7) == 0    ? 7
				: target.len >= 8 && strncasecmp(target.data, "https://", 8) == 0 ? 8
												  : 0;
		if (target.len == 1 && target.data[0] == '*' && request->method == HTTP_METHOD_OPTIONS)
			return refuse(message, 501, "OPTIONS is answered for paths only.");
		if (scheme == 0)
			return refuse(message, 400, "The target of the request is neither a path nor an http URL.");
		size_t end = scheme;
		while (end < target.len && target.data[end] != '/' && target.data[end] != '?')
			end++;
		*ret_authority = (struct bytes){ target.data + scheme, end - scheme };
		if (ret_authority->len == 0 || !all_of(*ret_authority, CHAR_HOST))
			return refuse(message, 400, "The authority in the target of the request is malformed.");
		target = (struct bytes){ target.data + end, target.len - end };
	}
	const char *mark = target.len > 0 ? memchr(target.data, '?', target.len) : NULL;
	size_t path = mark ? (size_t)(mark - target.data) : target.len;
	request->path = path > 0 ? (struct bytes){ target.data, path } : BYTES_LITERAL("/");
	request->query = mark ? (struct bytes){ mark + 1, target.len - path - 1 } : BYTES_NONE;
	return HTTP_MESSAGE_DONE;
}

static enum http_message_result split_request_line(
	struct http_message *message, struct bytes line, struct bytes *ret_authority)
{
	struct http_request *request = &message->request;
	const char *space = memchr(line.data, ' ', line.len);
	if (!space)
		return refuse(message, 400, "The request line is malformed.");
	request->method_name = (struct bytes){ line.data, (size_t)(space - line.data) };
	request->method = method_of(message->parser.method);
	struct bytes target = { space + 1, line.len - request->method_name.len - 1 };
	space = memchr(target.data, ' ', target.len);
	if (!space)
		return refuse(message, 400, "HTTP/0.9 is not spoken here.");
	struct bytes version = { space + 1, target.len - (size_t)(space - target.data) - 1 };
	target.len -= version.len + 1;
	if (target.len == 0 || request->method_name.len == 0 || !all_of(request->method_name, CHAR_TOKEN))
		return refuse(message, 400, "The request line is malformed.");
	if (version.len != 8 || memcmp(version.data, "HTTP/", 5) != 0)
		return refuse(message, 400, "The request line does not end as HTTP/1.1 has it.");
	message->http10 = memcmp(version.data + 5, "1.0", 3) == 0;
	if (!message->http10 && memcmp(version.data + 5, "1.1", 3) != 0)
		return refuse(message, 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.");
	if (message->parser.method == HTTP_CONNECT)
		return refuse(message, 501, "No tunnels are made here.");
	return split_target(message, target, ret_authority);
}

/* What the head says about the message itself. */
struct framing {
	struct http_header *host;
	unsigned hosts, content_lengths, transfer_encodings;
	struct bytes transfer_encoding;
};

static enum http_message_result look_at_header(
	struct http_message *message, struct framing *framing, struct http_header *header)
{
	switch (header->name.len) {
	case 4:
		if (IS(header->name, "host")) {
			framing->host = header;
			framing->hosts++;
		}
		break;
	case 6:
		if (IS(header->name, "expect") && !message->http10) {
			if (!IS(header->value, "100-continue"))
				return refuse(message, 417, "The only expectation that can be met is 100-continue.");
			message->expects_continue = true;
		}
		break;
	case 14:
		framing->content_lengths += IS(header->name, "content-length");
		break;
	case 17:
		if (IS(header->name, "transfer-encoding")) {
			framing->transfer_encodings++;
			framing->transfer_encoding = header->value;
		}
		break;
	default:
		break;
	}
	return HTTP_MESSAGE_DONE;
}

static enum http_message_result split_header(struct http_message *message, struct bytes line, struct framing *framing)
{
	if (message->request.header_count == message->header_count_max)
		return refuse(message, 431, "The request has too many headers.");
	const char *colon = memchr(line.data, ':', line.len);
	struct http_header *header = &message->headers[message->request.header_count++];
	header->name = (struct bytes){ line.data, colon ? (size_t)(colon - line.data) : 0 };
	if (header->name.len == 0 || !all_of(header->name, CHAR_TOKEN))
		return refuse(message, 400, "A header's name is malformed.");
	struct bytes value = { colon + 1, line.len - header->name.len - 1 };
	while (value.len > 0 && (value.data[0] == ' ' || value.data[0] == '\t')) {
		value.data++;
		value.len--;
	}
	while (value.len > 0 && (value.data[value.len - 1] == ' ' || value.data[value.len - 1] == '\t'))
		value.len--;
	if (!all_of(value, CHAR_VALUE))
		return refuse(message, 400, "A header's value holds a control character.");
	header->value = value;
	return look_at_header(message, framing, header);
}

/* RFC 9112, sections 3.2 (Host) and 6 (the length of the body). */
static enum http_message_result decide_framing(
	struct http_message *message, struct framing *framing, struct bytes authority)
{
	llhttp_t *parser = &message->parser;
	if (framing->hosts > 1 || (framing->hosts == 0 && !message->http10))
		return refuse(message, 400, "The request has not exactly one Host.");
	if (framing->hosts == 1 && !all_of(framing->host->value, CHAR_HOST))
		return refuse(message, 400, "Host is malformed.");
	if (authority.data && framing->hosts == 1)
		framing->host->value = authority;
	if (framing->transfer_encodings > 0) {
		if (message->http10)
			return refuse(message, 400, "HTTP/1.0 has no Transfer-Encoding.");
		if (framing->transfer_encodings > 1 || framing->content_lengths > 0 ||
			framing->transfer_encoding.len == 0)
			return refuse(message, 400, "Transfer-Encoding is empty, repeated, or beside Content-Length.");
		if (!IS(framing->transfer_encoding, "chunked"))
			return refuse(message, 501, "The only transfer coding known here is chunked.");
	}
	message->chunked = framing->transfer_encodings > 0;
	message->content_length = framing->content_lengths > 0 ? parser->content_length : 0;
	if (framing->content_lengths > 1 || message->chunked != !!(parser->flags & F_CHUNKED) ||
		(framing->content_lengths > 0) != !!(parser->flags & F_CONTENT_LENGTH))
		return refuse(message, 400, "The length of the body is ambiguous.");
	message->keep_alive =
		!(parser->flags & F_CONNECTION_CLOSE) && (!message->http10 || parser->flags & F_CONNECTION_KEEP_ALIVE);
	return HTTP_MESSAGE_DONE;
}

static enum http_message_result split_head(struct http_message *message)
{
	const char *at = message->head.data, *end = at + message->head.len;
	struct framing framing = { 0 };
	struct bytes line, authority;
	if (!take_line(&at, end, &line))
		return refuse(message, 400, "The request line is malformed.");
	enum http_message_result result = split_request_line(message, line, &authority);
	while (result == HTTP_MESSAGE_DONE && at < end) {
		if (!take_line(&at, end, &line))
			return refuse(message, 400, "A line of the head does not end with CR LF.");
		if (line.len > 0)
			result = split_header(message, line, &framing);
		else if (at != end)
			return refuse(message, 400, "The head of the request is malformed.");
	}
	if (result != HTTP_MESSAGE_DONE)
		return result;
	return decide_framing(message, &framing, authority);
}

enum http_message_result http_message_head(struct http_message *message, const char *data, size_t len, size_t *ret_used)
{
	size_t room = message->head_max - message->head.len;
	size_t take = len < room ? len : room;
	llhttp_errno_t error = llhttp_execute(&message->parser, data, take);
	if (message->head_done)
		take = (size_t)(llhttp_get_error_pos(&message->parser) - data);
	*ret_used = take;
	if (message->head.capacity == 0)
		buffer_reserve(&message->head, take < HEAD_FIRST ? HEAD_FIRST : take);
	buffer_append(&message->head, data, take);
	if (message->head.failed)
		return refuse(message, 503, "There is no memory for the request.");
	if (message->head_done && error == HPE_PAUSED)
		return split_head(message);
	if (error != HPE_OK)
		return refuse_head(message, error);
	if (message->head.len < message->head_max)
		return HTTP_MESSAGE_MORE;
	if (memchr(message->head.data, '\n', message->head.len))
		return refuse(message, 431, "The head of the request is too large.");
	return refuse(message, 414, "The target of the request is too long.");
}

bool http_message_has_body(const struct http_message *message)
{
	return message->chunked || message->content_length > 0;
}

static enum http_message_result take_counted(
	struct http_message *message, const char *data, size_t len, size_t *ret_used)
{
	uint64_t missing = message->content_length - message->body.len;
	size_t take = len < missing ? len : (size_t)missing;
	*ret_used = take;
	message->body.max = (size_t)message->content_length; /* memory grows with what has come, and no further */
	buffer_append(&message->body, data, take);
	message->body_done = message->body.len == message->content_length;
	return HTTP_MESSAGE_MORE;
}

static enum http_message_result take_chunked(
	struct http_message *message, const char *data, size_t len, size_t *ret_used)
{
	llhttp_t *parser = &message->parser;
	size_t before = message->body.len;
	if (llhttp_get_errno(parser) == HPE_PAUSED)
		llhttp_resume(parser);
	llhttp_errno_t error = llhttp_execute(parser, data, len);
	*ret_used = error == HPE_OK ? len : (size_t)(llhttp_get_error_pos(parser) - data);
	message->framing += *ret_used - (message->body.len - before);
	if (message->status)
		return HTTP_MESSAGE_REFUSED;
	if (error != HPE_OK && !message->body_done)
		return refuse(message, 400, "The chunked body is malformed.");
	if (message->framing > message->head_max + FRAMING_PER_BYTE * (uint64_t)message->body.len)
		return refuse(message, 400, "The chunked body is made of extensions and trailers.");
	return HTTP_MESSAGE_MORE;
}

enum http_message_result http_message_body(struct http_message *message, const char *data, size_t len, size_t *ret_used)
{
	if (message->content_length > message->body_max)
		return refuse(message, 413, "The body is larger than this request may have.");
	enum http_message_result result = message->chunked ? take_chunked(message, data, len, ret_used)
							   : take_counted(message, data, len, ret_used);
	if (result == HTTP_MESSAGE_REFUSED)
		return result;
	if (message->body.failed)
		return refuse(message, 503, "There is no memory for the request.");
	if (!message->body_done)
		return HTTP_MESSAGE_MORE;
	message->request.body = buffer_bytes(&message->body);
	return HTTP_MESSAGE_DONE;
}

size_t http_message_body_memory(const struct http_message *message)
{
	return message->body.capacity;
}
