/* Texts to values, by the type of a setting. */
#include "base/setting.h"

#include <errno.h>
#include <inttypes.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/quantity.h"
#include "base/text.h"

#define STRING_MAX_BYTES 4096
#define LONGEST_TYPED 64 /* of names that are compared */

static int out_of_bounds(const struct setting *setting, const char *unit, struct err *err)
{
	if (setting->max > 0)
		return err_set(err, -ERANGE, "must be between %" PRId64 " and %" PRId64 "%s", setting->min,
			setting->max, unit);
	return err_set(err, -ERANGE, "must be at least %" PRId64 "%s", setting->min, unit);
}

static bool within(const struct setting *setting, int64_t value)
{
	return value >= setting->min && (setting->max == 0 || value <= setting->max);
}

static int parse_string(
	const struct setting *setting, struct bytes text, const char **ret, struct arena *arena, struct err *err)
{
	int64_t most = setting->max > 0 ? setting->max : STRING_MAX_BYTES;
	if (memchr(text.data, '\0', text.len))
		return err_set(err, -EINVAL, "must not contain a zero byte");
	if (text.len > (uint64_t)most)
		return err_set(err, -ERANGE, "must have at most %" PRId64 " bytes", most);
	if ((int64_t)text.len < setting->min)
		return err_set(err, -ERANGE, setting->min == 1 ? "must not be empty" : "is too short");
	*ret = arena_bytes(arena, text).data;
	return 0;
}

static int parse_int(const struct setting *setting, struct bytes text, int64_t *ret, struct err *err)
{
	int64_t value;
	if (!text_to_int(text, INT64_MIN, INT64_MAX, &value))
		return err_set(err, -EINVAL, "'%.*s' is not a whole number", (int)text.len, text.data);
	if (!within(setting, value))
		return out_of_bounds(setting, "", err);
	*ret = value;
	return 0;
}

static int parse_bool(struct bytes text, bool *ret, struct err *err)
{
	static const char *const words[][2] = { { "false", "true" }, { "no", "yes" }, { "off", "on" }, { "0", "1" } };
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		for (int value = 0; value <= 1; value++) {
			if (text_equal_ignore_case(text, bytes_of(words[i][value]))) {
				*ret = value;
				return 0;
			}
		}
	}
	return err_set(err, -EINVAL, "'%.*s' is neither true nor false", (int)text.len, text.data);
}

/* A decimal number and a unit, in microseconds; what is finer is dropped. */
static bool duration_us(struct bytes text, int64_t *ret_us)
{
	static const struct {
		const char *text;
		int64_t us;
	} units[] = { { "", US_PER_S }, { "s", US_PER_S }, { "ms", US_PER_MS }, { "m", 60 * US_PER_S },
		{ "h", 3600 * US_PER_S }, { "d", 86400 * US_PER_S } };
	size_t i = 0, digits = 0;
	int64_t whole = 0, unit = 0;
	bool negative = text.len > 0 && text.data[0] == '-';
	for (i = negative; i < text.len && text.data[i] >= '0' && text.data[i] <= '9'; i++, digits++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
			__builtin_add_overflow(whole, text.data[i] - '0', &whole))
			return false;
	size_t point = i;
	if (i < text.len && text.data[i] == '.')
		for (i++; i < text.len && text.data[i] >= '0' && text.data[i] <= '9'; i++)
			digits++;
	struct bytes rest = { text.data + i, text.len - i };
	for (size_t n = 0; n < ARRAY_SIZE(units); n++)
		if (bytes_is(rest, units[n].text))
			unit = units[n].us;
	if (digits == 0 || unit == 0 || __builtin_mul_overflow(whole, unit, &whole))
		return false;
	for (size_t at = point + 1; at < i && unit > 0; at++) {
		/* Every unit is a multiple of 1000 us, and a fraction's digit is worth a tenth of the one before. */
		int64_t part = (text.data[at] - '0') * unit / 10;
		unit /= 10;
		if (__builtin_add_overflow(whole, part, &whole))
			return false;
	}
	*ret_us = negative ? -whole : whole;
	return true;
}

static int parse_seconds(const struct setting *setting, struct bytes text, int64_t *ret, struct err *err)
{
	int64_t us;
	if (!duration_us(text, &us))
		return err_set(err, -EINVAL, "'%.*s' is not a duration such as 5, 0.5, 300ms, 10m or 24h",
			(int)text.len, text.data);
	/* A bound that does not fit into microseconds is none. */
	int64_t least, most;
	if ((!__builtin_mul_overflow(setting->min, US_PER_S, &least) && us < least) ||
		(setting->max > 0 && !__builtin_mul_overflow(setting->max, US_PER_S, &most) && us > most))
		return out_of_bounds(setting, " s", err);
	*ret = us;
	return 0;
}

static int parse_quantity(const struct setting *setting, struct bytes text, int64_t *ret, struct err *err)
{
	int64_t value;
	int rc = quantity_bytes(text, &value, err);
	if (rc < 0)
		return rc;
	if (!within(setting, value))
		return out_of_bounds(setting, " bytes", err);
	*ret = value;
	return 0;
}

