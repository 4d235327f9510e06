/* Pods, and the Events of Jobs: whatever JSON it is, what is read of it holds together. */
#include "executor/kubernetes/pod.h"

#include <string.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	yyjson_doc *doc = yyjson_read((const char *)data, size, 0);
	struct pod pod;
	struct pod_refusal refusal;
	if (pod_read(yyjson_doc_get_root(doc), &pod)) {
		HOLDS(pod.uid.len > 0 && pod.attempt >= 0 && pod_stage_name(pod.stage) != NULL);
		HOLDS((pod.reason != REASON_NONE) == (pod.stage == POD_STUCK || pod.stage == POD_FAILED));
		HOLDS(strnlen(pod.message, sizeof(pod.message)) < sizeof(pod.message));
	}
	if (pod_refusal_read(yyjson_doc_get_root(doc), &refusal))
		HOLDS(strnlen(refusal.message, sizeof(refusal.message)) < sizeof(refusal.message));
	yyjson_doc_free(doc);
	return 0;
}
