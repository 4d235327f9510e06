#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define CHUNK 4096

static int read_all(int fd, const char *path, size_t max, struct buffer *buffer, struct err *err)
{
	size_t start = buffer->len;
	for (;;) {
		char *room = buffer_reserve(buffer, CHUNK);
		if (!room)
			return err_set(err, -ENOMEM, "%s: no memory for its content", path);
		ssize_t got = read(fd, room, CHUNK);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_set(err, -errno, "%s: %s", path, strerror(errno));
		if (got == 0)
			return 0;
		buffer->len += (size_t)got;
		if (buffer->len - start > max)
			return err_set(err, -EFBIG, "%s: more than %zu bytes", path, max);
	}
}

int file_read(const char *path, size_t max, struct buffer *buffer, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	int rc = read_all(fd, path, max, buffer, err);
	close(fd);
	return rc;
}