static int parse_enum(const struct setting *setting, struct bytes text, int *ret, struct err *err)
{
	for (int i = 0; setting->words[i]; i++) {
		if (bytes_is(text, setting->words[i])) {
			*ret = i;
			return 0;
		}
	}
	struct arena arena = { 0 };
	err_set(err, -EINVAL, "'%.*s' is not one of %s", (int)text.len, text.data, setting_value_name(setting, &arena));
	arena_fini(&arena);
	return -EINVAL;
}

static int parse_list(const struct setting *setting, struct bytes text, struct setting_list *ret, struct arena *arena,
	struct err *err)
{
	size_t count = 0;
	text = text_trim(text);
	for (size_t i = 0; i < text.len; i++)
		count += text.data[i] == ',';
	count += text.len > 0;
	if (!within(setting, (int64_t)count))
		return out_of_bounds(setting, " items", err);
	const char **items = arena_array(arena, count, sizeof(*items));
	for (size_t i = 0; i < count; i++) {
		const char *comma = memchr(text.data, ',', text.len);
		size_t len = comma ? (size_t)(comma - text.data) : text.len;
		struct bytes item = text_trim((struct bytes){ text.data, len });
		if (item.len == 0)
			return err_set(err, -EINVAL, "item %zu of the list is empty", i + 1);
		if (memchr(item.data, '\0', item.len))
			return err_set(err, -EINVAL, "must not contain a zero byte");
		items[i] = arena_bytes(arena, item).data;
		text.data += comma ? len + 1 : len;
		text.len -= comma ? len + 1 : len;
	}
	*ret = (struct setting_list){ items, count };
	return 0;
}

static int parse(const struct setting *setting, struct bytes text, void *member, struct arena *arena, struct err *err)
{
	switch (setting->type) {
	case SETTING_STRING:
		return parse_string(setting, text, member, arena, err);
	case SETTING_INT:
		return parse_int(setting, text, member, err);
	case SETTING_BOOL:
		return parse_bool(text, member, err);
	case SETTING_SECONDS:
		return parse_seconds(setting, text, member, err);
	case SETTING_BYTES:
		return parse_quantity(setting, text, member, err);
	case SETTING_ENUM:
		return parse_enum(setting, text, member, err);
	case SETTING_LIST:
		return parse_list(setting, text, member, arena, err);
	}
	return err_set(err, -EINVAL, "has no type");
}

int setting_parse(const struct setting *setting, struct bytes text, void *target, struct arena *arena, struct err *err)
{
	int rc = parse(setting, text, (char *)target + setting->offset, arena, err);
	if (rc < 0 && setting->secret)
		err_set(err, rc, "is not valid");
	return rc;
}

const char *setting_value_name(const struct setting *setting, struct arena *arena)
{
	if (setting->value_name)
		return setting->value_name;
	switch (setting->type) {
	case SETTING_STRING:
		return "TEXT";
	case SETTING_INT:
		return "NUMBER";
	case SETTING_BOOL:
		return "";
	case SETTING_SECONDS:
		return "SECONDS";
	case SETTING_BYTES:
		return "BYTES";
	case SETTING_LIST:
		return "A,B,...";
	case SETTING_ENUM:
		break;
	}
	const char *words = setting->words[0];
	for (int i = 1; words && setting->words[i]; i++)
		words = arena_printf(arena, "%s|%s", words, setting->words[i]);
	return words ? words : "";
}

/* Names are compared without regard to case, and a dash is an underscore. */
static char folded(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c + ('a' - 'A'));
	return c == '-' ? '_' : c;
}

/* How many characters must be put in, left out or replaced to make one of the other (Levenshtein). */
static size_t distance(struct bytes a, const char *to)
{
	struct bytes b = bytes_of(to);
	size_t row[LONGEST_TYPED + 1];
	if (!to || b.len > LONGEST_TYPED || a.len > LONGEST_TYPED)
		return SIZE_MAX;
	for (size_t j = 0; j <= b.len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a.len; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b.len; j++) {
			size_t replaced = diagonal + (folded(a.data[i - 1]) != folded(b.data[j - 1]));
			size_t put_in = row[j - 1] + 1, left_out = row[j] + 1;
			diagonal = row[j];
			row[j] = replaced < put_in ? replaced : put_in;
			row[j] = row[j] < left_out ? row[j] : left_out;
		}
	}
	return row[b.len];
}

const struct setting *setting_nearest(const struct setting *settings, size_t count, struct bytes typed)
{
	const struct setting *nearest = NULL;
	size_t least = typed.len / 3 + 1; /* the first distance that is too far */
	least = least < 2 ? 2 : least;
	for (size_t i = 0; i < count; i++) {
		const char *const names[] = { settings[i].name, settings[i].flag, settings[i].env };
		for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
			size_t far = distance(typed, names[n]);
			if (far < least) {
				least = far;
				nearest = &settings[i];
			}
		}
	}
	return nearest;
}
