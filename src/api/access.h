/* Who is calling, and may they come from there: bearer tokens, the anonymous role, Host and Origin on loopback. */
#ifndef ASSAY_API_ACCESS_H
#define ASSAY_API_ACCESS_H

#include <stdbool.h>

#include "api/api.h"
#include "base/bytes.h"
#include "base/err.h"

struct access;

struct principal {
	struct bytes tenant; /* lives as long as the access: names are kept, also when the tokens are read anew */
	enum api_role role;
};

enum access_outcome {
	ACCESS_KNOWN,
	ACCESS_NO_TOKEN, /* none was sent, and without one nobody may come from there */
	ACCESS_BAD_TOKEN, /* one was sent that is not in the file, or something that is no bearer token */
};

int access_new(const struct api_access *settings, struct access **ret_access, struct err *err) MUST_CHECK;
void access_free(struct access *access);

/* See api_load_tokens(). */
int access_load(struct access *access, struct bytes text, struct err *err) MUST_CHECK;

/* False when the server listens on loopback and Host or Origin name something else: then ret_what names the header. */
bool access_host_allowed(const struct access *access, const struct http_request *request, const char **ret_what);

enum access_outcome access_identify(
	const struct access *access, const struct http_request *request, struct principal *ret_principal);

/* The tenant a principal is held to: absent for ROLE_ADMIN, who sees all. */
static inline struct bytes principal_scope(const struct principal *who)
{
	return who->role == ROLE_ADMIN ? BYTES_NONE : who->tenant;
}

#endif
