#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* Copies what was printed; where it had to be cut, no character is left in halves. */
static void message_take(struct err *err, const char *text, int length)
{
	size_t len = length < 0 ? 0 : (size_t)length;
	if (len >= sizeof(err->message)) {
		len = sizeof(err->message) - 1;
		size_t whole = utf8_valid_prefix((struct bytes){ text, len });
		if (len - whole < 4)
			len = whole;
	}
	memcpy(err->message, text, len);
	err->message[len] = '\0';
}

int err_set(struct err *err, int code, const char *format, ...)
{
	if (!err)
		return code;
	/* Printed aside first: an argument may be the message that is replaced. */
	char text[sizeof(err->message)] = "";
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	err->code = code;
	message_take(err, text, length);
	return code;
}

int err_prefix(struct err *err, const char *format, ...)
{
	if (!err)
		return 0;
	char text[sizeof(err->message)] = "", both[2 * sizeof(err->message) + 2];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	int length = snprintf(both, sizeof(both), "%s: %s", text, err->message);
	message_take(err, both, length);
	return err->code;
}
