/* Which executor a task goes to. The choice is made when it is submitted and stands in its row, so that a language
 * which is not to be had is refused at once and a claim asks only for what it can run. */
#include "coordinator/internal.h"

#include <errno.h>

#include "base/text.h"

struct lane *router_lane(const struct coordinator *c, struct bytes executor)
{
	for (size_t i = 0; i < c->lane_count; i++) {
		struct executor *candidate = c->lanes[i].executor;
		if (bytes_equal(candidate->ops->status(candidate)->name, executor))
			return &c->lanes[i];
	}
	return NULL;
}

int lane_free_slots(const struct lane *lane)
{
	const struct executor_status *status = lane->executor->ops->status(lane->executor);
	if (status->health == EXECUTOR_UNAVAILABLE)
		return 0;
	return status->slots - lane->occupied - lane->reserved;
}

static int language_check(const struct executor_status *status, struct bytes language, struct err *err)
{
	for (size_t i = 0; i < status->language_count; i++) {
		const struct executor_language *known = &status->languages[i];
		if (!bytes_equal(known->name, language))
			continue;
		if (known->available)
			return 0;
		return err_set(err, -ENOENT, "%.*s is not available on executor %.*s: %.*s", (int)language.len,
			language.data, (int)status->name.len, status->name.data, (int)known->remedy.len,
			known->remedy.data);
	}
	return err_set(err, -ENOENT, "executor %.*s does not know the language %.*s", (int)status->name.len,
		status->name.data, (int)language.len, language.data);
}

/* An image that runs as it is, is one step, and gets nothing that only the wrapper could bring. Which image that is, is the
 * operator's choice alone. */
static int image_check(
	const struct language *language, const struct evaluation *evaluation, const char **ret_field, struct err *err)
{
	const char *what = evaluation->test_count       ? "tests"
			   : evaluation->stdin_data.len ? "stdin"
			   : evaluation->image.data     ? "image"
							: NULL;
	if (what) {
		*ret_field = what;
		return err_set(err, -EINVAL, "%s is an image that runs as it is: it takes no %s", language->name, what);
	}
	if (language->report != LANGUAGE_REPORT_PUBLISH)
		return 0;
	const struct job_file *code = evaluation->files;
	*ret_field = evaluation->file_count == 1 && code->path.len == 0 ? "code" : "files";
	if (evaluation->file_count != 1)
		return err_set(err, -EINVAL, "%s gets its code in one variable: it takes one file", language->name);
	if (code->content.len > LANGUAGE_CODE_MAX || !utf8_valid(code->content) ||
		(code->content.len > 0 && memchr(code->content.data, '\0', code->content.len)))
		return err_set(err, -EINVAL, "%s gets its code in a variable: it takes at most %d bytes of text",
			language->name, LANGUAGE_CODE_MAX);
	return 0;
}

struct executor *coordinator_route(struct coordinator *c, struct bytes type, struct bytes wanted,
	const struct evaluation *evaluation, const char **ret_field, struct err *err)
{
	if (!bytes_is(type, "evaluation"))
		return c->options.internal;
	struct lane *lane = wanted.data ? router_lane(c, wanted) : &c->lanes[0];
	if (!lane || lane->internal) {
		*ret_field = "executor";
		err_set(err, -ENOENT, "there is no executor called %.*s here", (int)wanted.len, wanted.data);
		return NULL;
	}
	const struct executor_status *status = lane->executor->ops->status(lane->executor);
	struct bytes language = evaluation->language;
	const struct language *known = languages_find(c->options.languages, language);
	*ret_field = "language";
	if (!known) {
		err_set(err, -ENOENT, "the language %.*s is not defined", (int)language.len, language.data);
		return NULL;
	}
	/* An executor that lists no languages takes any: noop. */
	if (status->language_count && language_check(status, bytes_of(known->name), err) < 0)
		return NULL;
	if (evaluation->test_count && status->no_tests) {
		*ret_field = "tests";
		err_set(err, -EINVAL, "the executor %.*s takes no tests: %s", (int)status->name.len, status->name.data,
			status->no_tests);
		return NULL;
	}
	if (known->report != LANGUAGE_REPORT_WRAPPER && image_check(known, evaluation, ret_field, err) < 0)
		return NULL;
	return lane->executor;
}
