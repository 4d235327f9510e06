/* YAML files read into the same documents as JSON, so that one reader serves both: language files, kubeconfig.
 *
 * One document of YAML 1.1's syntax (libyaml) with the core schema of YAML 1.2.2 (section 10.3): plain scalars are
 * null, bool, int or float where they look like it and strings otherwise; quoted and block scalars are strings.
 * Keys are scalars and stay the text that they are. Refused, with the line: anchors, aliases, merge keys, tags that
 * are not the core schema's, keys given twice, .inf and .nan (JSON has no such thing), integers beyond 64 bits. */
#ifndef ASSAY_BASE_YAML_H
#define ASSAY_BASE_YAML_H

#include <stddef.h>
#include <yyjson.h>

#include "base/bytes.h"
#include "base/err.h"

#define YAML_MAX_BYTES (4 * 1024 * 1024)
#define YAML_MAX_DEPTH 64
#define YAML_MAX_NODES 200000
#define YAML_MAX_KEYS 4096 /* of one mapping */

/* An empty text is the document null. The caller frees the document with yyjson_doc_free. Errors: -EINVAL for what is
 * not such YAML, -E2BIG beyond the bounds above, -ENOMEM; "line N: " begins the message where there is a line. */
int yaml_read(struct bytes text, yyjson_doc **ret_doc, struct err *err) MUST_CHECK;

#endif
