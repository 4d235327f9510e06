/* What the service writes as a plan, the wrapper reads as that: the two share a format and no code. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "launch/archive.h"
#include "wrap/job.h"
#include "wrap/plan_write.h"

#include "test.h"

static char path[] = "/tmp/assay-test-plan-XXXXXX";

static const struct plan_settings SETTINGS = { .task = "sixteen bytes..",
	.attempt = 4,
	.flags = PLAN_ASK | PLAN_CONFINE,
	.output_bytes = 1 << 20,
	.archive_bytes = 2 << 20,
	.total_us = 3,
	.grace_us = 4,
	.patience_us = 5,
	.processes = 6,
	.progress_us = 7 };

static struct buffer make(void)
{
	struct buffer plan = BUFFER_MAX(1 << 20);
	wrap_plan_begin(&plan, &SETTINGS);
	wrap_plan_put(&plan, PLAN_LISTENER, BYTES_LITERAL("10.0.0.1:8091"));
	wrap_plan_put(&plan, PLAN_LISTENER, BYTES_LITERAL("[fd00::1]:8091"));
	wrap_plan_put(&plan, PLAN_BOX, BYTES_LITERAL("/box"));
	wrap_plan_put(&plan, PLAN_ALSO, BYTES_LITERAL("/tmp"));
	wrap_plan_put(&plan, PLAN_ALSO, BYTES_LITERAL("/dev/shm"));
	wrap_plan_put(&plan, PLAN_ENV, BYTES_LITERAL("A=1"));
	wrap_plan_put(&plan, PLAN_ENV, BYTES_LITERAL("B=2"));
	wrap_plan_file(&plan, BYTES_LITERAL("main.c"), BYTES_LITERAL("int main;"));
	wrap_plan_file(&plan, BYTES_LITERAL("tool"), BYTES_LITERAL("#!/bin/sh\n"));
	wrap_plan_step(&plan, PLAN_COMPILE, 7);
	wrap_plan_put(&plan, PLAN_WORD, BYTES_LITERAL("cc"));
	wrap_plan_put(&plan, PLAN_WORD, BYTES_LITERAL("main.c"));
	wrap_plan_step(&plan, PLAN_RUN, 8);
	wrap_plan_put(&plan, PLAN_WORD, BYTES_LITERAL("./a.out"));
	wrap_plan_put(&plan, PLAN_WORD, BYTES_LITERAL(""));
	wrap_plan_put(&plan, PLAN_STDIN, ((struct bytes){ "in\0put", 6 }));
	wrap_plan_step(&plan, PLAN_RUN, 9);
	wrap_plan_put(&plan, PLAN_WORD, BYTES_LITERAL("./a.out"));
	wrap_plan_file(&plan, BYTES_LITERAL("data"), BYTES_LITERAL(""));
	wrap_plan_end(&plan);
	REQUIRE(!plan.failed);
	return plan;
}

static int read_back(struct bytes bytes, char **inherited, struct job *job)
{
	char message[REPORT_MESSAGE_MAX];
	int fd = open(path, O_WRONLY | O_TRUNC);
	REQUIRE(fd >= 0 && write(fd, bytes.data, bytes.len) == (ssize_t)bytes.len && close(fd) == 0);
	/* A job keeps what it has allocated for good, as the program does; all of them stay in sight. */
	static struct job all[2000];
	static size_t count;
	REQUIRE(count < sizeof(all) / sizeof(*all));
	int rc = job_read(&all[count], path, inherited, message);
	*job = all[count++];
	return rc;
}

static void forget(const struct job *job)
{
	if (job->data)
		munmap((void *)(uintptr_t)job->data, job->len);
	close(job->fd);
}

static void check_job(const struct job *job)
{
	size_t at, len;
	const char *data;
	struct archive_entry entry;
	CHECK_INT(memcmp(&job->settings, &SETTINGS, sizeof(SETTINGS)), 0);
	CHECK_INT(job->listener_count, 2);
	CHECK_STR(job->listeners[0], "10.0.0.1:8091");
	CHECK_STR(job->listeners[1], "[fd00::1]:8091");
	CHECK_STR(job->box, "/box");
	CHECK_INT(job->also_count, 2);
	CHECK_STR(job->also[1], "/dev/shm");
	CHECK_STR(job->env[0], "A=1");
	CHECK_STR(job->env[1], "B=2");
	CHECK(!job->env[2]);
	REQUIRE(job->step_count == 3);
	for (size_t i = 0; i < 3; i++) {
		CHECK_INT(job->steps[i].compile, i == 0);
		CHECK_INT(job->steps[i].run, i == 2);
		CHECK_INT(job->steps[i].timeout_us, (int64_t)i + 7);
	}
	char **words = job_words(job, &job->steps[1]);
	CHECK_STR(words[0], "./a.out");
	CHECK_STR(words[1], "");
	CHECK(!words[2]);
	free(words);
	at = job->steps[1].from;
	data = job_next(job, PLAN_STDIN, &at, job->steps[1].to, &len);
	CHECK_BYTES(((struct bytes){ data, len }), ((struct bytes){ "in\0put", 6 }));
	at = job->steps[0].from;
	CHECK(!job_next(job, PLAN_STDIN, &at, job->steps[0].to, &len));
	at = PLAN_TEXT_SIZE;
	data = job_next(job, PLAN_ARCHIVE, &at, job->common_to, &len);
	REQUIRE(data && len == sizeof(entry) + 6 + 9);
	memcpy(&entry, data, sizeof(entry));
	CHECK(entry.type == ARCHIVE_FILE && !entry.executable && entry.path_len == 6 && entry.content_len == 9);
	data = job_next(job, PLAN_ARCHIVE, &at, job->common_to, &len);
	REQUIRE(data);
	memcpy(&entry, data, sizeof(entry));
	CHECK(entry.executable);
	CHECK(!job_next(job, PLAN_ARCHIVE, &at, job->common_to, &len));
	at = job->steps[2].from;
	CHECK(job_next(job, PLAN_ARCHIVE, &at, job->steps[2].to, &len) && len == sizeof(entry) + 4);
}

