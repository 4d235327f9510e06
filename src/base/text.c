/* Text and encodings: UTF-8 by table 3-7 of the Unicode standard, base64 and hex of RFC 4648.
 *
 * OpenSSL looks a digest up by name at every use unless it was fetched before, which triples the time for a short
 * text; so SHA-256 is fetched once in a process, and like the key of table.c belongs to no struct. */
#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* Length of the well-formed sequence at the front of `text`, which is not empty; or 0, and then *ret_bad is the
 * length of the maximal ill-formed part: the longest start of a sequence that could have become well-formed,
 * and one byte where there is none (Unicode 15, section 3.9, "U+FFFD substitution of maximal subparts"). */
static size_t sequence_length(struct bytes text, size_t *ret_bad)
{
	const unsigned char *at = (const unsigned char *)text.data;
	unsigned char low = 0x80, high = 0xbf; /* of the second byte */
	size_t len;
	if (at[0] < 0x80)
		return 1;
	if (at[0] >= 0xc2 && at[0] <= 0xdf) {
		len = 2;
	} else if (at[0] >= 0xe0 && at[0] <= 0xef) {
		len = 3;
		low = at[0] == 0xe0 ? 0xa0 : 0x80;
		high = at[0] == 0xed ? 0x9f : 0xbf;
	} else if (at[0] >= 0xf0 && at[0] <= 0xf4) {
		len = 4;
		low = at[0] == 0xf0 ? 0x90 : 0x80;
		high = at[0] == 0xf4 ? 0x8f : 0xbf;
	} else {
		*ret_bad = 1;
		return 0;
	}
	for (size_t i = 1; i < len; i++) {
		if (i >= text.len || at[i] < low || at[i] > high) {
			*ret_bad = i;
			return 0;
		}
		low = 0x80;
		high = 0xbf;
	}
	return len;
}

size_t utf8_valid_prefix(struct bytes text)
{
	size_t i = 0, bad;
	while (i < text.len) {
		/* Most text is ASCII: eight bytes at a time. */
		uint64_t word;
		if (text.len - i >= sizeof(word)) {
			memcpy(&word, text.data + i, sizeof(word));
			if ((word & UINT64_C(0x8080808080808080)) == 0) {
				i += sizeof(word);
				continue;
			}
		}
		size_t len = sequence_length((struct bytes){ text.data + i, text.len - i }, &bad);
		if (len == 0)
			break;
		i += len;
	}
	return i;
}

bool utf8_valid(struct bytes text)
{
	return utf8_valid_prefix(text) == text.len;
}

size_t utf8_ill_formed_part(struct bytes text)
{
	size_t bad = 0;
	return text.len == 0 || sequence_length(text, &bad) > 0 ? 0 : bad;
}

/* The value of a base64 digit, or 64 for what is none. */
static uint32_t base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (uint32_t)(c - 'A');
	if (c >= 'a' && c <= 'z')
		return (uint32_t)(c - 'a') + 26;
	if (c >= '0' && c <= '9')
		return (uint32_t)(c - '0') + 52;
	return c == '+' ? 62 : c == '/' ? 63 : 64;
}

struct bytes base64_decode(struct arena *arena, struct bytes text)
{
	if (!text.data || text.len % 4 != 0)
		return BYTES_NONE;
	size_t padding = 0;
	if (text.len > 0 && text.data[text.len - 1] == '=')
		padding = text.data[text.len - 2] == '=' ? 2 : 1;
	size_t digits = text.len - padding, len = text.len / 4 * 3 - padding;
	char *to = arena_alloc(arena, len + 1);
	struct bytes decoded = { to, len };
	uint32_t bits = 0, invalid = 0;
	for (size_t i = 0; i < digits; i++) {
		uint32_t value = base64_value(text.data[i]);
		invalid |= value & 64;
		bits = bits << 6 | value;
		if (i % 4 != 0)
			*to++ = (char)(bits >> (6 - 2 * (i % 4)));
	}
	/* The bits that no byte takes must be zero: one text for each content. */
	uint32_t spare = padding == 2 ? bits & 15 : padding == 1 ? bits & 3 : 0;
	return invalid || spare ? BYTES_NONE : decoded;
}

