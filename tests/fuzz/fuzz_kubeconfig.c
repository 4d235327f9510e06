/* Kubeconfig files: what is read can be used as it is, what is not says why. */
#include "executor/kubernetes/kubeconfig.h"

#include <string.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kubeconfig config = { 0 };
	struct err err = { 0 };
	int result = kubeconfig_parse((struct bytes){ (const char *)data, size }, "/d/config", NULL, &config, &err);
	if (result < 0) {
		HOLDS(err.code == result && err.message[0] != '\0' && !config.server && !config.arena.head);
		return 0;
	}
	size_t len = strlen(config.server);
	HOLDS(len > 7 && config.server[len - 1] != '/' && !kube_server_fault(bytes_of(config.server)));
	HOLDS(!config.token || !kube_token_fault(bytes_of(config.token)));
	HOLDS(!config.namespace_name || !kube_namespace_fault(bytes_of(config.namespace_name)));
	HOLDS(!config.ca_file || config.ca_file[0] == '/');
	HOLDS(!config.insecure || (!config.ca_file && !config.ca.data));
	HOLDS((config.key_file || config.key.data) == (config.certificate_file || config.certificate.data));
	HOLDS(!config.key.data || !kube_pem_fault(config.key, true));
	kubeconfig_fini(&config);
	return 0;
}
