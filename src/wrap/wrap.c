/* assay-wrap: process 1 of a container that runs the code of one attempt, in any image.
 *
 *   assay-wrap --install DIR [--fetch DIR]   copies itself to DIR/assay-wrap, and gets the plan: what the init container does
 *   assay-wrap run                           runs the plan and reports
 *
 * It takes, from its environment or as options:
 *   ASSAY_WRAP_PLAN, --plan PATH                 the plan (plan.h), a file or a directory with a file `plan`
 *   ASSAY_WRAP_TERMINATION, --termination PATH   where the termination message goes; /dev/termination-log
 *   ASSAY_WRAP_KEY                               the attempt's key, 64 hexadecimal digits. No option: command lines
 *                                                can be read by everybody
 *   ASSAY_WRAP_ATTEMPT, ASSAY_WRAP_LISTENERS     TASK/ATTEMPT and ADDRESS:PORT[,ADDRESS:PORT], for --fetch
 *   ASSAY_WRAP_PATIENCE                          how many seconds it may take; 60
 *
 * How it keeps the code away from itself is told in run.c and confine.c; what it reports, in report.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "wrap/confine.h"
#include "wrap/fetch.h"
#include "wrap/run.h"

#define TERMINATION_USUAL "/dev/termination-log"
#define NAME "assay-wrap"
#define PATIENCE_S 60

extern char **environ;

static int usage(int status)
{
	fprintf(status ? stderr : stdout,
		"usage: assay-wrap --install DIR [--fetch DIR]   (ASSAY_WRAP_KEY, ASSAY_WRAP_ATTEMPT, "
		"ASSAY_WRAP_LISTENERS)\n"
		"       assay-wrap run [--plan PATH] [--termination PATH]   (ASSAY_WRAP_KEY, ASSAY_WRAP_PLAN, "
		"ASSAY_WRAP_TERMINATION)\n"
		"       assay-wrap --version\n");
	return status;
}

/* ---- --install ---- */

static int copy(int from, int directory, const char *name)
{
	struct stat st;
	unlinkat(directory, name, 0); /* one that an earlier try left behind cannot be written to */
	int to = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (to < 0 || fstat(from, &st) < 0)
		return -errno;
	int rc = 0;
	for (off_t done = 0; rc == 0 && done < st.st_size;) {
		ssize_t n = sendfile(to, from, &done, (size_t)(st.st_size - done));
		if (n <= 0)
			rc = n < 0 ? -errno : -EIO;
	}
	if (rc == 0 && fchmod(to, 0555) < 0)
		rc = -errno;
	if (close(to) < 0 && rc == 0)
		rc = -errno;
	return rc;
}

static int install(const char *path)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = from < 0 || directory < 0 ? -errno : copy(from, directory, NAME ".new");
	if (rc == 0 && renameat(directory, NAME ".new", directory, NAME) < 0)
		rc = -errno;
	if (rc == 0)
		return 0;
	fprintf(stderr, "assay-wrap: cannot install into %s: %s\n", path, strerror(-rc));
	return 1;
}

/* ---- --fetch ---- */

/* TASK/ATTEMPT */
static bool parse_attempt(const char *text, uint8_t task[16], uint32_t *ret_attempt)
{
	unsigned bytes[16];
	int len = 0;
	if (!text ||
		sscanf(text, "%2x%2x%2x%2x-%2x%2x-%2x%2x-%2x%2x-%2x%2x%2x%2x%2x%2x/%u%n", &bytes[0], &bytes[1],
			&bytes[2], &bytes[3], &bytes[4], &bytes[5], &bytes[6], &bytes[7], &bytes[8], &bytes[9],
			&bytes[10], &bytes[11], &bytes[12], &bytes[13], &bytes[14], &bytes[15], ret_attempt,
			&len) != 17 ||
		text[len])
		return false;
	for (size_t i = 0; i < 16; i++)
		task[i] = (uint8_t)bytes[i];
	return true;
}

