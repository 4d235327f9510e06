/* YAML: what is read is a document that can be written as JSON; what is not says why. */
#include "base/yaml.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	yyjson_doc *doc = NULL;
	struct err err = { 0 };
	int rc = yaml_read((struct bytes){ (const char *)data, size }, &doc, &err);
	if (rc < 0) {
		HOLDS(!doc && err.code == rc && err.message[0] != '\0');
		return 0;
	}
	size_t len;
	char *json = yyjson_write(doc, 0, &len);
	HOLDS(json != NULL);
	free(json);
	yyjson_doc_free(doc);
	return 0;
}
