/* Quantities are computed exactly: the digits as one large integer, times the suffix, divided by the powers
 * of ten behind the point with what remains remembered, so that rounding up is right to the last byte. The
 * length of a text is bounded, and with it the integer: 64 digits (213 bits), times 2^60 or 10^45. */
#include "base/quantity.h"

#include <errno.h>
#include <stdbool.h>

#define LONGEST_TEXT 64
#define LIMBS 16 /* of 32 bits */
#define LARGEST_EXPONENT 40
#define SMALLEST_EXPONENT (-200)

struct number {
	uint32_t limbs[LIMBS]; /* least significant first */
};

static void number_multiply_add(struct number *number, uint32_t factor, uint32_t more)
{
	uint64_t carry = more;
	for (int i = 0; i < LIMBS; i++) {
		carry += (uint64_t)number->limbs[i] * factor;
		number->limbs[i] = (uint32_t)carry;
		carry >>= 32;
	}
}

/* Divides by ten; true when something remained. */
static bool number_divide_by_ten(struct number *number)
{
	uint64_t rest = 0;
	for (int i = LIMBS - 1; i >= 0; i--) {
		rest = rest << 32 | number->limbs[i];
		number->limbs[i] = (uint32_t)(rest / 10);
		rest %= 10;
	}
	return rest != 0;
}

static bool number_is_zero(const struct number *number)
{
	uint32_t any = 0;
	for (int i = 0; i < LIMBS; i++)
		any |= number->limbs[i];
	return any == 0;
}

/* False when it does not fit. */
static bool number_to_int(const struct number *number, int64_t *ret_value)
{
	for (int i = 2; i < LIMBS; i++)
		if (number->limbs[i])
			return false;
	uint64_t value = (uint64_t)number->limbs[1] << 32 | number->limbs[0];
	if (value > INT64_MAX)
		return false;
	*ret_value = (int64_t)value;
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The suffix as a power of 1024 and a power of ten; the decimal exponent comes as the second. */
static bool parse_suffix(struct bytes suffix, int *ret_binary, int *ret_decimal)
{
	static const struct {
		const char *text;
		int binary, decimal;
	} suffixes[] = { { "", 0, 0 }, { "Ki", 1, 0 }, { "Mi", 2, 0 }, { "Gi", 3, 0 }, { "Ti", 4, 0 }, { "Pi", 5, 0 },
		{ "Ei", 6, 0 }, { "n", 0, -9 }, { "u", 0, -6 }, { "m", 0, -3 }, { "k", 0, 3 }, { "M", 0, 6 },
		{ "G", 0, 9 }, { "T", 0, 12 }, { "P", 0, 15 }, { "E", 0, 18 } };
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		if (bytes_is(suffix, suffixes[i].text)) {
			*ret_binary = suffixes[i].binary;
			*ret_decimal = suffixes[i].decimal;
			return true;
		}
	}
	if (suffix.data[0] != 'e' && suffix.data[0] != 'E')
		return false;
	size_t i = 1;
	bool negative = suffix.len > 1 && suffix.data[1] == '-';
	if (suffix.len > 1 && (suffix.data[1] == '-' || suffix.data[1] == '+'))
		i++;
	if (i == suffix.len)
		return false;
	int exponent = 0;
	for (; i < suffix.len; i++) {
		if (!is_digit(suffix.data[i]))
			return false;
		if (exponent < 1000) /* beyond that it is past every bound anyway */
			exponent = exponent * 10 + (suffix.data[i] - '0');
	}
	*ret_binary = 0;
	*ret_decimal = negative ? -exponent : exponent;
	return true;
}

/* ceil(text * 10^scale) */
static int parse(struct bytes text, int scale, int64_t *ret_value, struct err *err)
{
	int shown = text.len > 64 ? 64 : (int)text.len;
	if (text.len == 0)
		return err_set(err, -EINVAL, "a quantity must not be empty");
	if (text.len > LONGEST_TEXT)
		return err_set(err, -EINVAL, "a quantity has at most %d characters", LONGEST_TEXT);
	size_t i = 0;
	bool negative = text.data[0] == '-';
	if (text.data[0] == '-' || text.data[0] == '+')
		i++;
	struct number number = { 0 };
	int digits = 0, exponent = scale, binary, decimal;
	bool point = false;
	for (; i < text.len && (is_digit(text.data[i]) || (text.data[i] == '.' && !point)); i++) {
		if (text.data[i] == '.') {
			point = true;
			continue;
		}
		number_multiply_add(&number, 10, (uint32_t)(text.data[i] - '0'));
		digits++;
		exponent -= point;
	}
	if (digits == 0 || !parse_suffix((struct bytes){ text.data + i, text.len - i }, &binary, &decimal))
		return err_set(err, -EINVAL, "'%.*s' is not a quantity such as 512Mi, 500m or 2.5", shown, text.data);
	if (number_is_zero(&number)) {
		*ret_value = 0;
		return 0;
	}
	if (negative)
		return err_set(err, -ERANGE, "the quantity '%.*s' is negative", shown, text.data);
	exponent += decimal;
	if (exponent > LARGEST_EXPONENT)
		return err_set(err, -ERANGE, "the quantity '%.*s' is too large", shown, text.data);
	for (int n = 0; n < binary; n++)
		number_multiply_add(&number, 1024, 0);
	for (int n = 0; n < exponent; n++)
		number_multiply_add(&number, 10, 0);
	bool remains = false;
	/* Below the smallest exponent everything but the remainder is gone already. */
	for (int n = exponent < SMALLEST_EXPONENT ? SMALLEST_EXPONENT : exponent; n < 0; n++)
		remains |= number_divide_by_ten(&number);
	if (remains)
		number_multiply_add(&number, 1, 1);
	if (!number_to_int(&number, ret_value))
		return err_set(err, -ERANGE, "the quantity '%.*s' is too large", shown, text.data);
	return 0;
}

int quantity_bytes(struct bytes text, int64_t *ret_bytes, struct err *err)
{
	return parse(text, 0, ret_bytes, err);
}

int quantity_millis(struct bytes text, int64_t *ret_millis, struct err *err)
{
	return parse(text, 3, ret_millis, err);
}
