/* Reads the plan that the executor wrote. It comes from a trusted side, but what is inside was sized by a user: every
 * count and length is checked against what is there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "launch/launch.h"

static const char **take_words(const char **at, const char *end, uint32_t count)
{
	if (count > PLAN_WORDS_MAX)
		launch_die("plan", E2BIG);
	const char **words = calloc((size_t)count + 1, sizeof(*words));
	if (!words)
		launch_die("plan", ENOMEM);
	for (uint32_t i = 0; i < count; i++) {
		const char *nul = memchr(*at, 0, (size_t)(end - *at));
		if (!nul)
			launch_die("plan", EBADMSG);
		words[i] = *at;
		*at = nul + 1;
	}
	return words;
}

void plan_read(struct plan *ret_plan)
{
	struct stat st;
	if (fstat(LAUNCH_FD_PLAN, &st) < 0)
		launch_die("plan", errno);
	if ((size_t)st.st_size < sizeof(struct plan_head))
		launch_die("plan", EBADMSG);
	const char *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, LAUNCH_FD_PLAN, 0);
	if (data == MAP_FAILED)
		launch_die("plan", errno);
	const struct plan_head *head = (const struct plan_head *)data;
	if (head->magic != PLAN_MAGIC || !memchr(head->box, 0, sizeof(head->box)))
		launch_die("plan", EBADMSG);
	const char *at = data + sizeof(*head), *end = data + st.st_size;
	*ret_plan = (struct plan){ .head = head };
	ret_plan->cgroups = take_words(&at, end, head->cgroup_count);
	ret_plan->bwrap = take_words(&at, end, head->bwrap_count);
	ret_plan->argv = take_words(&at, end, head->argv_count);
	ret_plan->env = take_words(&at, end, head->env_count);
	ret_plan->archive = at;
	ret_plan->archive_len = (size_t)(end - at);
}
