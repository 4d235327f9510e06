/* What a callback_url is taken for here is what libcurl, which sends to it, takes it for: the same scheme, host and
 * port, and no user. */
#include <ctype.h>
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/alloc.h"
#include "task/callback.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

/* Host and scheme as curl has them must stand in the origin as it is. */
static void compare(CURLU *url, struct bytes origin)
{
	char *scheme = NULL, *host = NULL, *user = NULL, *port = NULL, text[600];
	must(curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK, "a scheme");
	must(curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK, "a host");
	must(curl_url_get(url, CURLUPART_USER, &user, 0) == CURLUE_NO_USER, "no user");
	curl_url_get(url, CURLUPART_PORT, &port, 0);
	int len = snprintf(text, sizeof(text), "%s://", scheme);
	must(origin.len > (size_t)len && strncasecmp(origin.data, text, (size_t)len) == 0, "the same scheme");
	/* curl writes old forms of IPv4 addresses anew (0x7f.1) and those of IPv6; names it leaves. */
	struct bytes rest = { origin.data + len, origin.len - (size_t)len };
	bool name = false;
	for (const char *c = host; *c; c++)
		name |= *c != '[' && isalpha((unsigned char)*c) && !strchr(host, ':');
	if (name)
		must(rest.len >= strlen(host) && strncasecmp(rest.data, host, strlen(host)) == 0, "the same host");
	const char *colon = memrchr(rest.data, ':', rest.len);
	if (port && colon && rest.data[rest.len - 1] != ']')
		must(atol(port) == strtol(colon + 1, NULL, 10), "the same port");
	curl_free(scheme);
	curl_free(host);
	curl_free(user);
	curl_free(port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes text = { (const char *)data, size };
	if (size == 0 || callback_fault(text, false))
		return 0;
	struct arena arena = { 0 };
	struct bytes copy = arena_bytes(&arena, text);
	CURLU *url = curl_url();
	/* curl may refuse what we take (an IPv6 literal that is none): then nothing is sent. */
	if (curl_url_set(url, CURLUPART_URL, copy.data, 0) == CURLUE_OK)
		compare(url, callback_origin(text, &arena));
	curl_url_cleanup(url);
	arena_fini(&arena);
	return 0;
}
