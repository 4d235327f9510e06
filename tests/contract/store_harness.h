/* What tests of stores are written with: operations that wait for their answer, submissions made in a line. */
#ifndef ASSAY_TESTS_CONTRACT_STORE_HARNESS_H
#define ASSAY_TESTS_CONTRACT_STORE_HARNESS_H

#include "assay/store.h"
#include "base/uuid.h"
#include "tests/contract/store_suite.h"

struct harness {
	struct store_suite_fixture *fixture; /* borrowed */
	struct store *store; /* owned while open */
	struct uuid_generator ids;
	int availables; /* times that on_available was told */
	bool available;
};

/* Both end the program when the store does not start or stop. */
void harness_open(struct harness *harness, struct store_suite_fixture *fixture, bool empty);
void harness_close(struct harness *harness);
void harness_reopen(struct harness *harness);

/* Hands one operation in and runs the loop until it is done; its outcome. Checks that `done` comes once and not from
 * within the call. Results stay until store_operation_fini(). */
enum store_outcome do_submit(struct harness *harness, struct store_submit *submit);
enum store_outcome do_claim(struct harness *harness, struct store_claim *claim);
enum store_outcome do_settle(struct harness *harness, struct store_settle *settle);
enum store_outcome do_command(struct harness *harness, struct store_command *command);
enum store_outcome do_heartbeat(struct harness *harness, struct store_heartbeat *heartbeat);
enum store_outcome do_take(struct harness *harness, struct store_take *take);
enum store_outcome do_trim(struct harness *harness, struct store_trim *trim);
enum store_outcome do_read_task(struct harness *harness, struct read_task *read);
enum store_outcome do_read_match(struct harness *harness, struct read_match *read);
enum store_outcome do_read_list(struct harness *harness, struct read_list *read);
enum store_outcome do_read_events(struct harness *harness, struct read_events *read);
enum store_outcome do_read_output(struct harness *harness, struct read_output *read);
enum store_outcome do_read_position(struct harness *harness, struct read_position *read);
enum store_outcome do_read_counts(struct harness *harness, struct read_counts *read);
enum store_outcome do_delivery_claim(struct harness *harness, struct store_delivery_claim *claim);
enum store_outcome do_delivery_settle(struct harness *harness, struct store_delivery_settle *settle);
enum store_outcome do_read_deliveries(struct harness *harness, struct read_deliveries *read);

/* Deletes a directory with all that is in it. */
void remove_tree(const char *path);

/* Runs the loop until *flag; ends the program after a minute. */
void harness_wait(struct harness *harness, const bool *flag);

/* A submission with a new id for tenant "t", queue "default", executor "noop"; the rest is for the test to change. */
struct submission submission_of(struct harness *harness);

/* The common lines of tests. Each ends the program when the store fails. */
struct uuid submit_one(struct harness *harness, const struct submission *submission);
struct uuid submit_running(struct harness *harness, const struct submission *submission, const char *locked_by);
/* Claims up to `slots` of executor "noop" for "me#1"; the ids in the order claimed. Returns how many. */
size_t claim_ids(struct harness *harness, int slots, struct uuid *ret_ids);
/* One transition; the result is a copy whose pointers live until the next call. */
struct settle_result settle_one(struct harness *harness, const struct transition *transition);
/* Equal but for white space, which a store need not keep; without quotes inside strings. */
bool same_json(struct bytes json, const char *expected);
struct task_guard guard_of(const struct uuid *id, int attempt, const char *locked_by);
/* A copy whose pointers live until the next call; status 0 and a nil id where there is none. */
struct task task_of(struct harness *harness, const struct uuid *id);
/* The kinds of a task's events as letters in their order: Queued Running reTrying teSt staGe Completed Failed
 * X (cancelled); "!" where a sequence is not one more than the one before. Lives until the next call. */
const char *events_of(struct harness *harness, const struct uuid *id);

#endif
