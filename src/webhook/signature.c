/* See signature.h. */
#include "webhook/signature.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/arena.h"
#include "base/text.h"

static int secret_parse(struct bytes text, struct webhook_secret *ret_secret, struct err *err)
{
	struct bytes prefix = BYTES_LITERAL("whsec_");
	if (text.len < prefix.len || memcmp(text.data, prefix.data, prefix.len) != 0)
		return err_set(err, -EINVAL, "a webhook secret begins with whsec_");
	struct arena arena = { 0 };
	struct bytes key = base64_decode(&arena, (struct bytes){ text.data + prefix.len, text.len - prefix.len });
	int result = 0;
	if (!key.data)
		result = err_set(err, -EINVAL, "a webhook secret goes on with base64 behind whsec_");
	else if (key.len < WEBHOOK_SECRET_MIN || key.len > WEBHOOK_SECRET_MAX)
		result = err_set(err, -EINVAL, "a webhook secret has %d to %d bytes, this one has %zu",
			WEBHOOK_SECRET_MIN, WEBHOOK_SECRET_MAX, key.len);
	if (result == 0) {
		memcpy(ret_secret->key, key.data, key.len);
		ret_secret->len = key.len;
		OPENSSL_cleanse((void *)(uintptr_t)key.data, key.len);
	}
	arena_fini(&arena);
	return result;
}

int webhook_secrets_parse(struct bytes text, struct webhook_secrets *ret_secrets, struct err *err)
{
	struct webhook_secrets secrets = { 0 };
	size_t at = 0;
	while (at < text.len) {
		size_t begin = at;
		while (at < text.len && !strchr(", \t\r\n", text.data[at]))
			at++;
		if (at > begin) {
			if (secrets.count == WEBHOOK_SECRETS_MAX)
				return err_set(
					err, -E2BIG, "at most %d webhook secrets can be given", WEBHOOK_SECRETS_MAX);
			int result = secret_parse(
				(struct bytes){ text.data + begin, at - begin }, &secrets.items[secrets.count], err);
			if (result < 0)
				return result;
			secrets.count++;
		}
		at++;
	}
	if (secrets.count == 0)
		return err_set(err, -EINVAL, "the webhook secret is empty");
	*ret_secrets = secrets;
	return 0;
}

void webhook_sign(const struct webhook_secrets *secrets, struct bytes id, struct bytes timestamp, struct bytes body,
	struct buffer *signature)
{
	struct buffer text = BUFFER_MAX(0);
	buffer_append_bytes(&text, id);
	buffer_append_char(&text, '.');
	buffer_append_bytes(&text, timestamp);
	buffer_append_char(&text, '.');
	buffer_append_bytes(&text, body);
	for (size_t i = 0; i < secrets->count; i++) {
		unsigned char mac[EVP_MAX_MD_SIZE];
		unsigned len = 0;
		if (text.failed || !HMAC(EVP_sha256(), secrets->items[i].key, (int)secrets->items[i].len,
					   (const unsigned char *)text.data, text.len, mac, &len)) {
			signature->failed = true;
			break;
		}
		buffer_append_string(signature, i > 0 ? " v1," : "v1,");
		base64_append(signature, (struct bytes){ (const char *)mac, len });
	}
	buffer_fini(&text);
}
