/* Reads the plan that the executor wrote. It comes from a trusted side, but what is inside was sized by a user: every count and length is
 * checked against what is there. */
#include <errno.h>

#include "launch/launch.h"
#include "launch/sys.h"

static const char **take_words(const char **at, const char *end, uint32_t count)
{
	if (count > PLAN_WORDS_MAX)
		launch_die("plan", E2BIG);
	const char **words =
		sys_map(((size_t)count + 1) * sizeof(*words), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!words)
		launch_die("plan", ENOMEM);
	for (uint32_t i = 0; i < count; i++) {
		words[i] = *at;
		while (*at < end && **at)
			(*at)++;
		if (*at == end)
			launch_die("plan", EBADMSG);
		(*at)++;
	}
	return words;
}

void plan_read(struct plan *ret_plan)
{
	struct stat st;
	int rc = sys_fstat(LAUNCH_FD_PLAN, &st);
	if (rc < 0)
		launch_die("plan", -rc);
	if ((size_t)st.st_size < sizeof(struct plan_head))
		launch_die("plan", EBADMSG);
	const char *data = sys_map((size_t)st.st_size, PROT_READ, MAP_PRIVATE, LAUNCH_FD_PLAN);
	if (!data)
		launch_die("plan", ENOMEM);
	const struct plan_head *head = (const struct plan_head *)data;
	if (head->magic != PLAN_MAGIC || head->box[sizeof(head->box) - 1])
		launch_die("plan", EBADMSG);
	const char *at = data + sizeof(*head), *end = data + st.st_size;
	ret_plan->head = head;
	ret_plan->cgroups = take_words(&at, end, head->cgroup_count);
	ret_plan->bwrap = take_words(&at, end, head->bwrap_count);
	ret_plan->argv = take_words(&at, end, head->argv_count);
	ret_plan->env = take_words(&at, end, head->env_count);
	ret_plan->archive = at;
	ret_plan->archive_len = (size_t)(end - at);
}
