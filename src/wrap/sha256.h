/* SHA-256 (FIPS 180-4) and HMAC with it (RFC 2104), for reports: no allocation, no I/O. */
#ifndef ASSAY_WRAP_SHA256_H
#define ASSAY_WRAP_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32

struct sha256 {
	uint32_t state[8];
	uint64_t len; /* bytes so far */
	uint8_t block[64]; /* the last len % 64 of them */
};

void sha256_init(struct sha256 *hash);
void sha256_update(struct sha256 *hash, const void *data, size_t len);
void sha256_final(struct sha256 *hash, uint8_t digest[SHA256_SIZE]); /* then init again */

/* A key made ready. It may be copied: each copy makes one code. */
struct hmac_sha256 {
	struct sha256 inner, outer;
};

/* Such a code, or a key of its size, as 64 hexadecimal digits and a terminating zero. */
void sha256_format(const uint8_t code[SHA256_SIZE], char text[2 * SHA256_SIZE + 1]);
bool sha256_parse(const char *text, uint8_t code[SHA256_SIZE]); /* false for anything else, NULL too */

void hmac_sha256_init(struct hmac_sha256 *hmac, const void *key, size_t len);
void hmac_sha256_update(struct hmac_sha256 *hmac, const void *data, size_t len);
void hmac_sha256_final(struct hmac_sha256 *hmac, uint8_t code[SHA256_SIZE]);

#endif
