/* A kubeconfig file: which cluster, as whom (kubernetes.io /docs/reference/config-api/kubeconfig.v1/ and
 * /docs/concepts/configuration/organize-cluster-access-kubeconfig/).
 *
 * Taken of a cluster: server, certificate-authority(-data), tls-server-name, insecure-skip-tls-verify; of a user:
 * token, tokenFile, client-certificate(-data), client-key(-data); of a context: namespace. A `-data` beats the
 * file beside it, a tokenFile the token. Names of files are relative to the kubeconfig's directory. An empty
 * string is as good as none. What would make other requests than the file means, or needs programs to be run, is
 * refused with words on what to do: exec, auth-provider, username and password, impersonation (as, …), proxy-url.
 * What else there is is passed over. Messages name places, never content. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_KUBECONFIG_H
#define ASSAY_EXECUTOR_KUBERNETES_KUBECONFIG_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"

/* One context of a file. Absent: not given. All strings are the arena's, and terminated. */
struct kubeconfig {
	struct arena arena;
	const char *server; /* http:// or https://, without a slash at its end */
	const char *server_name; /* tls-server-name */
	bool insecure;
	const char *ca_file;
	struct bytes ca; /* PEM */
	const char *token, *token_file;
	const char *certificate_file, *key_file;
	struct bytes certificate, key; /* PEM */
	const char *namespace_name;
};

/* `text` is the file's content, not needed afterwards; `path` is for messages and for names of files; `context` NULL:
 * current-context. */
int kubeconfig_parse(struct bytes text, const char *path, const char *context, struct kubeconfig *ret_config,
	struct err *err) MUST_CHECK;
void kubeconfig_fini(struct kubeconfig *config);

/* Checks shared with those who get the same things from settings. NULL where all is well, else what is wrong with it,
 * to follow its name: "must …". */
const char *kube_server_fault(struct bytes url);
const char *kube_token_fault(struct bytes token);
const char *kube_namespace_fault(struct bytes name); /* RFC 1123's labels */
/* `key`: a private key is wanted, else certificates. */
const char *kube_pem_fault(struct bytes pem, bool key);

#endif
