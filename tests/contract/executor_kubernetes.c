/* Kubernetes before the contract suite of executors: started by tests/integration/test_kubernetes.py, which has a cluster, and names
 * by the environment what is in it: KUBECONFIG with its namespace, ASSAY_TEST_ADDRESS and ASSAY_TEST_PORT, where pods reach what
 * listens on this machine, and ASSAY_TEST_WRAPPER_IMAGE, unless the languages' images have the wrapper. */
#include "executor/kubernetes/kubernetes.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "executor_suite.h"

static const char *environment(const char *name)
{
	const char *value = getenv(name);
	if (!value) {
		printf("Bail out! %s is not set\n", name);
		exit(1);
	}
	return value;
}

static struct executor *make(uv_loop_t *loop, int slots)
{
	static struct log log = { .fd = 2, .level = LOG_ERROR };
	static struct languages *languages;
	struct err err = { 0 };
	struct executor *executor = NULL;
	if (languages || languages_parse(languages_builtin(), "languages", &languages, &err) == 0) {
		const struct kubernetes_executor_options options = { .loop = loop,
			.log = &log,
			.languages = languages,
			.access = { .loop = loop, .kubeconfig = environment("KUBECONFIG") },
			.manifest = { .instance = "suite",
				.wrapper_image = getenv("ASSAY_TEST_WRAPPER_IMAGE"),
				.wrapper_path = "/usr/bin/assay-wrap",
				.user_id = 65532,
				.start_timeout_us = 60 * US_PER_S,
				.grace_us = US_PER_S,
				.keep_us = 86400 * US_PER_S },
			.key = BYTES_LITERAL("0123456789abcdef0123456789abcdef"),
			.listen_host = "0.0.0.0",
			.listen_port = (uint16_t)atoi(environment("ASSAY_TEST_PORT")),
			.report_to = environment("ASSAY_TEST_ADDRESS"),
			.slots = slots,
			.starting_max = slots,
			.patience_us = 60 * US_PER_S,
			.image_grace_us = 2 * US_PER_S,
			.gone_grace_us = 30 * US_PER_S,
			.progress_us = US_PER_S };
		executor = kubernetes_executor_new(&options, &err);
	}
	if (!executor) {
		printf("Bail out! %s\n", err.message);
		exit(1);
	}
	return executor;
}

const struct executor_fixture executor_fixture = {
	.name = "kubernetes",
	.make = make,
	.language = "bash",
	.quick = "echo quick",
	.endless = "echo endless; while :; do :; done",
	.failing = "exit 7",
	.comes_up = true,
};
