/* Which language a file is in, told from its name or its first line, by the definitions that come with the program. */
#ifndef ASSAY_CLI_DETECT_H
#define ASSAY_CLI_DETECT_H

#include "base/bytes.h"
#include "task/language.h"

/* By the extension: that of the language's own source name, or one of its names and aliases, or a few more that are in
 * common use. NULL where none fits. */
const struct language *language_of_path(const struct languages *languages, const char *path);
/* By a first line such as `#!/usr/bin/env -S python3 -u`. NULL where none fits. */
const struct language *language_of_first_line(const struct languages *languages, struct bytes text);

#endif
