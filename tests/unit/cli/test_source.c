#include "cli/source.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

static char *make_directory(void)
{
	char *path = strdup("/tmp/assay-test-source-XXXXXX");
	REQUIRE(mkdtemp(path));
	return path;
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *ftw)
{
	return remove(path);
}

static void remove_directory(char *path)
{
	nftw(path, remove_one, 10, FTW_DEPTH | FTW_PHYS);
	free(path);
}

static void put(const char *directory, const char *name, const char *text)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", directory, name);
	for (char *slash = strchr(path + strlen(directory) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		REQUIRE(mkdir(path, 0755) == 0 || errno == EEXIST);
		*slash = '/';
	}
	FILE *file = fopen(path, "w");
	REQUIRE(file);
	fputs(text, file);
	fclose(file);
}

TEST(a_directory_is_read_sorted_without_git)
{
	char *directory = make_directory();
	struct source source;
	struct err err;
	put(directory, "b.py", "2");
	put(directory, "a/z.py", "1");
	put(directory, "a/.hidden", "3");
	put(directory, ".git/config", "no");
	put(directory, "a/.git/config", "no");
	put(directory, "größe.txt", "4");
	REQUIRE(source_read(directory, &source, &err) == 0);
	CHECK(source.is_directory);
	REQUIRE(source.count == 4);
	CHECK_STR(source.files[0].path, "a/.hidden");
	CHECK_STR(source.files[1].path, "a/z.py");
	CHECK_STR(source.files[2].path, "b.py");
	CHECK_STR(source.files[3].path, "größe.txt");
	CHECK_BYTES(buffer_bytes(&source.files[1].content), "1");
	CHECK_INT(source.size, 4);
	source_fini(&source);
	remove_directory(directory);
}

TEST(a_symbolic_link_is_refused)
{
	char *directory = make_directory();
	char path[512];
	struct source source;
	struct err err;
	put(directory, "a.py", "1");
	put(directory, "sub/b.py", "1");
	snprintf(path, sizeof(path), "%s/sub/link.py", directory);
	REQUIRE(symlink("/etc/passwd", path) == 0);
	CHECK_INT(source_read(directory, &source, &err), -ELOOP);
	CHECK_STR(err.message, "sub/link.py is a symbolic link: put the file itself there");
	source_fini(&source);
	remove_directory(directory);
}

TEST(a_pipe_is_refused_and_not_waited_for)
{
	char *directory = make_directory();
	char path[512];
	struct source source;
	struct err err;
	snprintf(path, sizeof(path), "%s/pipe", directory);
	REQUIRE(mkfifo(path, 0600) == 0);
	CHECK_INT(source_read(directory, &source, &err), -EINVAL);
	CHECK_STR(err.message, "pipe is neither a file nor a directory");
	source_fini(&source);
	remove_directory(directory);
}

TEST(an_empty_directory_and_a_missing_file)
{
	char *directory = make_directory();
	struct source source;
	struct err err;
	CHECK_INT(source_read(directory, &source, &err), -ENOENT);
	source_fini(&source);
	CHECK_INT(source_read("/nowhere/a.py", &source, &err), -ENOENT);
	CHECK_STR(err.message, "cannot open /nowhere/a.py: No such file or directory");
	source_fini(&source);
	remove_directory(directory);
}

TEST(a_tree_that_is_too_deep_is_refused)
{
	char *directory = make_directory();
	struct source source;
	struct err err;
	struct buffer name = { 0 };
	for (int i = 0; i < 40; i++)
		buffer_append_string(&name, "d/");
	buffer_append_string(&name, "a.py");
	buffer_append_char(&name, '\0');
	put(directory, name.data, "1");
	buffer_fini(&name);
	CHECK_INT(source_read(directory, &source, &err), -EFBIG);
	source_fini(&source);
	remove_directory(directory);
}

TEST(a_file_that_is_too_large_is_refused)
{
	char *directory = make_directory();
	char path[512];
	struct source source;
	struct err err;
	snprintf(path, sizeof(path), "%s/large", directory);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);
	REQUIRE(fd >= 0 && ftruncate(fd, SOURCE_MAX + 1) == 0);
	close(fd);
	CHECK_INT(source_read(path, &source, &err), -EFBIG);
	source_fini(&source);
	CHECK_INT(source_read(directory, &source, &err), -EFBIG);
	source_fini(&source);
	remove_directory(directory);
}

TEST_MAIN()
