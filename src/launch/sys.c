/* The few functions that a program without a C library has to bring along. Slow and plain: what they touch is short, except file contents,
 * which the kernel copies. */
#include "launch/sys.h"

struct dirent64 { /* getdents64(2) */
	uint64_t ino;
	int64_t offset;
	uint16_t record_len;
	uint8_t type;
	char name[];
};

void *memcpy(void *restrict to, const void *restrict from, size_t len)
{
	char *t = to;
	const char *f = from;
	while (len-- > 0)
		*t++ = *f++;
	return to;
}

void *memmove(void *to, const void *from, size_t len)
{
	char *t = to;
	const char *f = from;
	if (t < f)
		return memcpy(to, from, len);
	while (len-- > 0)
		t[len] = f[len];
	return to;
}

void *memset(void *to, int byte, size_t len)
{
	char *t = to;
	while (len-- > 0)
		*t++ = (char)byte;
	return to;
}

int memcmp(const void *a, const void *b, size_t len)
{
	const unsigned char *x = a, *y = b;
	for (; len > 0; len--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

size_t strlen(const char *text)
{
	size_t len = 0;
	while (text[len])
		len++;
	return len;
}

bool text_equal(const char *a, const char *b)
{
	size_t len = strlen(a);
	return strlen(b) == len && memcmp(a, b, len) == 0;
}

void text_append(char *to, size_t size, const char *more)
{
	size_t at = strlen(to);
	while (at + 1 < size && *more)
		to[at++] = *more++;
	to[at] = 0;
}

void text_append_number(char *to, size_t size, uint64_t number)
{
	char digits[24];
	size_t at = sizeof(digits) - 1;
	digits[at] = 0;
	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	text_append(to, size, digits + at);
}

const char *sys_directory_next(struct sys_directory *directory)
{
	for (;;) {
		if (directory->at >= directory->len) {
			directory->len =
				SYS_3(SYS_getdents64, directory->fd, directory->buffer, sizeof(directory->buffer));
			directory->at = 0;
			if (directory->len <= 0)
				return NULL;
		}
		const struct dirent64 *entry = (const struct dirent64 *)(directory->buffer + directory->at);
		directory->at += entry->record_len;
		if (!text_equal(entry->name, ".") && !text_equal(entry->name, ".."))
			return entry->name;
	}
}
