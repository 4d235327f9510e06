/* Version 7 with a counter (RFC 9562, section 6.2, method 1): 48 bits of milliseconds, then a counter of 42
 * bits in rand_a and the front of rand_b, then 32 random bits. The counter starts anywhere in the lower half of
 * its range in each new millisecond and is raised by one within it; when the clock stands or goes back, the last
 * millisecond goes on. */
#include "base/uuid.h"

#include "base/clock.h"
#include "base/text.h"

#define COUNTER_BITS 42
#define COUNTER_END (UINT64_C(1) << COUNTER_BITS)

struct random {
	uint64_t counter;
	uint32_t tail;
} __attribute__((packed));

static struct random take_random(struct uuid_generator *generator)
{
	struct random random;
	_Static_assert(sizeof(generator->random) % sizeof(random) == 0, "no bytes are left over");
	if (generator->left == 0) {
		random_bytes(generator->random, sizeof(generator->random));
		generator->left = sizeof(generator->random);
	}
	generator->left -= (uint8_t)sizeof(random);
	memcpy(&random, generator->random + generator->left, sizeof(random));
	return random;
}

struct uuid uuid_new(struct uuid_generator *generator)
{
	struct random random = take_random(generator);
	int64_t now = clock_wall_us() / US_PER_MS;
	if (now > generator->last_ms) {
		generator->last_ms = now;
		generator->counter = random.counter % (COUNTER_END / 2);
	} else if (++generator->counter >= COUNTER_END) {
		generator->last_ms++;
		generator->counter = random.counter % (COUNTER_END / 2);
	}

	struct uuid uuid;
	uint64_t ms = (uint64_t)generator->last_ms, counter = generator->counter;
	uint64_t high = ms << 16 | 0x7000 | counter >> 30;
	uint64_t low = UINT64_C(2) << 62 | (counter & 0x3fffffff) << 32 | random.tail;
	for (int i = 0; i < 8; i++) {
		uuid.bytes[i] = (uint8_t)(high >> (56 - 8 * i));
		uuid.bytes[8 + i] = (uint8_t)(low >> (56 - 8 * i));
	}
	return uuid;
}

int uuid_compare(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

bool uuid_is_nil(const struct uuid *uuid)
{
	static const struct uuid nil;
	return uuid_compare(uuid, &nil) == 0;
}

/* Whether a dash stands before this byte in the text form. */
static bool dash_before(int byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

char *uuid_format(const struct uuid *uuid, char text[static UUID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	char *to = text;
	for (int i = 0; i < 16; i++) {
		if (dash_before(i))
			*to++ = '-';
		*to++ = digits[uuid->bytes[i] >> 4];
		*to++ = digits[uuid->bytes[i] & 15];
	}
	*to = '\0';
	return text;
}

bool uuid_parse(struct bytes text, struct uuid *ret_uuid)
{
	struct uuid uuid;
	if (text.len != UUID_TEXT_SIZE - 1)
		return false;
	const char *from = text.data;
	for (int i = 0; i < 16; i++) {
		if (dash_before(i) && *from++ != '-')
			return false;
		if (!hex_decode((struct bytes){ from, 2 }, &uuid.bytes[i], 1))
			return false;
		from += 2;
	}
	*ret_uuid = uuid;
	return true;
}

void base32_from_uuid(const struct uuid *uuid, char text[static BASE32_UUID_LENGTH])
{
	static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
	uint32_t bits = 0;
	int have = 0, at = 0;
	for (int i = 0; i < 16; i++) {
		bits = bits << 8 | uuid->bytes[i];
		for (have += 8; have >= 5; have -= 5)
			text[at++] = digits[bits >> (have - 5) & 31];
	}
	text[at] = digits[bits << (5 - have) & 31]; /* three bits are left, filled with zeros */
}

bool base32_to_uuid(struct bytes text, struct uuid *ret_uuid)
{
	struct uuid uuid;
	uint32_t bits = 0;
	int have = 0, at = 0;
	if (text.len != BASE32_UUID_LENGTH)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];
		uint32_t value;
		if (c >= 'a' && c <= 'z')
			value = (uint32_t)(c - 'a');
		else if (c >= '2' && c <= '7')
			value = (uint32_t)(c - '2') + 26;
		else
			return false;
		bits = bits << 5 | value;
		have += 5;
		if (have >= 8) {
			have -= 8;
			uuid.bytes[at++] = (uint8_t)(bits >> have);
		}
	}
	if ((bits & 3) != 0) /* 130 bits were read, the last two must be zero */
		return false;
	*ret_uuid = uuid;
	return true;
}
