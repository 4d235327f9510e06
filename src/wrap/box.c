/* See box.h. Archives are unpacked an entry at a time, and their pages given back after each, so that a large one does
 * not stay resident. Where a compile is followed by one run only, what it left just stays where it is. */
#include "wrap/box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "launch/archive.h"

#define TMPFS_TYPE 0x01021994
#define FULL_BELOW (64 << 10) /* bytes: what is left when "no space" was the answer to an ordinary write */

static int no_room(int error)
{
	return error == -EDQUOT || error == -EFBIG ? -ENOSPC : error;
}

/* A volume that was made for us may have a lost+found. */
static bool is_empty(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	bool empty = stream != NULL;
	if (!stream) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (empty && (entry = readdir(stream)))
		empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
			strcmp(entry->d_name, "lost+found") == 0;
	closedir(stream);
	return empty;
}

int box_init(struct box *box, const struct job *job)
{
	_Static_assert(sizeof(box->also_is_ours) / sizeof(bool) == sizeof(job->also) / sizeof(*job->also), "one each");
	*box = (struct box){ .job = job, .work = -1, .archive = -1 };
	box->fd = open(job->box, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (box->fd < 0)
		return -errno;
	for (size_t i = 0; i < job->also_count; i++) {
		int fd = open(job->also[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		box->also_is_ours[i] = fd >= 0 && is_empty(fd);
		if (fd >= 0)
			close(fd);
	}
	return is_empty(box->fd) ? 0 : -ENOTEMPTY;
}

/* A directory of the box, empty or as it is; whatever else stands there goes. */
static int open_part(const struct box *box, const char *name, bool empty)
{
	if (mkdirat(box->fd, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	int fd = openat(box->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
		if (unlinkat(box->fd, name, 0) < 0 || mkdirat(box->fd, name, 0755) < 0)
			return -errno;
		fd = openat(box->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0 && errno == EACCES && fchmodat(box->fd, name, 0755, 0) == 0) /* the code closed it */
		fd = openat(box->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0755) < 0) {
		close(fd);
		return -errno;
	}
	if (empty)
		tree_empty(fd);
	return fd;
}

static int make_parts(struct box *box, bool keep)
{
	static const char *const names[] = { "work", "home", "tmp" };
	if (!keep)
		tree_empty(box->fd);
	for (size_t i = 0; i < 3; i++) {
		int fd = open_part(box, names[i], !keep || i == 2);
		if (fd < 0)
			return fd;
		if (i == 0)
			box->work = fd;
		else
			close(fd);
	}
	for (size_t i = 0; i < box->job->also_count; i++) {
		int fd = open(box->job->also[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			continue; /* this image does not have it */
		if (box->also_is_ours[i])
			tree_empty(fd);
		close(fd);
	}
	return 0;
}

static int put_back(const struct box *box)
{
	struct stat st;
	if (fstat(box->archive, &st) < 0)
		return -errno;
	size_t len = (size_t)st.st_size;
	if (len == 0)
		return 0;
	char *archive = mmap(NULL, len, PROT_READ, MAP_SHARED, box->archive, 0);
	if (archive == MAP_FAILED)
		return -errno;
	int rc = 0;
	for (size_t at = 0; rc == 0 && at < len;) {
		struct archive_entry entry;
		if (len - at < sizeof(entry)) {
			rc = -EBADMSG;
			break;
		}
		memcpy(&entry, archive + at, sizeof(entry));
		rc = archive_unpack(box->fd, archive + at, len - at, 1);
		at += sizeof(entry) + entry.path_len + entry.content_len;
		if (entry.content_len > 65536)
			madvise(archive, len, MADV_DONTNEED);
	}
	munmap(archive, len);
	return rc;
}

static int lay_out(const struct box *box, size_t from, size_t to)
{
	size_t len;
	const char *entry;
	int rc = 0;
	while (rc == 0 && (entry = job_next(box->job, PLAN_ARCHIVE, &from, to, &len))) {
		rc = archive_unpack(box->work, entry, len, 1);
		if (len > 65536)
			job_forget(box->job);
	}
	return rc;
}

int box_prepare(struct box *box, const struct job_step *step)
{
	const struct job *job = box->job;
	bool after_compile = job->has_compile && !step->compile;
	if (box->work >= 0)
		close(box->work);
	box->work = -1;
	int rc = make_parts(box, after_compile && box->archive < 0);
	if (rc == 0 && after_compile && box->archive >= 0)
		rc = put_back(box);
	if (rc == 0 && !after_compile)
		rc = lay_out(box, PLAN_TEXT_SIZE, job->common_to);
	if (rc == 0)
		rc = lay_out(box, step->from, step->to);
	job_forget(job);
	return no_room(rc);
}

int box_keep(struct box *box)
{
	if (box->job->step_count <= 2)
		return 0;
	box->archive = memfd_create("compiled", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (box->archive < 0)
		return -errno;
	int rc = archive_pack(box->fd, "tmp", box->archive, box->job->settings.archive_bytes);
	if (rc == 0 && fcntl(box->archive, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		rc = -errno;
	return rc;
}

bool box_is_full(const struct box *box)
{
	struct statfs fs;
	if (fstatfs(box->fd, &fs) < 0 || fs.f_type != TMPFS_TYPE)
		return false;
	return (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize < FULL_BELOW || (fs.f_files > 0 && fs.f_ffree == 0);
}

int box_stdin(const struct box *box, const struct job_step *step)
{
	const struct job *job = box->job;
	size_t at = step->from, len;
	const char *data = job_next(job, PLAN_STDIN, &at, step->to, &len);
	int fd = data && len > 0 ? memfd_create("stdin", MFD_CLOEXEC | MFD_ALLOW_SEALING)
				 : open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || !data || len == 0)
		return fd < 0 ? -errno : fd;
	off_t from = data - job->data, to = from + (off_t)len;
	int rc = 0;
	while (rc == 0 && from < to) {
		ssize_t n = sendfile(fd, job->fd, &from, (size_t)(to - from));
		if (n <= 0)
			rc = n < 0 ? -errno : -EIO;
	}
	if (rc == 0 && (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0 ||
			       lseek(fd, 0, SEEK_SET) < 0))
		rc = -errno;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}