static int fetch(const char *directory)
{
	uint8_t key[REPORT_KEY_SIZE], task[16];
	uint32_t attempt;
	struct report_signer signer;
	char message[REPORT_MESSAGE_MAX];
	const char *listeners = getenv("ASSAY_WRAP_LISTENERS"), *patience = getenv("ASSAY_WRAP_PATIENCE");
	signal(SIGTERM, _exit); /* process 1 would not be ended by it */
	if (!sha256_parse(getenv("ASSAY_WRAP_KEY"), key) ||
		!parse_attempt(getenv("ASSAY_WRAP_ATTEMPT"), task, &attempt) || !listeners)
		return usage(2);
	report_signer_init(&signer, task, attempt, key);
	if (fetch_plan(&signer, listeners, patience ? (int)strtol(patience, NULL, 10) : PATIENCE_S, directory, message))
		return 0;
	fprintf(stderr, "assay-wrap: cannot fetch the plan: %s\n", message);
	return 1;
}

/* ---- run ---- */

/* Only 0, 1 and 2 stay, and they are there. */
static void take_descriptors(void)
{
	if (syscall(SYS_close_range, 3, ~0U, 0) < 0)
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
	int fd;
	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd < 3 && fcntl(fd, F_SETFD, 0) == 0);
	if (fd >= 3)
		close(fd);
}

/* The environment was copied where it is wanted; nothing of it stays in the memory that the kernel knows as it. */
static void wipe_environment(void)
{
	static char *nothing[] = { NULL };
	for (char **pair = environ; *pair; pair++)
		explicit_bzero(*pair, strlen(*pair));
	environ = nothing;
}

static int run(const char *plan, const char *termination_path)
{
	static struct job job;
	static struct report_signer signer;
	char message[REPORT_MESSAGE_MAX];
	uint8_t key[REPORT_KEY_SIZE] = { 0 };
	sigset_t all;
	/* Before the plan is read, which can take a while: a signal that is not blocked is nothing to process 1 until it listens. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	take_descriptors();
	int termination = open(termination_path, O_WRONLY | O_CLOEXEC);
	if (termination < 0)
		fprintf(stderr, "assay-wrap: cannot open %s: %s\n", termination_path, strerror(errno));
	if (getpid() != 1) {
		run_complain(
			termination, "not process 1 of a container: it could not end what the code leaves running");
		return RUN_EXIT_FAILED;
	}
	if (!plan || !sha256_parse(getenv("ASSAY_WRAP_KEY"), key)) {
		run_complain(termination, plan ? "ASSAY_WRAP_KEY is not a key" : "there is no plan");
		return RUN_EXIT_FAILED;
	}
	if (job_read(&job, plan, environ, message) < 0) {
		run_complain(termination, message);
		return RUN_EXIT_FAILED;
	}
	report_signer_init(&signer, job.settings.task, job.settings.attempt, key);
	explicit_bzero(key, sizeof(key));
	struct run_options options = { .job = &job, .signer = &signer, .termination = termination, .ruleset = -1 };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && (job.settings.flags & PLAN_CONFINE)) {
		options.ruleset = confine_ruleset(&job, plan, &options.started.landlock);
		if (confine_filter())
			options.started.flags |= REPORT_FILTERED;
	}
	wipe_environment();
	return run_job(&options);
}

int main(int argc, char **argv)
{
	/* Before anything else: whoever shares the user id can read and trace what is dumpable. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return RUN_EXIT_FAILED;
	bool fetches = argc == 5 && strcmp(argv[3], "--fetch") == 0;
	if ((argc == 3 || fetches) && strcmp(argv[1], "--install") == 0) {
		int status = install(argv[2]);
		return status == 0 && fetches ? fetch(argv[4]) : status;
	}
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return puts("assay-wrap " ASSAY_VERSION) < 0;
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return usage(0);
	if (argc < 2 || strcmp(argv[1], "run") != 0)
		return usage(2);
	const char *plan = getenv("ASSAY_WRAP_PLAN"), *termination = getenv("ASSAY_WRAP_TERMINATION");
	for (int i = 2; i < argc; i += 2) {
		if (i + 1 < argc && strcmp(argv[i], "--plan") == 0)
			plan = argv[i + 1];
		else if (i + 1 < argc && strcmp(argv[i], "--termination") == 0)
			termination = argv[i + 1];
		else
			return usage(2);
	}
	/* Both outlive the environment. */
	plan = plan ? strdup(plan) : NULL;
	termination = strdup(termination ? termination : TERMINATION_USUAL);
	return termination ? run(plan, termination) : RUN_EXIT_FAILED;
}
