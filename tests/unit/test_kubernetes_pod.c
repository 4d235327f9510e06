/* What pods say: forms as real servers give them, cut to what is read. */
#include <yyjson.h>

#include "base/clock.h"
#include "executor/kubernetes/pod.h"
#include "test.h"

#define HEAD \
	"{\"metadata\":{\"uid\":\"u-1\",\"name\":\"eval-x-abcde\",\"labels\":{\"job-name\":\"eval-x\"," \
	"\"assay.dev/task\":\"01934a00-0102-7003-8004-05060708090a\",\"assay.dev/attempt\":\"2\"}"
#define META HEAD "},\"spec\":{\"nodeName\":\"n1\"},\"status\":"
#define DELETED \
	HEAD ",\"deletionTimestamp\":\"2026-11-28T10:00:30Z\",\"deletionGracePeriodSeconds\":30}," \
	     "\"spec\":{\"nodeName\":\"n1\"},\"status\":"
#define CONTAINER(state) "\"containerStatuses\":[{\"name\":\"evaluation\",\"state\":" state "}]"
#define ENDED(members) CONTAINER("{\"terminated\":{\"finishedAt\":\"2026-11-28T10:00:05Z\"," members "}}")
#define DISRUPTED(reason) \
	"{\"phase\":\"Failed\",\"conditions\":[{\"type\":\"DisruptionTarget\",\"status\":\"True\",\"reason\":" \
	"\"" reason "\",\"message\":\"told\"}]," ENDED("\"exitCode\":143,\"reason\":\"Error\"") "}}"

static yyjson_doc *document;

static struct pod read_pod(const char *text)
{
	struct pod pod = { 0 };
	yyjson_doc_free(document);
	document = yyjson_read(text, strlen(text), 0);
	REQUIRE(document);
	REQUIRE(pod_read(yyjson_doc_get_root(document), &pod));
	return pod;
}

