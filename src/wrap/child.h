/* The processes of a step: starting the program, and counting what they took. */
#ifndef ASSAY_WRAP_CHILD_H
#define ASSAY_WRAP_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child_spec {
	char *const *words; /* the first is looked up in PATH of `env` where it has no slash */
	char *const *env;
	int in, out, err; /* descriptors, borrowed */
	int work; /* its working directory */
	int ruleset; /* Landlock's, or -1 */
	uint64_t processes; /* that its user id may have, process 1 apart; 0: no limit */
};

struct child_usage {
	int64_t cpu_us; /* of all that were waited for */
	int64_t memory_bytes; /* the largest resident size of one of them */
};

/* Starts it in a session of its own, with no descriptor but 0, 1 and 2. Returns its process id; 0: it cannot be executed, for the
 * reason in *ret_errno; a negative errno: what comes before that could not be done. */
pid_t child_start(const struct child_spec *spec, int *ret_errno);

/* Takes in one process that has ended, if there is one. Its process id; 0: none has; -1: there are none at all. */
pid_t child_reap(struct child_usage *usage, int *ret_status);

/* Processes of this namespace, each of their threads counting and process 1 not; counted no further than beyond `most`. */
uint64_t child_count(uint64_t most);
/* The last process id that was given out in this namespace, threads' among them; 0: not known. Ids begin anew after the largest. */
uint64_t child_last_id(void);
/* Its user ids are not those of the node, so nobody else's processes count for a limit of them. */
bool child_has_own_users(void);
/* What a process that lives has taken of the processor by itself; 0: it does not live any more. */
int64_t child_cpu_us(pid_t pid);

#endif
