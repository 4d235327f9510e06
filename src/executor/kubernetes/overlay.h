/* Laying one Kubernetes object over another: JSON merge patch (RFC 7396), but that lists whose elements have names are merged
 * by them, as strategic merge does
 * (kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch): containers, initContainers, volumes,
 * env, ports and imagePullSecrets by `name`, volumeMounts by `mountPath`. So a template can add a volume or a limit to the
 * container without repeating it. All other lists are replaced as wholes. */
#ifndef ASSAY_EXECUTOR_KUBERNETES_OVERLAY_H
#define ASSAY_EXECUTOR_KUBERNETES_OVERLAY_H

#include <yyjson.h>

/* Changes `base`, which is of `doc`, and gives it or what stands in its place; `over` is copied. NULL: no memory. */
yyjson_mut_val *overlay(yyjson_mut_doc *doc, yyjson_mut_val *base, yyjson_val *over);

#endif
