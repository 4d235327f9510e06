#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
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

int directory_make(const char *path, struct err *err)
{
	char part[PATH_MAX];
	size_t length = strlen(path);
	if (length == 0 || length >= sizeof(part))
		return err_set(err, -ENAMETOOLONG, "a directory's path is empty or too long");
	memcpy(part, path, length + 1);
	for (char *end = part + 1;; end++) {
		if (*end != '/' && *end != '\0')
			continue;
		char kept = *end;
		*end = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST) {
			int code = -errno;
			return err_set(err, code, "cannot make the directory %s: %s", part, strerror(-code));
		}
		if (kept == '\0')
			return 0;
		*end = kept;
	}
}
