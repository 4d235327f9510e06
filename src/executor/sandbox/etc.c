/* Made once at start and bound read-only into every sandbox; made again when packages came or went (the loader's cache
 * or the alternatives changed). What is copied is what interpreters and compilers read there, and only what everybody
 * may read: a short list, not a search. */
#include "executor/sandbox/etc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

#define FILE_MAX (4 << 20)
#define DEPTH_MAX 6

static const struct {
	const char *name, *text;
} own_files[] = {
	{ "passwd", "root:x:0:0:root:/:/bin/false\n"
		    "user:x:1000:1000:user:/box/home:/bin/sh\n"
		    "nobody:x:65534:65534:nobody:/:/bin/false\n" },
	{ "group", "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n" },
	{ "hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n" },
	{ "hostname", "sandbox\n" },
	{ "nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n" },
	{ "resolv.conf", "" },
};

/* Patterns below /etc. */
static const char *const copied[] = { "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime",
	"timezone", "mime.types", "services", "protocols", "java-*", "php", "perl", "python3*", "lua", "ghc", "R" };

static int write_own(int directory, const char *name, const char *text)
{
	int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	size_t len = strlen(text);
	int rc = write(fd, text, len) == (ssize_t)len ? fchmod(fd, 0644) : -1;
	rc = rc < 0 ? -errno : 0;
	close(fd);
	return rc;
}

/* A new file takes the old one's place, since sandboxes may be reading that. */
static void copy_file(const char *from, int directory, const char *name, const struct stat *st)
{
	char temporary[300];
	snprintf(temporary, sizeof(temporary), ".new-%.280s", name);
	int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int out = in < 0 ? -1 : openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	char buffer[65536];
	ssize_t n = -1;
	while (out >= 0 && (n = read(in, buffer, sizeof(buffer))) > 0)
		if (write(out, buffer, (size_t)n) != n) {
			n = -1;
			break;
		}
	if (n == 0) {
		const struct timespec times[] = { st->st_atim, st->st_mtim };
		fchmod(out, 0644);
		futimens(out, times);
		renameat(directory, temporary, directory, name);
	}
	if (out >= 0)
		close(out);
	if (in >= 0)
		close(in);
}

static void copy_entry(const char *from, int directory, const char *name, int depth);

static void copy_directory(const char *from, int directory, const char *name, const struct stat *st, int depth)
{
	DIR *dir = depth < DEPTH_MAX ? opendir(from) : NULL;
	if (!dir)
		return;
	if (mkdirat(directory, name, 0755) < 0 && errno != EEXIST) {
		closedir(dir);
		return;
	}
	int below = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *entry;
	while (below >= 0 && (entry = readdir(dir))) {
		char path[1024];
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
			snprintf(path, sizeof(path), "%s/%s", from, entry->d_name) >= (int)sizeof(path))
			continue;
		copy_entry(path, below, entry->d_name, depth + 1);
	}
	if (below >= 0) {
		const struct timespec times[] = { st->st_atim, st->st_mtim };
		fchmod(below, 0755);
		futimens(below, times);
		close(below);
	}
	closedir(dir);
}

static void copy_entry(const char *from, int directory, const char *name, int depth)
{
	struct stat st;
	if (lstat(from, &st) < 0)
		return;
	if (S_ISLNK(st.st_mode)) {
		char target[1024];
		ssize_t len = readlink(from, target, sizeof(target) - 1);
		if (len <= 0)
			return;
		target[len] = 0;
		unlinkat(directory, name, 0);
		if (symlinkat(target, directory, name) < 0)
			return; /* a link that is missing is a program that says so */
	} else if (S_ISDIR(st.st_mode) && (st.st_mode & 0005) == 0005) {
		copy_directory(from, directory, name, &st, depth);
	} else if (S_ISREG(st.st_mode) && (st.st_mode & 0004) && st.st_size <= FILE_MAX) {
		copy_file(from, directory, name, &st);
	}
}

int etc_build(const char *directory, struct err *err)
{
	if (mkdir(directory, 0755) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make %.150s: %s", directory, strerror(errno));
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, "cannot open %.150s: %s", directory, strerror(errno));
	int rc = fchmod(fd, 0755) < 0 ? -errno : 0;
	for (size_t i = 0; i < ARRAY_SIZE(own_files) && rc == 0; i++)
		rc = write_own(fd, own_files[i].name, own_files[i].text);
	for (size_t i = 0; i < ARRAY_SIZE(copied) && rc == 0; i++) {
		char pattern[64];
		glob_t found = { 0 };
		snprintf(pattern, sizeof(pattern), "/etc/%s", copied[i]);
		if (glob(pattern, 0, NULL, &found) == 0)
			for (size_t k = 0; k < found.gl_pathc; k++)
				copy_entry(found.gl_pathv[k], fd, found.gl_pathv[k] + sizeof("/etc/") - 1, 0);
		globfree(&found);
	}
	close(fd);
	return rc < 0 ? err_set(err, rc, "cannot fill %.150s: %s", directory, strerror(-rc)) : 0;
}

static bool differs(const char *directory, const char *name)
{
	char path[512], ours[512];
	struct stat a, b;
	snprintf(path, sizeof(path), "/etc/%s", name);
	snprintf(ours, sizeof(ours), "%.400s/%s", directory, name);
	if (stat(path, &a) < 0)
		return false;
	return stat(ours, &b) < 0 || a.st_mtim.tv_sec != b.st_mtim.tv_sec || a.st_mtim.tv_nsec != b.st_mtim.tv_nsec;
}

bool etc_is_stale(const char *directory)
{
	return differs(directory, "ld.so.cache") || differs(directory, "alternatives");
}
