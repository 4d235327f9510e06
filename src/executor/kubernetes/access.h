/* Where the API server is, and how to show who we are: in a pod by its service account (kubernetes.io
 * /docs/tasks/run-application/access-api-from-pod/), by a URL, or by a kubeconfig file that was named.
 *
 * A token file changes while we run: the kubelet writes the account's token anew before it ends (kubernetes.io
 * /docs/tasks/configure-pod-container/configure-service-account/). So it is read again, by libuv's pool, when it
 * is wanted and older than a minute, and when a server has answered 401; until the new one is there, or where it
 * cannot be read, the old one is used. Files of certificates are given to the HTTP client by name, which reads
 * them for new connections, that of the authorities every five seconds at most. Neither tokens nor keys are ever part of a message. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_ACCESS_H
#define ASSAY_EXECUTOR_KUBERNETES_ACCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/bytes.h"
#include "base/err.h"
#include "io/http_client.h"

struct kube_access;

#define KUBE_SERVICE_ACCOUNT_DIRECTORY "/var/run/secrets/kubernetes.io/serviceaccount"

/* NULL and "": not given. The first of url, kubeconfig, service_host that is given counts; url and kubeconfig together
 * are refused. All are copied. */
struct kube_access_options {
	uv_loop_t *loop; /* borrowed: outlives it */
	const char *url; /* http:// or https:// */
	const char *token, *token_file, *ca_file; /* with url alone; at most one of the first two */
	const char *kubeconfig, *context; /* a file; the context NULL: its current-context */
	const char *service_host, *service_port; /* KUBERNETES_SERVICE_HOST and _PORT: in a pod */
	const char *service_account_directory; /* NULL: KUBE_SERVICE_ACCOUNT_DIRECTORY */
	int64_t token_age_us; /* a token file older than this is read again; 0: a minute */
	/* A re-read that was asked for has ended; the token may be the same as before. Not from within a call. May
	 * be NULL. */
	void (*on_reread)(void *owner);
	void *owner; /* borrowed */
};

/* Reads the files that there are, which blocks: for the start only. Errors name what to do: -EINVAL for what cannot be
 * right, -ENOENT where no API server is named at all, and what reading the files gives. */
int kube_access_new(
	const struct kube_access_options *options, struct kube_access **ret_access, struct err *err) MUST_CHECK;
/* Who is told of re-reads from now on, instead of the one in the options. */
void kube_access_listen(struct kube_access *access, void (*on_reread)(void *owner), void *owner);

/* These live as long as the access. */
const char *kube_access_url(const struct kube_access *access); /* without a slash at its end */
const char *kube_access_namespace(const struct kube_access *access); /* the pod's, or the context's; NULL: not told */
const char *kube_access_description(const struct kube_access *access); /* for people, without secrets */
const struct http_tls *kube_access_tls(const struct kube_access *access);

/* The token for a request that is sent now, or absent: borrowed until the loop's next turn. Starts a re-read where the
 * file was last read long ago. *ret_version, raised at every change, tells tokens apart. */
struct bytes kube_access_token(struct kube_access *access, uint64_t *ret_version);
/* A request with the token of this version was answered 401. True: a re-read is under way, on_reread follows.
 * False: there is a newer token already, or none will come; see the version that kube_access_token() gives. */
bool kube_access_refused(struct kube_access *access, uint64_t version);
/* Why the token file could not be read the last time; code 0: it could. */
const struct err *kube_access_token_error(const struct kube_access *access);

/* Waits for a read that is under way, calls on_closed once, never from within this call, and is gone. */
void kube_access_close(struct kube_access *access, void (*on_closed)(void *owner), void *owner);

#endif
