/* What became of an attempt, put together from what is heard of it: the wrapper's frames, its termination message, and the
 * pod. Told to the executor's listener, each thing once and in order, whichever way it came, however often.
 *
 * What the wrapper has signed is believed before the pod, and the pod before nothing: the pod says why a wrapper did not get to its
 * end. Where nothing of ours is in the container (a watched attempt) the pod is all there is.
 *
 * Times come by the clock of the node. They are told as they are where they can be true by ours; else what they are of has
 * happened now.
 *
 *   frames ─┐                      ┌─► on_started, on_output*, on_progress*, on_step_ended*
 *   message ┼─► struct account ────┤
 *   pod    ─┘                      └─► `end`, once it is known: the executor reports it when it has let go of the job */
#ifndef ASSAY_EXECUTOR_KUBERNETES_ACCOUNT_H
#define ASSAY_EXECUTOR_KUBERNETES_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "assay/executor.h"
#include "executor/kubernetes/pod.h"
#include "executor/kubernetes/publication.h"
#include "wrap/report.h"

struct account {
	struct job *job; /* borrowed: outlives us */
	const struct executor_listener *listener; /* borrowed */
	void *owner; /* of the listener */
	struct job_end *end; /* owned; NULL: not known yet. Once it is, nothing more is told */
	bool has_compile; /* the first step is one */
	bool watched; /* there is no wrapper: the pod is the one step */
	bool silent; /* set by the executor where frames do not come: the pod tells of the start */
	bool tells; /* set by the executor: watched, but its image says by itself when the code has started (account_publication) */
	bool cancelled; /* set by the executor once it was asked to */
	bool started;
	int64_t since_us; /* set by the executor: not before this by our clock did anything of it happen; 0: not known */
	int64_t started_at_us;
	size_t steps; /* that have been told, in their order */
	uint64_t offsets[2]; /* of the step that follows, what has been told of its streams */
	int64_t progress_us; /* … how long it had run when its progress was told last */
	bool truncated[2]; /* … and whether something of them is missing */
	/* Lent by the executor for a call: of the log of a pod that has ended, what was not told yet (watched, silent); told before the
	 * end of the step that it is of. */
	struct bytes log;
	bool closed; /* the wrapper's last frame came: there is nothing more to hear */
	bool lost; /* something of its standard output did not arrive, though it was within the limit */
	bool unfinished; /* a signed message says that the wrapper was still at work */
	bool terminated; /* … that somebody told the container to end: the pod may say who */
};

void account_init(struct account *account, struct job *job, bool has_compile, bool watched,
	const struct executor_listener *listener, void *owner);
void account_fini(struct account *account);
/* A frame whose signature holds. `where`: what is told with the start, but for its time. */
void account_frame(struct account *account, const struct report_frame *frame, const struct job_started *where);
/* What the wrapper reported before the frame that comes next is lost for good, that it has started among it. */
void account_gap(struct account *account, const struct job_started *where);
/* What a watched pod has printed since the last call: both streams are one in a pod's log, and are told as the first. */
void account_log(struct account *account, struct bytes data);
/* What the image of a watched one has published by itself. It is believed. */
void account_publication(struct account *account, const struct publication *said, const struct job_started *where);
/* Is there something in the pod's log, now that it has ended, that did not come another way? */
bool account_wants_log(const struct account *account);
/* Something of what the step that follows printed is missing, or may be. */
void account_cut(struct account *account);
/* The pod, whenever it has changed. Call it with one that has ended only when nothing more will be heard: its termination
 * message has been taken in (account_frame), and what was on its way has come. */
void account_pod(struct account *account, const struct pod *pod);
/* There is no pod any more, or none of ours, and nobody said why. `reason`: of fault infrastructure; or REASON_TIMEOUT of a watched one,
 * which ends its step. */
void account_lost(struct account *account, enum task_reason reason, const char *message);

#endif