void base64_append(struct buffer *buffer, struct bytes data)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t groups = data.len / 3 + (data.len % 3 != 0);
	if (groups > SIZE_MAX / 4) {
		buffer->failed = true;
		return;
	}
	char *to = buffer_reserve(buffer, groups * 4);
	if (!to)
		return;
	const unsigned char *from = (const unsigned char *)data.data;
	for (size_t i = 0; i < data.len; i += 3) {
		size_t have = data.len - i;
		uint32_t bits = (uint32_t)from[i] << 16 | (have > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
				(have > 2 ? from[i + 2] : 0);
		*to++ = digits[bits >> 18];
		*to++ = digits[bits >> 12 & 63];
		*to++ = have > 1 ? digits[bits >> 6 & 63] : '=';
		*to++ = have > 2 ? digits[bits & 63] : '=';
	}
	buffer->len += groups * 4;
}

void hex_append(struct buffer *buffer, struct bytes data)
{
	static const char digits[] = "0123456789abcdef";
	if (data.len > SIZE_MAX / 2) {
		buffer->failed = true;
		return;
	}
	char *to = buffer_reserve(buffer, data.len * 2);
	if (!to)
		return;
	for (size_t i = 0; i < data.len; i++) {
		*to++ = digits[(unsigned char)data.data[i] >> 4];
		*to++ = digits[(unsigned char)data.data[i] & 15];
	}
	buffer->len += data.len * 2;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hex_decode(struct bytes text, uint8_t *ret, size_t ret_size)
{
	if (text.len / 2 != ret_size || text.len % 2 != 0)
		return false;
	for (size_t i = 0; i < text.len; i++)
		if (hex_value(text.data[i]) < 0)
			return false;
	for (size_t i = 0; i < ret_size; i++)
		ret[i] = (uint8_t)(hex_value(text.data[2 * i]) << 4 | hex_value(text.data[2 * i + 1]));
	return true;
}

bool text_to_int(struct bytes text, int64_t min, int64_t max, int64_t *ret_value)
{
	bool negative = text.len > 0 && text.data[0] == '-';
	int64_t value = 0;
	size_t i = negative;
	if (i == text.len)
		return false;
	for (; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		/* Summed on the negative side, which reaches one further. */
		if (__builtin_mul_overflow(value, 10, &value) ||
			__builtin_sub_overflow(value, text.data[i] - '0', &value))
			return false;
	}
	if (!negative && __builtin_sub_overflow(0, value, &value))
		return false;
	if (value < min || value > max)
		return false;
	*ret_value = value;
	return true;
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool text_equal_ignore_case(struct bytes a, struct bytes b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (lower(a.data[i]) != lower(b.data[i]))
			return false;
	return true;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

struct bytes text_trim(struct bytes text)
{
	while (text.len > 0 && is_space(text.data[0])) {
		text.data++;
		text.len--;
	}
	while (text.len > 0 && is_space(text.data[text.len - 1]))
		text.len--;
	return text;
}

static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;
static EVP_MD *sha256_method; /* for the life of the process */

static void sha256_fetch(void)
{
	sha256_method = EVP_MD_fetch(NULL, "SHA256", NULL);
}

void sha256(struct bytes data, uint8_t ret_digest[static SHA256_SIZE])
{
	pthread_once(&sha256_once, sha256_fetch);
	/* Fails only without memory, or where OpenSSL was set up to have no SHA-256: nothing here works then. */
	if (!sha256_method || EVP_Digest(data.data, data.len, ret_digest, NULL, sha256_method, NULL) != 1) {
		fputs("OpenSSL gives no SHA-256\n", stderr);
		abort();
	}
}

void random_bytes(void *data, size_t len)
{
	char *at = data;
	while (len > 0) {
		ssize_t got = getrandom(at, len, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			fputs("the kernel gives no random bytes\n", stderr);
			abort();
		}
		at += got;
		len -= (size_t)got;
	}
}