TEST(each_way_to_end_is_told_apart)
{
	static const struct {
		const char *what, *text;
		enum pod_stage stage;
		enum task_reason reason;
		const char *message;
	} cases[] = {
		{ "new", HEAD "},\"spec\":{},\"status\":{\"phase\":\"Pending\"}}", POD_WAITING, REASON_NONE, "" },
		{ "no room",
			HEAD
			"},\"spec\":{},\"status\":{\"phase\":\"Pending\",\"conditions\":[{\"type\":\"PodScheduled\","
			"\"status\":\"False\",\"reason\":\"Unschedulable\",\"message\":\"0/1 nodes\"}]}}",
			POD_WAITING, REASON_NONE, "Unschedulable: 0/1 nodes" },
		{ "creating",
			META
			"{\"phase\":\"Pending\"," CONTAINER("{\"waiting\":{\"reason\":\"ContainerCreating\"}}") "}}",
			POD_PREPARING, REASON_NONE, "ContainerCreating" },
		{ "image",
			META "{\"phase\":\"Pending\"," CONTAINER(
				"{\"waiting\":{\"reason\":\"ImagePullBackOff\",\"message\":\"no such image\"}}") "}}",
			POD_STUCK, REASON_IMAGE_PULL, "ImagePullBackOff: no such image" },
		{ "config",
			META "{\"phase\":\"Pending\"," CONTAINER(
				"{\"waiting\":{\"reason\":\"CreateContainerConfigError\"}}") "}}",
			POD_STUCK, REASON_START_TIMEOUT, "CreateContainerConfigError" },
		{ "the wrapper's image",
			META "{\"phase\":\"Pending\",\"initContainerStatuses\":[{\"name\":\"wrapper\",\"state\":{"
			     "\"waiting\":"
			     "{\"reason\":\"ErrImagePull\"}}}]," CONTAINER(
				     "{\"waiting\":{\"reason\":\"PodInitializing\"}}") "}}",
			POD_STUCK, REASON_IMAGE_PULL, "ErrImagePull" },
		{ "the wrapper fails",
			META "{\"phase\":\"Failed\",\"initContainerStatuses\":[{\"name\":\"wrapper\",\"state\":{"
			     "\"terminated\":"
			     "{\"exitCode\":1,\"reason\":\"Error\"}}}]," CONTAINER(
				     "{\"waiting\":{\"reason\":\"PodInitializing\"}}") "}}",
			POD_FAILED, REASON_EXECUTOR_LOST, "Error" },
		{ "running",
			META "{\"phase\":\"Running\"," CONTAINER(
				"{\"running\":{\"startedAt\":\"2026-11-28T10:00:00Z\"}}") "}}",
			POD_RUNNING, REASON_NONE, "" },
		{ "success", META "{\"phase\":\"Succeeded\"," ENDED("\"exitCode\":0,\"reason\":\"Completed\"") "}}",
			POD_SUCCEEDED, REASON_NONE, "" },
		{ "exit code", META "{\"phase\":\"Failed\"," ENDED("\"exitCode\":3,\"reason\":\"Error\"") "}}",
			POD_FAILED, REASON_EXIT_CODE, "Error" },
		{ "exit code, and what the wrapper reports",
			META "{\"phase\":\"Failed\"," ENDED(
				"\"exitCode\":3,\"reason\":\"Error\",\"message\":\"assay1 QVdGAQYA\"") "}}",
			POD_FAILED, REASON_EXIT_CODE, "Error" },
		{ "signal",
			META "{\"phase\":\"Failed\"," ENDED("\"exitCode\":139,\"signal\":11,\"reason\":\"Error\"") "}}",
			POD_FAILED, REASON_SIGNAL, "Error" },
		{ "memory", META "{\"phase\":\"Failed\"," ENDED("\"exitCode\":137,\"reason\":\"OOMKilled\"") "}}",
			POD_FAILED, REASON_OUT_OF_MEMORY, "OOMKilled" },
		{ "not runnable",
			META "{\"phase\":\"Failed\"," ENDED("\"exitCode\":128,\"reason\":\"StartError\"") "}}",
			POD_FAILED, REASON_EXECUTOR_LOST, "StartError" },
		{ "evicted by the node",
			META "{\"phase\":\"Failed\",\"reason\":\"Evicted\",\"message\":\"The node was low on resource: "
			     "memory.\"}}",
			POD_FAILED, REASON_EVICTED, "Evicted: The node was low on resource: memory." },
		{ "too much disk",
			META "{\"phase\":\"Failed\",\"reason\":\"Evicted\",\"message\":\"Usage of EmptyDir volume "
			     "\\\"assay-work\\\" exceeds the limit \\\"256Mi\\\".\"}}",
			POD_FAILED, REASON_DISK_LIMIT,
			"Evicted: Usage of EmptyDir volume \"assay-work\" exceeds the limit \"256Mi\"." },
		{ "preempted, as old servers say", META "{\"phase\":\"Failed\",\"reason\":\"Preempting\"}}", POD_FAILED,
			REASON_PREEMPTED, "Preempting" },
		{ "node lost",
			META "{\"phase\":\"Running\",\"reason\":\"NodeLost\"," CONTAINER("{\"running\":{}}") "}}",
			POD_FAILED, REASON_NODE_LOST, "NodeLost" },
		{ "the net, while it ran",
			META "{\"phase\":\"Failed\",\"reason\":\"DeadlineExceeded\"," ENDED("\"exitCode\":137") "}}",
			POD_FAILED, REASON_TIMEOUT, "DeadlineExceeded" },
		{ "the net, before", META "{\"phase\":\"Failed\",\"reason\":\"DeadlineExceeded\"}}", POD_FAILED,
			REASON_START_TIMEOUT, "DeadlineExceeded" },
		{ "preempted", META DISRUPTED("PreemptionByScheduler"), POD_FAILED, REASON_PREEMPTED,
			"PreemptionByScheduler: told" },
		{ "evicted by the API", META DISRUPTED("EvictionByEvictionAPI"), POD_FAILED, REASON_EVICTED,
			"EvictionByEvictionAPI: told" },
		{ "by the taint manager", META DISRUPTED("DeletionByTaintManager"), POD_FAILED, REASON_NODE_LOST,
			"DeletionByTaintManager: told" },
		{ "of a later server", META DISRUPTED("SomethingNew"), POD_FAILED, REASON_EVICTED,
			"SomethingNew: told" },
		{ "deleted by hand",
			DELETED "{\"phase\":\"Failed\"," ENDED("\"exitCode\":143,\"reason\":\"Error\"") "}}",
			POD_FAILED, REASON_DELETED, "Error" },
		{ "deleted when it had succeeded", DELETED "{\"phase\":\"Succeeded\"," ENDED("\"exitCode\":0") "}}",
			POD_SUCCEEDED, REASON_NONE, "" },
		{ "deleted, and its container forgotten", DELETED "{\"phase\":\"Failed\"}}", POD_FAILED, REASON_DELETED,
			"" },
		{ "failed without a word", META "{\"phase\":\"Failed\"}}", POD_FAILED, REASON_EXECUTOR_LOST, "" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pod pod = read_pod(cases[i].text);
		int failures = test_failures;
		CHECK_STR(pod_stage_name(pod.stage), pod_stage_name(cases[i].stage));
		CHECK_INT(pod.reason, cases[i].reason);
		CHECK_STR(pod.message, cases[i].message);
		if (test_failures > failures)
			printf("# case: %s\n", cases[i].what);
	}
}

TEST(an_exit_before_the_deletion_is_the_codes_own)
{
	struct pod pod = read_pod(HEAD ",\"deletionTimestamp\":\"2026-11-28T10:00:40Z\",\"deletionGracePeriodSeconds\":"
				       "30},\"spec\":{},\"status\":"
				       "{\"phase\":\"Failed\"," ENDED("\"exitCode\":1") "}}");
	CHECK_INT(pod.reason, REASON_EXIT_CODE);
	CHECK_INT(pod.exit_code, 1);
	CHECK_INT(pod.deleted_at_us - pod.finished_at_us, 5 * US_PER_S);
}

TEST(what_it_is_of_and_what_it_left_is_read)
{
	struct pod pod = read_pod(
		META "{\"phase\":\"Failed\",\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"True\","
		     "\"lastTransitionTime\":\"2026-11-28T09:59:59Z\"}],\"containerStatuses\":[{\"name\":\"sidecar\","
		     "\"state\":{\"running\":{}}},{\"name\":\"evaluation\",\"imageID\":\"python@sha256:1\",\"state\":"
		     "{\"terminated\":{\"exitCode\":1,\"message\":\"a\\u0000b\",\"startedAt\":\"2026-11-28T10:00:00Z\","
		     "\"finishedAt\":\"2026-11-28T10:00:05Z\"}}}]}}");
	struct uuid expected;
	REQUIRE(uuid_parse(BYTES_LITERAL("01934a00-0102-7003-8004-05060708090a"), &expected));
	CHECK(uuid_compare(&pod.task_id, &expected) == 0);
	CHECK_INT(pod.attempt, 2);
	CHECK_BYTES(pod.uid, "u-1");
	CHECK_BYTES(pod.name, "eval-x-abcde");
	CHECK_BYTES(pod.job_name, "eval-x");
	CHECK_BYTES(pod.node, "n1");
	CHECK_BYTES(pod.image, "python@sha256:1");
	CHECK_INT(pod.report.len, 3);
	CHECK_INT(pod.finished_at_us - pod.started_at_us, 5 * US_PER_S);
	CHECK_INT(pod.started_at_us - pod.scheduled_at_us, 1 * US_PER_S);
	CHECK_INT(pod.deleted_at_us, 0);
	/* The sidecar's running says nothing of ours. */
	CHECK_INT(pod.stage, POD_FAILED);
}

#define RUNNING(ready, conditions) \
	"{\"phase\":\"Running\",\"conditions\":[" conditions "],\"containerStatuses\":[{\"name\":\"evaluation\"," \
	"\"ready\":" ready ",\"state\":{\"running\":{\"startedAt\":\"2026-11-28T10:00:00Z\"}}}]}}"

TEST(why_it_is_taken_away_is_told_before_it_has_ended)
{
	static const struct {
		const char *text;
		enum task_reason leaving;
	} cases[] = {
		{ META RUNNING("true", "{\"type\":\"Ready\",\"status\":\"True\"}"), REASON_NONE },
		{ DELETED RUNNING("true", "{\"type\":\"Ready\",\"status\":\"True\"}"), REASON_DELETED },
		{ META RUNNING("true", "{\"type\":\"Ready\",\"status\":\"False\"}"), REASON_NODE_LOST },
		{ DELETED RUNNING("true", "{\"type\":\"Ready\",\"status\":\"False\"}"), REASON_NODE_LOST },
		{ META RUNNING(
			  "true", "{\"type\":\"Ready\",\"status\":\"False\",\"reason\":\"ReadinessGatesNotReady\"}"),
			REASON_NONE },
		{ META RUNNING("false", "{\"type\":\"Ready\",\"status\":\"False\",\"reason\":\"ContainersNotReady\"}"),
			REASON_NONE },
		{ DELETED RUNNING("true",
			  "{\"type\":\"DisruptionTarget\",\"status\":\"True\",\"reason\":\"EvictionByEvictionAPI\"}"),
			REASON_EVICTED },
		{ META RUNNING("true",
			  "{\"type\":\"DisruptionTarget\",\"status\":\"True\",\"reason\":\"DeletionByTaintManager\"}"),
			REASON_NODE_LOST },
		{ DELETED RUNNING("true", "{\"type\":\"DisruptionTarget\",\"status\":\"False\"}"), REASON_DELETED },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pod pod = read_pod(cases[i].text);
		if (!CHECK_INT(pod.leaving, cases[i].leaving))
			printf("# case %zu\n", i);
		CHECK_INT(pod.stage, POD_RUNNING);
	}
}

static bool read_refusal(const char *text, struct pod_refusal *ret_refusal)
{
	yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
	REQUIRE(doc);
	bool found = pod_refusal_read(yyjson_doc_get_root(doc), ret_refusal);
	yyjson_doc_free(doc);
	return found;
}

#define EVENT(reason, at, message) \
	"{\"reason\":\"" reason "\",\"lastTimestamp\":\"2026-11-28T10:00:" at "Z\",\"message\":\"" message "\"}"

TEST(why_a_job_has_no_pod_is_what_its_newest_refusal_says)
{
	struct pod_refusal refusal;
	static const char *const none[] = { "7", "{}", "{\"items\":{}}", "{\"items\":[7,null]}",
		"{\"items\":[" EVENT("SuccessfulCreate", "01", "Created pod: x") "]}" };
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		CHECK(!read_refusal(none[i], &refusal));
	REQUIRE(read_refusal(
		"{\"items\":[" EVENT("FailedCreate", "02",
			"pods \\\"x\\\" is forbidden: exceeded quota: q, used: pods=1") "," EVENT("FailedCreate", "01",
			"a webhook says no") "]}",
		&refusal));
	CHECK(refusal.is_quota);
	CHECK_STR(refusal.message, "pods \"x\" is forbidden: exceeded quota: q, used: pods=1");
	REQUIRE(read_refusal("{\"items\":[" EVENT("FailedCreate", "01", "status unknown for quota: q") "," EVENT(
				     "FailedCreate", "02", "violates PodSecurity") ",{\"reason\":\"Other\"}]}",
		&refusal));
	CHECK(!refusal.is_quota);
	CHECK_STR(refusal.message, "violates PodSecurity");
	REQUIRE(read_refusal("{\"items\":[{\"reason\":\"FailedCreate\",\"message\":7}]}", &refusal));
	CHECK_STR(refusal.message, "");
	CHECK(pod_quota_refuses(BYTES_LITERAL("forbidden: status unknown for quota: q, resources: pods")));
	CHECK(!pod_quota_refuses(BYTES_LITERAL("cannot create resource \"jobs\"")) && !pod_quota_refuses(BYTES_NONE));
}

TEST(what_is_no_pod_of_ours_is_told)
{
	struct pod pod;
	static const char *const none[] = { "[]", "{}", "7", "{\"metadata\":[]}", "{\"metadata\":{\"uid\":7}}",
		"{\"metadata\":{\"uid\":\"\"}}" };
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		yyjson_doc *doc = yyjson_read(none[i], strlen(none[i]), 0);
		REQUIRE(doc);
		CHECK(!pod_read(yyjson_doc_get_root(doc), &pod));
		yyjson_doc_free(doc);
	}
	static const char *const foreign[] = { "{\"metadata\":{\"uid\":\"u\"}}",
		"{\"metadata\":{\"uid\":\"u\",\"labels\":{\"assay.dev/task\":\"x\",\"assay.dev/"
		"attempt\":\"1\"}},\"status\":[]}",
		"{\"metadata\":{\"uid\":\"u\",\"labels\":{\"assay.dev/task\":\"01934a00-0102-7003-8004-05060708090a\","
		"\"assay.dev/attempt\":\"0\"}},\"status\":{\"conditions\":{},\"containerStatuses\":[7]}}" };
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		pod = read_pod(foreign[i]);
		CHECK_INT(pod.attempt, 0);
		CHECK(uuid_is_nil(&pod.task_id));
	}
	yyjson_doc_free(document);
	document = NULL;
}

TEST_MAIN()
