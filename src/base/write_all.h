/* write(2) until all is written. Header only: the static programs have it, too. */
#ifndef ASSAY_BASE_WRITE_ALL_H
#define ASSAY_BASE_WRITE_ALL_H

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

/* 0 or a negative errno: then a part of it may be written. It blocks as the descriptor does. */
static inline int write_all(int fd, const void *data, size_t len)
{
	for (const char *at = data; len > 0;) {
		ssize_t n = write(fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

#endif
