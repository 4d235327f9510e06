/* The key that reports are signed with: kept, and never replaced. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/kubernetes/key.h"
#include "test.h"

static char directory[] = "/tmp/assay-key-XXXXXX";
static char path[64];

TEST(a_key_is_made_once_and_kept)
{
	uint8_t first[KUBE_KEY_SIZE], second[KUBE_KEY_SIZE];
	char inner[64];
	struct err err = { 0 };
	struct stat st;
	REQUIRE(mkdtemp(directory));
	snprintf(inner, sizeof(inner), "%s/data", directory);
	snprintf(path, sizeof(path), "%s/attempt.key", inner);
	CHECK_INT(kube_key_keep(inner, first, &err), 0);
	CHECK_INT(kube_key_keep(inner, second, &err), 0);
	CHECK(memcmp(first, second, sizeof(first)) == 0);
	REQUIRE(stat(path, &st) == 0);
	CHECK_INT(st.st_size, KUBE_KEY_SIZE);
	CHECK_INT(st.st_mode & 0777, 0600);
	CHECK_INT(st.st_nlink, 1); /* nothing else is left of its making */
}

TEST(what_is_there_and_is_no_key_is_not_replaced)
{
	uint8_t key[KUBE_KEY_SIZE];
	char inner[64];
	struct err err = { 0 };
	struct stat st;
	snprintf(inner, sizeof(inner), "%s/data", directory);
	REQUIRE(truncate(path, 7) == 0);
	CHECK_INT(kube_key_keep(inner, key, &err), -EINVAL);
	CHECK(strstr(err.message, "not a key of 32 bytes"));
	REQUIRE(stat(path, &st) == 0);
	CHECK_INT(st.st_size, 7);
	REQUIRE(truncate(path, 33) == 0);
	CHECK_INT(kube_key_keep(inner, key, &err), -EFBIG);
	unlink(path);
	rmdir(inner);
}

TEST(where_none_can_be_kept_there_is_one_all_the_same)
{
	static const uint8_t none[KUBE_KEY_SIZE];
	uint8_t key[KUBE_KEY_SIZE] = { 0 };
	char inner[64];
	struct err err = { 0 };
	snprintf(inner, sizeof(inner), "%s/file", directory);
	FILE *file = fopen(inner, "w");
	REQUIRE(file && fclose(file) == 0);
	CHECK_INT(kube_key_keep("/proc/nowhere", key, &err), 1);
	CHECK(memcmp(key, none, sizeof(key)) != 0);
	CHECK(err.message[0] != '\0');
	CHECK_INT(kube_key_keep(inner, key, &err), -ENOTDIR);
	unlink(inner);
	rmdir(directory);
}

TEST(a_key_that_is_set_has_its_length)
{
	struct err err = { 0 };
	CHECK_INT(kube_key_check("attempt_key", NULL, &err), 0);
	CHECK_INT(kube_key_check("attempt_key", "", &err), 0);
	CHECK_INT(kube_key_check("attempt_key", "0123456789abcdef", &err), 0);
	CHECK_INT(kube_key_check("attempt_key", "0123456789abcde", &err), -EINVAL);
	CHECK(strstr(err.message, "attempt_key: a key has at least 16 characters"));
}

TEST_MAIN()
