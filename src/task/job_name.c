/* Job names: see the header. The name is the id, so that no table maps one to the other. */
#include "task/job_name.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define PREFIX "eval-"
#define PREFIX_LENGTH (sizeof(PREFIX) - 1)
#define STEM_LENGTH (PREFIX_LENGTH + BASE32_UUID_LENGTH)

char *job_name_format(const struct uuid *id, int attempt, char text[static JOB_NAME_SIZE])
{
	memcpy(text, PREFIX, PREFIX_LENGTH);
	base32_from_uuid(id, text + PREFIX_LENGTH);
	text[STEM_LENGTH] = '\0';
	if (attempt > 1)
		snprintf(text + STEM_LENGTH, JOB_NAME_SIZE - STEM_LENGTH, "-%d", attempt);
	return text;
}

bool job_name_parse(struct bytes name, struct uuid *ret_id, int *ret_attempt)
{
	if (name.len < STEM_LENGTH || memcmp(name.data, PREFIX, PREFIX_LENGTH) != 0)
		return false;
	struct uuid id;
	if (!base32_to_uuid((struct bytes){ name.data + PREFIX_LENGTH, BASE32_UUID_LENGTH }, &id))
		return false;
	int64_t attempt = 0;
	if (name.len > STEM_LENGTH) {
		struct bytes number = { name.data + STEM_LENGTH + 1, name.len - STEM_LENGTH - 1 };
		/* One spelling per name: no sign, no leading zero, and attempt 1 has no suffix. */
		if (name.data[STEM_LENGTH] != '-' || number.len == 0 || number.data[0] < '1' || number.data[0] > '9' ||
			!text_to_int(number, 2, INT_MAX, &attempt))
			return false;
	}
	*ret_id = id;
	*ret_attempt = (int)attempt;
	return true;
}
