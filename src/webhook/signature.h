/* Signatures of the Standard Webhooks specification 1.0 (https://github.com/standard-webhooks/standard-webhooks,
 * "Signature scheme"). */
#ifndef ASSAY_WEBHOOK_SIGNATURE_H
#define ASSAY_WEBHOOK_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/err.h"

#define WEBHOOK_SECRETS_MAX 8
#define WEBHOOK_SECRET_MIN 24 /* bytes, as the specification has it */
#define WEBHOOK_SECRET_MAX 64

struct webhook_secret {
	uint8_t key[WEBHOOK_SECRET_MAX];
	size_t len;
};

struct webhook_secrets {
	struct webhook_secret items[WEBHOOK_SECRETS_MAX];
	size_t count; /* at least 1 */
};

/* "whsec_" and base64 of 24 to 64 bytes; several, for rotation, apart by commas or white space. The error shows nothing
 * of them. */
int webhook_secrets_parse(struct bytes text, struct webhook_secrets *ret_secrets, struct err *err) MUST_CHECK;

/* Appends "v1,<base64 of HMAC-SHA256 over id.timestamp.body>" for each secret, in order, apart by spaces. */
void webhook_sign(const struct webhook_secrets *secrets, struct bytes id, struct bytes timestamp, struct bytes body,
	struct buffer *signature);

#endif
