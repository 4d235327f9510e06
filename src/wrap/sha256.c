/* Own code, after FIPS 180-4 section 6.2 and RFC 2104, and held to their test vectors
 * (tests/unit/test_wrap_report.c), because no library fits into assay-wrap: libcrypto is megabytes and wants a
 * constructor's run of them; Debian's static libnettle is compiled for glibc's checked functions, which musl has not,
 * and asks the processor what it is at each start, which is what musl is taken to avoid (CPUID is trapped in virtual
 * machines). */
#include "wrap/sha256.h"

#include <string.h>

static const uint32_t ROUND[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, //
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, //
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, //
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, //
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, //
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, //
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, //
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2, //
};

static uint32_t rotate(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void compress(uint32_t state[8], const uint8_t *block)
{
	uint32_t w[64], s[8];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
		       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	memcpy(s, state, sizeof(s));
	for (int i = 0; i < 64; i++) {
		uint32_t e1 = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
		uint32_t t1 = s[7] + e1 + ((s[4] & s[5]) ^ (~s[4] & s[6])) + ROUND[i] + w[i];
		uint32_t e0 = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
		uint32_t t2 = e0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
		memmove(s + 1, s, 7 * sizeof(*s));
		s[4] += t1;
		s[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		state[i] += s[i];
}

void sha256_init(struct sha256 *hash)
{
	*hash = (struct sha256){ .state = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
					 0x1f83d9ab, 0x5be0cd19 } };
}

void sha256_update(struct sha256 *hash, const void *data, size_t len)
{
	const uint8_t *at = data;
	size_t have = hash->len % sizeof(hash->block);
	hash->len += len;
	if (have > 0) {
		size_t room = sizeof(hash->block) - have;
		size_t part = len < room ? len : room;
		memcpy(hash->block + have, at, part);
		if (part < room)
			return;
		compress(hash->state, hash->block);
		at += part;
		len -= part;
	}
	for (; len >= sizeof(hash->block); at += sizeof(hash->block), len -= sizeof(hash->block))
		compress(hash->state, at);
	if (len > 0)
		memcpy(hash->block, at, len);
}

void sha256_final(struct sha256 *hash, uint8_t digest[SHA256_SIZE])
{
	uint64_t bits = hash->len * 8;
	size_t have = hash->len % sizeof(hash->block);
	hash->block[have++] = 0x80;
	if (have > sizeof(hash->block) - 8) {
		memset(hash->block + have, 0, sizeof(hash->block) - have);
		compress(hash->state, hash->block);
		have = 0;
	}
	memset(hash->block + have, 0, sizeof(hash->block) - 8 - have);
	for (int i = 0; i < 8; i++)
		hash->block[56 + i] = (uint8_t)(bits >> (56 - 8 * i));
	compress(hash->state, hash->block);
	for (int i = 0; i < SHA256_SIZE; i++)
		digest[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

void hmac_sha256_init(struct hmac_sha256 *hmac, const void *key, size_t len)
{
	uint8_t pad[64] = { 0 };
	sha256_init(&hmac->inner);
	sha256_init(&hmac->outer);
	if (len > sizeof(pad)) {
		struct sha256 hash;
		sha256_init(&hash);
		sha256_update(&hash, key, len);
		sha256_final(&hash, pad);
	} else if (len > 0) {
		memcpy(pad, key, len);
	}
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36;
	sha256_update(&hmac->inner, pad, sizeof(pad));
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] ^= 0x36 ^ 0x5c;
	sha256_update(&hmac->outer, pad, sizeof(pad));
}

void hmac_sha256_update(struct hmac_sha256 *hmac, const void *data, size_t len)
{
	sha256_update(&hmac->inner, data, len);
}

void hmac_sha256_final(struct hmac_sha256 *hmac, uint8_t code[SHA256_SIZE])
{
	sha256_final(&hmac->inner, code);
	sha256_update(&hmac->outer, code, SHA256_SIZE);
	sha256_final(&hmac->outer, code);
}

void sha256_format(const uint8_t code[SHA256_SIZE], char text[2 * SHA256_SIZE + 1])
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < SHA256_SIZE; i++) {
		text[2 * i] = digits[code[i] >> 4];
		text[2 * i + 1] = digits[code[i] & 15];
	}
	text[2 * SHA256_SIZE] = '\0';
}

bool sha256_parse(const char *text, uint8_t code[SHA256_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	if (!text || strlen(text) != 2 * SHA256_SIZE)
		return false;
	for (size_t i = 0; i < 2 * SHA256_SIZE; i++) {
		const char *digit = strchr(digits, text[i] | 0x20);
		if (!digit || !*digit)
			return false;
		code[i / 2] = (uint8_t)(code[i / 2] << 4 | (digit - digits));
	}
	return true;
}
