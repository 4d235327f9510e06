/* Memory files are sealed, so that what was handed over cannot change any more, not even by its reader. */
#include "executor/sandbox/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/write_all.h"

/* Plans are bounded by what a submission may hold; this bounds a defect. */
#define PLAN_MAX (256 << 20)

void plan_writer_init(struct plan_writer *writer)
{
	*writer = (struct plan_writer){
		.head = { .magic = PLAN_MAGIC, .uid = PLAN_NO_ID, .gid = PLAN_NO_ID },
		.words = BUFFER_MAX(PLAN_MAX),
		.archive = BUFFER_MAX(PLAN_MAX),
	};
}

void plan_add_word(struct plan_writer *writer, uint32_t *count, const char *word)
{
	buffer_append(&writer->words, word, strlen(word) + 1);
	(*count)++;
}

void plan_add_file(struct plan_writer *writer, struct bytes path, struct bytes content)
{
	struct archive_entry entry = {
		.type = ARCHIVE_FILE, .path_len = (uint16_t)path.len, .content_len = content.len
	};
	entry.executable = content.len > 2 && memcmp(content.data, "#!", 2) == 0;
	if (path.len > ARCHIVE_PATH_MAX) {
		writer->archive.failed = true;
		return;
	}
	buffer_append(&writer->archive, &entry, sizeof(entry));
	buffer_append_bytes(&writer->archive, path);
	buffer_append_bytes(&writer->archive, content);
	writer->head.file_count++;
}

int plan_write(struct plan_writer *writer, int *ret_fd, struct err *err)
{
	if (writer->words.failed || writer->archive.failed)
		return err_set(err, -E2BIG, "the job is too large to hand over");
	const struct bytes parts[] = { { (const char *)&writer->head, sizeof(writer->head) },
		buffer_bytes(&writer->words), buffer_bytes(&writer->archive) };
	return memory_file("plan", parts, 3, ret_fd, err);
}

void plan_writer_fini(struct plan_writer *writer)
{
	buffer_fini(&writer->words);
	buffer_fini(&writer->archive);
}

int memory_file(const char *name, const struct bytes *parts, size_t count, int *ret_fd, struct err *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int rc = fd < 0 ? -errno : 0;
	for (size_t i = 0; i < count && rc == 0; i++)
		rc = write_all(fd, parts[i].data, parts[i].len);
	if (rc == 0 && (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0 ||
			       lseek(fd, 0, SEEK_SET) < 0))
		rc = -errno;
	if (rc < 0) {
		if (fd >= 0)
			close(fd);
		return err_set(err, rc, "cannot make a memory file: %s", strerror(-rc));
	}
	*ret_fd = fd;
	return 0;
}

int memory_file_reopen(int fd)
{
	char path[32];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int copy = open(path, O_RDONLY | O_CLOEXEC);
	return copy < 0 ? -errno : copy;
}