TEST(a_plan_is_read_as_it_was_written_zipped_or_not)
{
	char *nothing[] = { NULL };
	struct job job;
	struct buffer plan = make(), zipped = BUFFER_MAX(1 << 20);
	CHECK_INT(read_back(buffer_bytes(&plan), nothing, &job), 0);
	check_job(&job);
	wrap_plan_zip(buffer_bytes(&plan), &zipped);
	CHECK(!zipped.failed && zipped.len < plan.len);
	CHECK_INT(read_back(buffer_bytes(&zipped), nothing, &job), 0);
	check_job(&job);
	buffer_fini(&plan);
	buffer_fini(&zipped);
}

TEST(a_large_plan_goes_through_in_pieces)
{
	char *nothing[] = { NULL };
	struct job job;
	struct buffer plan = BUFFER_MAX(8 << 20), zipped = BUFFER_MAX(8 << 20), small = BUFFER_MAX(1000);
	char *content = malloc(3 << 20);
	REQUIRE(content);
	for (size_t i = 0; i < 3 << 20; i++)
		content[i] = (char)(i * i / 3);
	wrap_plan_begin(&plan, &SETTINGS);
	wrap_plan_put(&plan, PLAN_BOX, BYTES_LITERAL("/box"));
	wrap_plan_file(&plan, BYTES_LITERAL("big"), (struct bytes){ content, 3 << 20 });
	wrap_plan_step(&plan, PLAN_RUN, 1);
	wrap_plan_put(&plan, PLAN_WORD, BYTES_LITERAL("true"));
	wrap_plan_end(&plan);
	wrap_plan_zip(buffer_bytes(&plan), &zipped);
	REQUIRE(!zipped.failed);
	CHECK_INT(read_back(buffer_bytes(&zipped), nothing, &job), 0);
	CHECK_INT(job.len, plan.len);
	CHECK(memcmp(job.data, plan.data, plan.len) == 0);
	CHECK_INT(read_back((struct bytes){ zipped.data, zipped.len - 1 }, nothing, &job), -EBADMSG);
	wrap_plan_zip(buffer_bytes(&plan), &small);
	CHECK(small.failed);
	free(content);
	buffer_fini(&plan);
	buffer_fini(&zipped);
	buffer_fini(&small);
}

#define PAIR(text) ((char[]){ text })

TEST(of_the_images_environment_the_plan_takes_what_is_not_ours)
{
	char *image[] = { PAIR("A=image"), PAIR("PATH=/bin"), PAIR("ASSAY_WRAP_KEY=x"), PAIR("KUBERNETES_PORT=1"),
		PAIR("none"), PAIR("AB=3"), NULL };
	struct job job;
	struct buffer plan = make();
	CHECK_INT(read_back(buffer_bytes(&plan), image, &job), 0);
	CHECK(!job.env[2]);
	struct plan_settings settings = SETTINGS;
	settings.flags |= PLAN_INHERIT;
	memcpy(plan.data + PLAN_TEXT_SIZE + sizeof(struct plan_record), &settings, sizeof(settings));
	CHECK_INT(read_back(buffer_bytes(&plan), image, &job), 0);
	CHECK_STR(job.env[0], "A=1");
	CHECK_STR(job.env[2], "PATH=/bin");
	CHECK_STR(job.env[3], "AB=3");
	CHECK(!job.env[4]);
	buffer_fini(&plan);
}

TEST(a_plan_whose_length_lies_anywhere_is_refused_or_read_within_its_bounds)
{
	char *nothing[] = { NULL };
	struct job job;
	struct buffer plan = make();
	for (size_t i = PLAN_TEXT_SIZE; i < plan.len; i++) {
		char was = plan.data[i];
		plan.data[i] = (char)~was;
		int rc = read_back(buffer_bytes(&plan), nothing, &job);
		CHECK(rc == 0 || rc == -EBADMSG);
		forget(&job);
		plan.data[i] = was;
	}
	for (size_t len = 0; len < plan.len; len++) {
		CHECK_INT(read_back((struct bytes){ plan.data, len }, nothing, &job), -EBADMSG);
		forget(&job);
	}
	buffer_fini(&plan);
}

int main(int argc, char **argv)
{
	int fd = mkstemp(path);
	REQUIRE(fd >= 0);
	close(fd);
	int status = test_main(argc, argv);
	unlink(path);
	return status;
}
