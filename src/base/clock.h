/* Clocks. Points in time are microseconds since the Unix epoch, UTC, in int64_t with the suffix _us; 0 means
 * "none". Durations are microseconds too unless the name says otherwise. */
#ifndef ASSAY_BASE_CLOCK_H
#define ASSAY_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define US_PER_MS INT64_C(1000)
#define US_PER_S INT64_C(1000000)

int64_t clock_wall_us(void);
int64_t clock_monotonic_us(void);
int64_t clock_boottime_us(void); /* goes on while the machine sleeps: for leases */

#define CLOCK_TEXT_SIZE 28
/* RFC 3339 in UTC with milliseconds: 2026-11-21T13:20:00.123Z. Returns `text`. */
char *clock_format(int64_t us, char text[static CLOCK_TEXT_SIZE]);
/* RFC 3339 date-time with any offset, years 1970 to 9999; false when it is not one. */
bool clock_parse(struct bytes text, int64_t *ret_us);

#endif
