/* Lays files out and packs them up again, inside the sandbox, with the rights of the code that runs there. What is packed was made by
 * that code (its processes are dead by then, so nothing changes underneath) and may be anything: deep, wide, links to anywhere. Nothing
 * here follows a link in the last part of a path; what an earlier part leads to is inside the same sandbox. */
#include <errno.h>

#include "launch/launch.h"
#include "launch/sys.h"

static int make_parents(int directory, char *path)
{
	for (char *at = path + 1; *path && *at; at++) {
		if (*at != '/')
			continue;
		*at = 0;
		int rc = sys_mkdirat(directory, path, 0755);
		*at = '/';
		if (rc < 0 && rc != -EEXIST)
			return rc;
	}
	return 0;
}

static int write_all(int fd, const char *data, uint64_t len)
{
	while (len > 0) {
		long n = sys_write(fd, data, len);
		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		data += n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int unpack_entry(int directory, const struct archive_entry *entry, char *path, const char *content)
{
	int rc = make_parents(directory, path);
	if (rc < 0)
		return rc;
	if (entry->type == ARCHIVE_DIRECTORY) {
		rc = sys_mkdirat(directory, path, 0755);
		return rc == -EEXIST ? 0 : rc;
	}
	rc = sys_unlinkat(directory, path, 0);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (entry->type == ARCHIVE_LINK) {
		char target[ARCHIVE_PATH_MAX + 1];
		if (entry->content_len > ARCHIVE_PATH_MAX)
			return -ENAMETOOLONG;
		memcpy(target, content, entry->content_len);
		target[entry->content_len] = 0;
		return (int)SYS_3(SYS_symlinkat, target, directory, path);
	}
	int fd = sys_openat(directory, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return fd;
	rc = write_all(fd, content, entry->content_len);
	if (rc == 0 && entry->executable)
		rc = (int)SYS_2(SYS_fchmod, fd, 0755);
	sys_close(fd);
	return rc;
}

int archive_unpack(int directory, const char *archive, size_t len, uint32_t count, const char **ret_where)
{
	static char path[ARCHIVE_PATH_MAX + 1];
	*ret_where = path;
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
	int fd = sys_openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0);
	if (fd < 0)
		return fd == -EACCES ? 0 : fd; /* made unreadable by its owner: it is not wanted */
	int rc = sys_fstat(fd, &st);
	if (rc == 0)
		rc = pack_head(packer, ARCHIVE_FILE, (st.st_mode & 0111) != 0, path_len, (uint64_t)st.st_size);
	for (off_t done = 0; rc == 0 && done < st.st_size;) {
		long n = SYS_4(SYS_sendfile, packer->fd, fd, 0, st.st_size - done);
		if (n <= 0)
			rc = n < 0 ? (int)n : -EIO;
		else
			done += n;
	}
	sys_close(fd);
	return rc;
}

static int pack_directory(struct packer *packer, int fd, size_t prefix, int depth, const char *skip);

static int pack_link(struct packer *packer, int directory, const char *name, size_t path_len)
{
	char target[ARCHIVE_PATH_MAX + 1];
	long n = SYS_4(SYS_readlinkat, directory, name, target, sizeof(target));
	if (n < 0 || n > ARCHIVE_PATH_MAX)
		return n < 0 ? (int)n : -E2BIG;
	int rc = pack_head(packer, ARCHIVE_LINK, false, path_len, (uint64_t)n);
	return rc < 0 ? rc : write_all(packer->fd, target, (uint64_t)n);
}

static int pack_entry(struct packer *packer, int directory, const char *name, size_t prefix, int depth)
{
	struct stat st;
	size_t len = strlen(name);
	if (prefix + len + 1 > ARCHIVE_PATH_MAX || depth > ARCHIVE_DEPTH_MAX)
		return -E2BIG;
	int rc = sys_lstatat(directory, name, &st);
	if (rc < 0)
		return rc;
	memcpy(packer->path + prefix, name, len);
	if (S_ISREG(st.st_mode))
		return pack_file(packer, directory, name, prefix + len);
	if (S_ISLNK(st.st_mode))
		return pack_link(packer, directory, name, prefix + len);
	if (!S_ISDIR(st.st_mode))
		return 0; /* sockets and pipes are of no use to a later run */
	rc = pack_head(packer, ARCHIVE_DIRECTORY, false, prefix + len, 0);
	if (rc < 0)
		return rc;
	int fd = sys_openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	if (fd < 0)
		return fd == -EACCES ? 0 : fd;
	packer->path[prefix + len] = '/';
	return pack_directory(packer, fd, prefix + len + 1, depth + 1, NULL);
}

/* Closes fd. */
static int pack_directory(struct packer *packer, int fd, size_t prefix, int depth, const char *skip)
{
	struct sys_directory list;
	const char *name;
	int rc = 0;
	list.fd = fd;
	list.len = list.at = 0;
	while (rc == 0 && (name = sys_directory_next(&list)))
		if (!skip || !text_equal(name, skip))
			rc = pack_entry(packer, fd, name, prefix, depth);
	sys_close(fd);
	return rc;
}

int archive_pack(int directory, const char *skip, int fd, uint64_t max)
{
	static struct packer packer;
	packer.fd = fd;
	packer.left = max;
	int copy = sys_openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	return copy < 0 ? copy : pack_directory(&packer, copy, 0, 0, skip);
}

/* Removes what is in the directory `name`, except directories that are not empty: those are moved up into `directory`. */
static bool flatten(int directory, const char *name, unsigned *serial)
{
	struct sys_directory list;
	const char *child;
	bool moved = false;
	SYS_3(SYS_fchmodat, directory, name, 0700);
	list.fd = sys_openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
	list.len = list.at = 0;
	if (list.fd < 0)
		return false;
	while ((child = sys_directory_next(&list))) {
		char up[64] = ".assay-";
		if (sys_unlinkat(list.fd, child, 0) == 0)
			continue;
		SYS_3(SYS_fchmodat, list.fd, child, 0700);
		text_append_number(up, sizeof(up), (uint64_t)sys_getpid());
		text_append(up, sizeof(up), "-");
		text_append_number(up, sizeof(up), (*serial)++);
		moved = SYS_4(SYS_renameat, list.fd, child, directory, up) == 0 || moved;
	}
	sys_close(list.fd);
	return sys_unlinkat(directory, name, AT_REMOVEDIR) == 0 || moved;
}

/* The tree may be deeper than the process may have descriptors: what is found below is first moved up, then emptied in its turn, so
 * that only two levels are open at a time. */
void tree_empty(int directory)
{
	unsigned serial = 0;
	bool again = true;
	while (again) {
		struct sys_directory list;
		const char *name;
		again = false;
		list.fd = sys_openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
		list.len = list.at = 0;
		if (list.fd < 0)
			return;
		while ((name = sys_directory_next(&list)))
			if (sys_unlinkat(directory, name, 0) < 0 && sys_unlinkat(directory, name, AT_REMOVEDIR) < 0)
				again = flatten(directory, name, &serial) || again;
		sys_close(list.fd);
	}
}
