/* Reading files and directories. Nothing is followed below the directory that was named: each part is opened with
 * O_NOFOLLOW from its parent's descriptor. */
#include "cli/source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

static int read_all(int fd, const char *name, size_t max, struct buffer *to, struct err *err)
{
	for (;;) {
		char *room = buffer_reserve(to, 65536);
		if (!room)
			return err_set(err, -ENOMEM, "not enough memory for %s", name);
		ssize_t got = read(fd, room, 65536);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_set(err, -errno, "cannot read %s: %s", name, strerror(errno));
		if (got == 0)
			return 0;
		to->len += (size_t)got;
		if (to->len > max)
			return err_set(err, -EFBIG, "%s is too large: at most %zu bytes are taken", name, max);
	}
}

int file_read(const char *path, size_t max, struct buffer *ret_content, struct err *err)
{
	bool is_input = strcmp(path, "-") == 0;
	int fd = is_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
	int result = read_all(fd, is_input ? "standard input" : path, max, ret_content, err);
	if (!is_input)
		close(fd);
	return result;
}

/* The walk of one directory tree. */
struct walk {
	struct source *source;
	size_t room; /* for files */
	struct buffer path; /* of where it stands, below the top; not terminated */
	struct err *err;
};

static int add_file(struct walk *walk, int fd, const char *path)
{
	struct source *source = walk->source;
	if (source->count == SOURCE_FILES_MAX)
		return err_set(walk->err, -EFBIG, "there are more than %d files in the directory", SOURCE_FILES_MAX);
	if (source->count == walk->room) {
		walk->room = walk->room ? 2 * walk->room : 16;
		source->files = realloc_array(source->files, walk->room, sizeof(*source->files));
	}
	struct source_file *file = &source->files[source->count++];
	*file = (struct source_file){ .path = string_copy(path) };
	if (read_all(fd, path, SOURCE_MAX, &file->content, walk->err) < 0)
		return walk->err->code;
	source->size += file->content.len;
	if (source->size > SOURCE_MAX)
		return err_set(
			walk->err, -EFBIG, "the files of the directory are larger than %d bytes together", SOURCE_MAX);
	return 0;
}

static int walk_directory(struct walk *walk, int fd, int depth);

static int walk_entry(struct walk *walk, int parent, const char *name, int depth)
{
	struct stat status;
	size_t len = walk->path.len;
	if (len > 0)
		buffer_append_char(&walk->path, '/');
	buffer_append_string(&walk->path, name);
	char *path = bytes_copy_string(buffer_bytes(&walk->path));
	int fd = openat(parent, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	int result;
	if (fd < 0 && errno == ELOOP)
		result = err_set(walk->err, -ELOOP, "%s is a symbolic link: put the file itself there", path);
	else if (fd < 0 || fstat(fd, &status) < 0)
		result = err_set(walk->err, -errno, "cannot open %s: %s", path, strerror(errno));
	else if (S_ISDIR(status.st_mode))
		result = walk_directory(walk, fd, depth + 1);
	else if (S_ISREG(status.st_mode))
		result = add_file(walk, fd, path);
	else
		result = err_set(walk->err, -EINVAL, "%s is neither a file nor a directory", path);
	if (fd >= 0)
		close(fd);
	walk->path.len = len;
	free(path);
	return result;
}

static int walk_directory(struct walk *walk, int fd, int depth)
{
	if (depth > SOURCE_DEPTH_MAX)
		return err_set(walk->err, -EFBIG, "the directory is more than %d levels deep", SOURCE_DEPTH_MAX);
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
	if (!directory) {
		int error = errno;
		if (copy >= 0)
			close(copy);
		return err_set(walk->err, -error, "cannot read the directory: %s", strerror(error));
	}
	int result = 0;
	struct dirent *entry;
	while (result == 0 && (entry = readdir(directory)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
			strcmp(entry->d_name, ".git") != 0)
			result = walk_entry(walk, fd, entry->d_name, depth);
	closedir(directory);
	return result;
}

static int compare_files(const void *a, const void *b)
{
	return strcmp(((const struct source_file *)a)->path, ((const struct source_file *)b)->path);
}

static int read_directory(const char *path, struct source *source, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
	if (fd < 0)
		return err_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
	struct walk walk = { .source = source, .err = err };
	int result = walk_directory(&walk, fd, 0);
	close(fd);
	buffer_fini(&walk.path);
	if (result < 0)
		return result;
	if (source->count == 0)
		return err_set(err, -ENOENT, "there is no file in %s", path);
	qsort(source->files, source->count, sizeof(*source->files), compare_files);
	return 0;
}

int source_read(const char *path, struct source *ret_source, struct err *err)
{
	*ret_source = (struct source){ 0 };
	struct stat status;
	if (strcmp(path, "-") != 0) {
		if (stat(path, &status) < 0)
			return err_set(err, -errno, "cannot open %s: %s", path, strerror(errno));
		ret_source->is_directory = S_ISDIR(status.st_mode);
	}
	if (ret_source->is_directory)
		return read_directory(path, ret_source, err);
	ret_source->files = alloc_array(1, sizeof(*ret_source->files));
	ret_source->count = 1;
	ret_source->files[0].path = string_copy(path);
	int result = file_read(path, SOURCE_MAX, &ret_source->files[0].content, err);
	ret_source->size = ret_source->files[0].content.len;
	return result;
}

void source_fini(struct source *source)
{
	for (size_t i = 0; i < source->count; i++) {
		free(source->files[i].path);
		buffer_fini(&source->files[i].content);
	}
	free(source->files);
	*source = (struct source){ 0 };
}
