/* Lays files out and packs them up again, inside the sandbox, with the rights of the code that runs there. What is
 * packed was made by that code (its processes are dead by then, so nothing changes underneath) and may be anything:
 * deep, wide, links to anywhere. Nothing here follows a link in the last part of a path; what an earlier part leads to
 * is inside the same sandbox. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/write_all.h"
#include "launch/archive.h"

/* Takes away what stands at `path`, be it a whole tree. */
static int clear_the_way(int directory, const char *path)
{
	if (unlinkat(directory, path, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	int below = openat(directory, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (below < 0)
		return -errno;
	tree_empty(below);
	close(below);
	return unlinkat(directory, path, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/* A directory at `path`; in place of anything else that stands there, a link to a directory included. */
static int make_directory(int directory, const char *path)
{
	struct stat st;
	if (mkdirat(directory, path, 0755) == 0)
		return 0;
	if (errno != EEXIST || fstatat(directory, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return 0;
	return unlinkat(directory, path, 0) < 0 || mkdirat(directory, path, 0755) < 0 ? -errno : 0;
}

static int make_parents(int directory, char *path)
{
	for (char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		int rc = make_directory(directory, path);
		*slash = '/';
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int unpack_entry(int directory, const struct archive_entry *entry, char *path, const char *content)
{
	int rc = make_parents(directory, path);
	if (rc < 0)
		return rc;
	if (entry->type == ARCHIVE_DIRECTORY)
		return make_directory(directory, path);
	rc = clear_the_way(directory, path);
	if (rc < 0)
		return rc;
	if (entry->type == ARCHIVE_LINK) {
		char target[ARCHIVE_PATH_MAX + 1];
		if (entry->content_len > ARCHIVE_PATH_MAX)
			return -ENAMETOOLONG;
		memcpy(target, content, entry->content_len);
		target[entry->content_len] = 0;
		return symlinkat(target, directory, path) < 0 ? -errno : 0;
	}
	int fd = openat(directory, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, content, entry->content_len);
	if (rc == 0 && entry->executable && fchmod(fd, 0755) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

int archive_unpack(int directory, const char *archive, size_t len, uint32_t count)
{
	static char path[ARCHIVE_PATH_MAX + 1];
	for (uint32_t i = 0; i < count && !(count == UINT32_MAX && len == 0); i++) {
		struct archive_entry entry;
		if (len < sizeof(entry))
			return -EBADMSG;
		memcpy(&entry, archive, sizeof(entry));
		archive += sizeof(entry);
		len -= sizeof(entry);
		if (entry.path_len > ARCHIVE_PATH_MAX || entry.path_len > len ||
			entry.content_len > len - entry.path_len)
			return -EBADMSG;
		memcpy(path, archive, entry.path_len);
		path[entry.path_len] = 0;
		int rc = unpack_entry(directory, &entry, path, archive + entry.path_len);
		if (rc < 0)
			return rc;
		archive += entry.path_len + entry.content_len;
		len -= entry.path_len + entry.content_len;
	}
	return 0;
}

struct packer {
	int fd;
	uint64_t left; /* bytes that may still be written */
	uint32_t entries;
	char path[ARCHIVE_PATH_MAX + 1]; /* of the directory being read, with a final slash, then of the entry */
};

static int pack_head(struct packer *packer, uint8_t type, bool executable, size_t path_len, uint64_t content_len)
{
	struct archive_entry entry = {
		.type = type, .executable = executable, .path_len = (uint16_t)path_len, .content_len = content_len
	};
	uint64_t need = sizeof(entry) + path_len + content_len;
	if (need > packer->left || packer->entries++ >= ARCHIVE_ENTRIES_MAX)
		return -E2BIG;
	packer->left -= need;
	int rc = write_all(packer->fd, (const char *)&entry, sizeof(entry));
	return rc < 0 ? rc : write_all(packer->fd, packer->path, path_len);
}

static int pack_file(struct packer *packer, int directory, const char *name, size_t path_len)
{
	struct stat st;
	int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES ? 0 : -errno; /* made unreadable by its owner: it is not wanted */
	int rc = fstat(fd, &st) < 0 ? -errno : 0;
	if (rc == 0)
		rc = pack_head(packer, ARCHIVE_FILE, (st.st_mode & 0111) != 0, path_len, (uint64_t)st.st_size);
	for (off_t done = 0; rc == 0 && done < st.st_size;) {
		ssize_t n = sendfile(packer->fd, fd, NULL, (size_t)(st.st_size - done));
		if (n <= 0)
			rc = n < 0 ? -errno : -EIO;
		else
			done += n;
	}
	close(fd);
	return rc;
}

static int pack_directory(struct packer *packer, int directory, size_t prefix, int depth, const char *skip);

static int pack_entry(struct packer *packer, int directory, const char *name, size_t prefix, int depth)
{
	struct stat st;
	size_t len = strlen(name);
	if (prefix + len + 1 > ARCHIVE_PATH_MAX || depth > ARCHIVE_DEPTH_MAX)
		return -E2BIG;
	if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == EACCES ? 0 : -errno; /* in a directory that lists its entries and no more */
	if (depth == 0 && !S_ISDIR(st.st_mode) && (strcmp(name, "work") == 0 || strcmp(name, "home") == 0))
		return 0; /* the next box has these itself, and they are directories */
	memcpy(packer->path + prefix, name, len);
	if (S_ISREG(st.st_mode))
		return pack_file(packer, directory, name, prefix + len);
	if (S_ISLNK(st.st_mode)) {
		char target[ARCHIVE_PATH_MAX + 1];
		ssize_t n = readlinkat(directory, name, target, sizeof(target));
		if (n < 0 || n > ARCHIVE_PATH_MAX)
			return n < 0 ? -errno : -E2BIG;
		int rc = pack_head(packer, ARCHIVE_LINK, false, prefix + len, (uint64_t)n);
		return rc < 0 ? rc : write_all(packer->fd, target, (uint64_t)n);
	}
	if (!S_ISDIR(st.st_mode))
		return 0; /* sockets and pipes are of no use to a later run */
	int rc = pack_head(packer, ARCHIVE_DIRECTORY, false, prefix + len, 0);
	if (rc < 0)
		return rc;
	int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES ? 0 : -errno;
	packer->path[prefix + len] = '/';
	return pack_directory(packer, fd, prefix + len + 1, depth + 1, NULL);
}

/* Closes `directory`. */
static int pack_directory(struct packer *packer, int directory, size_t prefix, int depth, const char *skip)
{
	DIR *dir = fdopendir(directory);
	if (!dir) {
		int rc = -errno;
		close(directory);
		return rc;
	}
	int rc = 0;
	struct dirent *entry;
	while (rc == 0 && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (skip && strcmp(entry->d_name, skip) == 0)
			continue;
		rc = pack_entry(packer, directory, entry->d_name, prefix, depth);
	}
	closedir(dir);
	return rc;
}

int archive_pack(int directory, const char *skip, int fd, uint64_t max)
{
	static struct packer packer;
	packer.fd = fd;
	packer.left = max;
	int copy = fcntl(directory, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? -errno : pack_directory(&packer, copy, 0, 0, skip);
}

/* One level of a tree that may be deeper than the process may have descriptors: what is found below is first moved up,
 * then emptied in its turn, so that only two levels are open at a time. */
void tree_empty(int directory)
{
	unsigned serial = 0;
	bool again = true;
	while (again) {
		again = false;
		int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *dir = copy < 0 ? NULL : fdopendir(copy);
		if (!dir) {
			if (copy >= 0)
				close(copy);
			return;
		}
		struct dirent *entry;
		while ((entry = readdir(dir))) {
			const char *name = entry->d_name;
			if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || unlinkat(directory, name, 0) == 0)
				continue;
			if (unlinkat(directory, name, AT_REMOVEDIR) == 0)
				continue;
			if (fchmodat(directory, name, 0700, 0) < 0)
				continue;
			int below = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			DIR *inner = below < 0 ? NULL : fdopendir(below);
			if (!inner) {
				if (below >= 0)
					close(below);
				continue;
			}
			struct dirent *child;
			while ((child = readdir(inner))) {
				char up[64];
				if (strcmp(child->d_name, ".") == 0 || strcmp(child->d_name, "..") == 0 ||
					unlinkat(below, child->d_name, 0) == 0)
					continue;
				/* What cannot be given a mode cannot be a directory of ours, and is moved as it is. */
				int ignored = fchmodat(below, child->d_name, 0700, 0);
				(void)ignored;
				snprintf(up, sizeof(up), ".assay-%d-%u", (int)getpid(), serial++);
				if (renameat(below, child->d_name, directory, up) == 0)
					again = true;
			}
			closedir(inner);
			if (unlinkat(directory, name, AT_REMOVEDIR) == 0)
				again = true;
		}
		closedir(dir);
	}
}
