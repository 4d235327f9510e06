#include "executor/kubernetes/key.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/text.h"
#include "base/write_all.h"

#define LEAST 16 /* characters of one that is set */

int kube_key_check(const char *name, const char *key, struct err *err)
{
	if (!key || !key[0] || strlen(key) >= LEAST)
		return 0;
	return err_set(err, -EINVAL, "%s: a key has at least %d characters", name, LEAST);
}

static int key_read(const char *path, uint8_t *ret_key, struct err *err)
{
	struct buffer key = { 0 };
	int result = file_read(path, KUBE_KEY_SIZE, &key, err);
	if (result == 0 && key.len != KUBE_KEY_SIZE)
		result = err_set(err, -EINVAL, "%s: not a key of %d bytes", path, KUBE_KEY_SIZE);
	if (result == 0)
		memcpy(ret_key, key.data, key.len);
	buffer_fini(&key);
	return result;
}

/* Whole, and never in the place of another's. */
static int key_make(const char *path, const uint8_t *key, struct err *err)
{
	char made[PATH_MAX + 16];
	snprintf(made, sizeof(made), "%s.%ld", path, (long)getpid());
	int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, -errno, "%s: %s", made, strerror(errno));
	int result = write_all(fd, key, KUBE_KEY_SIZE);
	if (result == 0 && (fsync(fd) < 0 || (link(made, path) < 0 && errno != EEXIST)))
		result = -errno;
	close(fd);
	unlink(made);
	return result < 0 ? err_set(err, result, "%s: %s", path, strerror(-result)) : 0;
}

int kube_key_keep(const char *directory, uint8_t ret_key[static KUBE_KEY_SIZE], struct err *err)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/attempt.key", directory);
	int result = key_read(path, ret_key, err);
	if (result != -ENOENT)
		return result;
	random_bytes(ret_key, KUBE_KEY_SIZE);
	if (directory_make(directory, err) < 0 || key_make(path, ret_key, err) < 0)
		return 1;
	return key_read(path, ret_key, err);
}
