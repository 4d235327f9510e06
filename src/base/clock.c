/* Clocks and RFC 3339. The calendar is the proleptic Gregorian one, computed by Howard Hinnant's
 * days_from_civil and civil_from_days (https://howardhinnant.github.io/date_algorithms.html): no time zone data
 * and no locale is looked at, which makes formatting cheap enough for every event. */
#include "base/clock.h"

#include <time.h>

#define DAY_S INT64_C(86400)
#define LAST_US (INT64_C(253402300799) * US_PER_S + US_PER_S - 1) /* the end of the year 9999 */

static int64_t clock_us(clockid_t id)
{
	struct timespec now;
	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * US_PER_S + now.tv_nsec / 1000;
}

int64_t clock_wall_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

int64_t clock_monotonic_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

int64_t clock_boottime_us(void)
{
	return clock_us(CLOCK_BOOTTIME);
}

static void put_digits(char *at, unsigned value, int width)
{
	for (int i = width - 1; i >= 0; i--) {
		at[i] = (char)('0' + value % 10);
		value /= 10;
	}
}

char *clock_format(int64_t us, char text[static CLOCK_TEXT_SIZE])
{
	us = us < 0 ? 0 : us > LAST_US ? LAST_US : us;
	unsigned ms = (unsigned)(us / US_PER_MS % 1000);
	int64_t seconds = us / US_PER_S;
	unsigned of_day = (unsigned)(seconds % DAY_S);

	unsigned days = (unsigned)(seconds / DAY_S) + 719468; /* since 0000-03-01 */
	unsigned era = days / 146097;
	unsigned day_of_era = days - era * 146097;
	unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	unsigned month_from_march = (5 * day_of_year + 2) / 153;
	unsigned day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
	unsigned month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
	unsigned year = year_of_era + era * 400 + (month <= 2);

	memcpy(text, "0000-00-00T00:00:00.000Z", sizeof("0000-00-00T00:00:00.000Z"));
	put_digits(text, year, 4);
	put_digits(text + 5, month, 2);
	put_digits(text + 8, day, 2);
	put_digits(text + 11, of_day / 3600, 2);
	put_digits(text + 14, of_day / 60 % 60, 2);
	put_digits(text + 17, of_day % 60, 2);
	put_digits(text + 20, ms, 3);
	return text;
}

static int64_t days_from_civil(unsigned year, unsigned month, unsigned day)
{
	year -= month <= 2;
	unsigned era = year / 400;
	unsigned year_of_era = year - era * 400;
	unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
	unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
	return (int64_t)era * 146097 + (int64_t)day_of_era - 719468;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
	static const unsigned char days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
	return days[month - 1] + (month == 2 && leap);
}

/* Takes exactly `width` digits and the character after them (none when it is 0) off the front of *text. */
static bool take_number(struct bytes *text, size_t width, char after, unsigned *ret_value)
{
	size_t len = width + (after != 0);
	if (text->len < len || (after != 0 && text->data[width] != after))
		return false;
	unsigned value = 0;
	for (size_t i = 0; i < width; i++) {
		if (text->data[i] < '0' || text->data[i] > '9')
			return false;
		value = value * 10 + (unsigned)(text->data[i] - '0');
	}
	text->data += len;
	text->len -= len;
	*ret_value = value;
	return true;
}

/* Digits after the point; what is finer than a microsecond is dropped. */
static bool take_fraction(struct bytes *text, int64_t *ret_us)
{
	*ret_us = 0;
	if (text->len == 0 || text->data[0] != '.')
		return true;
	size_t i = 1;
	int64_t unit = US_PER_S / 10;
	for (; i < text->len && text->data[i] >= '0' && text->data[i] <= '9'; i++) {
		*ret_us += (text->data[i] - '0') * unit;
		unit /= 10;
	}
	text->data += i;
	text->len -= i;
	return i > 1;
}

/* "Z", or "+hh:mm" and "-hh:mm" as seconds east of UTC; it must be all that is left. */
static bool take_offset(struct bytes text, int64_t *ret_seconds)
{
	*ret_seconds = 0;
	if (text.len == 1)
		return text.data[0] == 'Z' || text.data[0] == 'z';
	if (text.len != 6 || (text.data[0] != '+' && text.data[0] != '-'))
		return false;
	bool west = text.data[0] == '-';
	unsigned hours, minutes;
	text.data++;
	text.len--;
	if (!take_number(&text, 2, ':', &hours) || !take_number(&text, 2, 0, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_seconds = (west ? -1 : 1) * (int64_t)(hours * 3600 + minutes * 60);
	return true;
}

bool clock_parse(struct bytes text, int64_t *ret_us)
{
	unsigned year, month, day, hour, minute, second;
	int64_t fraction, offset;
	if (!take_number(&text, 4, '-', &year) || !take_number(&text, 2, '-', &month) ||
		!take_number(&text, 2, 0, &day) || text.len == 0 || (text.data[0] != 'T' && text.data[0] != 't'))
		return false;
	text.data++;
	text.len--;
	if (!take_number(&text, 2, ':', &hour) || !take_number(&text, 2, ':', &minute) ||
		!take_number(&text, 2, 0, &second) || !take_fraction(&text, &fraction) || !take_offset(text, &offset))
		return false;
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 ||
		minute > 59 || second > 60)
		return false;
	int64_t to_minute = days_from_civil(year, month, day) * DAY_S + hour * 3600 + minute * 60 - offset;
	/* A leap second is the last of a UTC day; on this time scale it is the first of the next. */
	if (second == 60 && (to_minute + 60) % DAY_S != 0)
		return false;
	int64_t us = (to_minute + second) * US_PER_S + fraction;
	if (us < 0 || us > LAST_US)
		return false;
	*ret_us = us;
	return true;
}
