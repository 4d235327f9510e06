#include "base/config.h"

#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "test.h"

enum level { LEVEL_LOW, LEVEL_HIGH };

struct options {
	const char *listen, *password, *port, *url, *config;
	int64_t slots, lease_us, body_bytes;
	bool json, help;
	int level;
	struct setting_list executors;
};

static const char *const levels[] = { "low", "high", NULL };
static const struct setting settings[] = {
	{ .help = "Service" },
	{ .name = "listen",
		.env = "ASSAY_LISTEN",
		.flag = "listen",
		.default_text = "127.0.0.1:8090",
		.value_name = "HOST:PORT",
		.help = "where the API listens",
		.min = 1,
		.offset = offsetof(struct options, listen) },
	{ .name = "slots",
		.env = "ASSAY_SLOTS",
		.flag = "slots",
		.type = SETTING_INT,
		.default_text = "4",
		.min = 1,
		.max = 100,
		.help = "jobs at once",
		.offset = offsetof(struct options, slots) },
	{ .name = "lease",
		.env = "ASSAY_LEASE",
		.flag = "lease",
		.type = SETTING_SECONDS,
		.default_text = "15",
		.min = 1,
		.max = 3600,
		.help = "lease of a replica",
		.offset = offsetof(struct options, lease_us) },
	{ .name = "body_limit",
		.env = "ASSAY_BODY_LIMIT",
		.flag = "body-limit",
		.type = SETTING_BYTES,
		.default_text = "4Mi",
		.min = 1024,
		.help = "largest body",
		.offset = offsetof(struct options, body_bytes) },
	{ .name = "log_json",
		.env = "ASSAY_LOG_JSON",
		.flag = "log-json",
		.type = SETTING_BOOL,
		.default_text = "false",
		.help = "log as JSON",
		.offset = offsetof(struct options, json) },
	{ .name = "level",
		.env = "ASSAY_LEVEL",
		.flag = "level",
		.type = SETTING_ENUM,
		.words = levels,
		.default_text = "low",
		.help = "how much",
		.offset = offsetof(struct options, level) },
	{ .name = "executors",
		.env = "ASSAY_EXECUTORS",
		.flag = "executors",
		.type = SETTING_LIST,
		.default_text = "sandbox",
		.min = 1,
		.max = 4,
		.help = "where jobs run",
		.offset = offsetof(struct options, executors) },
	{ .help = "Store" },
	{ .name = "password",
		.env = "POSTGRES_PASSWORD",
		.secret = true,
		.help = "the password",
		.offset = offsetof(struct options, password) },
	{ .name = "port",
		.env = "POSTGRES_PORT",
		.flag = "port",
		.help = "the port",
		.ignored_prefix = "tcp://",
		.offset = offsetof(struct options, port) },
	{ .name = "url", .env = "ASSAY_URL", .flag = "url", .help = "a URL", .offset = offsetof(struct options, url) },
	{ .name = "config",
		.env = "ASSAY_CONFIG",
		.flag = "config",
		.help = "the config file",
		.default_text = "/nonexistent/assay.conf",
		.offset = offsetof(struct options, config) },
	{ .name = "help",
		.flag = "help",
		.type = SETTING_BOOL,
		.help = "show this",
		.offset = offsetof(struct options, help) },
};

struct fixture {
	struct options options;
	struct config *config;
	struct err err;
	int rc;
};

#define WORDS(...) ((char *[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })
#define W(text) ((char *)(text))

/* Arguments without the program's name, and the environment, both ending with NULL; the file's text or NULL. */
static void setup(struct fixture *fixture, char **arguments, char **environment, const char *file)
{
	char *argv[16] = { W("assayd") };
	int argc = 1;
	while (arguments[argc - 1]) {
		argv[argc] = arguments[argc - 1];
		argc++;
	}
	*fixture = (struct fixture){ 0 };
	fixture->config = config_new(settings, ARRAY_SIZE(settings), &fixture->options);
	struct config_input input = { argc, argv, environment, bytes_of(file) };
	fixture->rc = config_read(fixture->config, &input, &fixture->err);
}

static void teardown(struct fixture *fixture)
{
	config_free(fixture->config);
}

static void refuses(char **arguments, char **environment, const char *file, int code, const char *message)
{
	struct fixture f;
	setup(&f, arguments, environment, file);
	CHECK_INT(f.rc, code);
	CHECK_STR(f.err.message, message);
	teardown(&f);
}

static char *temporary_file(const char *content)
{
	char *path = string_copy("/tmp/assay-test-config-XXXXXX");
	int fd = mkstemp(path);
	REQUIRE(fd >= 0);
	REQUIRE(write(fd, content, strlen(content)) == (ssize_t)strlen(content));
	close(fd);
	return path;
}

/* What `print` prints; the caller frees it. */
static char *printed(const struct config *config, void (*print)(const struct config *, FILE *))
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	REQUIRE(out != NULL);
	print(config, out);
	fclose(out);
	return text;
}

TEST(defaults)
{
	struct fixture f;
	setup(&f, WORDS(NULL), WORDS(NULL), NULL);
	CHECK_INT(f.rc, 0);
	CHECK_STR(f.options.listen, "127.0.0.1:8090");
	CHECK_INT(f.options.slots, 4);
	CHECK_INT(f.options.lease_us, 15000000);
	CHECK_INT(f.options.body_bytes, 4 << 20);
	CHECK_INT(f.options.json, false);
	CHECK_INT(f.options.level, LEVEL_LOW);
	CHECK_INT(f.options.executors.count, 1);
	CHECK_STR(f.options.executors.items[0], "sandbox");
	CHECK_STR(f.options.password, NULL);
	CHECK_INT(config_source(f.config, "listen"), CONFIG_DEFAULT);
	CHECK_STR(config_where(f.config, "listen"), "default");
	CHECK_STR(config_where(f.config, "password"), "not set");
	CHECK_STR(config_where(f.config, "no such"), "not set");
	teardown(&f);
}

TEST(flag_before_environment_before_file_before_default)
{
	const char *file = "slots = 7\nlease = 1m\nlisten = file:1\n";
	struct fixture f;
	setup(&f, WORDS(W("--listen=flag:1")), WORDS(W("ASSAY_LISTEN=env:1"), W("ASSAY_SLOTS=8")), file);
	CHECK_INT(f.rc, 0);
	CHECK_STR(f.options.listen, "flag:1");
	CHECK_STR(config_where(f.config, "listen"), "--listen");
	CHECK_INT(f.options.slots, 8);
	CHECK_STR(config_where(f.config, "slots"), "ASSAY_SLOTS");
	CHECK_INT(f.options.lease_us, 60000000);
	CHECK_STR(config_where(f.config, "lease"), "config:2");
	CHECK_INT(config_source(f.config, "lease"), CONFIG_FILE);
	teardown(&f);
}

TEST(flags_in_all_their_forms)
{
	struct fixture f;
	setup(&f,
		WORDS(W("run"), W("--slots"), W("9"), W("--slots=10"), W("--log-json"), W("--executors=a, b"),
			W("--level"), W("high"), W("--"), W("--slots"), W("-")),
		WORDS(NULL), NULL);
	CHECK_INT(f.rc, 0);
	CHECK_INT(f.options.slots, 10);
	CHECK_INT(f.options.json, true);
	CHECK_INT(f.options.level, LEVEL_HIGH);
	CHECK_INT(f.options.executors.count, 2);
	CHECK_STR(f.options.executors.items[1], "b");
	size_t count;
	const char *const *arguments = config_arguments(f.config, &count);
	CHECK_INT(count, 3);
	CHECK_STR(arguments[0], "run");
	CHECK_STR(arguments[1], "--slots");
	CHECK_STR(arguments[2], "-");
	teardown(&f);

	setup(&f, WORDS(W("--no-log-json"), W("-h")), WORDS(W("ASSAY_LOG_JSON=yes")), NULL);
	CHECK_INT(f.rc, 0);
	CHECK_INT(f.options.json, false);
	CHECK_INT(f.options.help, true);
	teardown(&f);
}

TEST(wrong_flags)
{
	refuses(WORDS(W("--listne=x")), WORDS(NULL), NULL, -EINVAL, "unknown flag --listne; did you mean --listen?");
	refuses(WORDS(W("--ASSAY_SLOTS=x")), WORDS(NULL), NULL, -EINVAL,
		"unknown flag --ASSAY_SLOTS; did you mean --slots?");
	refuses(WORDS(W("--body_limit=1")), WORDS(NULL), NULL, -EINVAL,
		"unknown flag --body_limit; did you mean --body-limit?");
	refuses(WORDS(W("--xyzzy")), WORDS(NULL), NULL, -EINVAL, "unknown flag --xyzzy; --help lists them all");
	refuses(WORDS(W("--no-slots")), WORDS(NULL), NULL, -EINVAL, "unknown flag --no-slots; --help lists them all");
	refuses(WORDS(W("--password=x")), WORDS(NULL), NULL, -EINVAL,
		"unknown flag --password; password comes by the environment variable POSTGRES_PASSWORD or a file that "
		"it "
		"names with _FILE");
	refuses(WORDS(W("-x")), WORDS(NULL), NULL, -EINVAL, "unknown flag -x; flags begin with two dashes");
	refuses(WORDS(W("--listen")), WORDS(NULL), NULL, -EINVAL, "--listen needs a value, HOST:PORT");
}

TEST(wrong_values_say_where_they_stand)
{
	refuses(WORDS(W("--slots=many")), WORDS(NULL), NULL, -EINVAL, "--slots (slots): 'many' is not a whole number");
	refuses(WORDS(W("--slots=0")), WORDS(NULL), NULL, -ERANGE, "--slots (slots): must be between 1 and 100");
	refuses(WORDS(W("--slots=101")), WORDS(NULL), NULL, -ERANGE, "--slots (slots): must be between 1 and 100");
	refuses(WORDS(NULL), WORDS(W("ASSAY_LOG_JSON=maybe")), NULL, -EINVAL,
		"ASSAY_LOG_JSON (log_json): 'maybe' is neither true nor false");
	refuses(WORDS(NULL), WORDS(NULL), "\n# one\nlevel = middle\n", -EINVAL,
		"config:3: level: 'middle' is not one of low|high");
	refuses(WORDS(W("--lease=0.5")), WORDS(NULL), NULL, -ERANGE, "--lease (lease): must be between 1 and 3600 s");
	refuses(WORDS(W("--lease=5x")), WORDS(NULL), NULL, -EINVAL,
		"--lease (lease): '5x' is not a duration such as 5, 0.5, 300ms, 10m or 24h");
	refuses(WORDS(W("--body-limit=1Q")), WORDS(NULL), NULL, -EINVAL,
		"--body-limit (body_limit): '1Q' is not a quantity such as 512Mi, 500m or 2.5");
	refuses(WORDS(W("--body-limit=1k")), WORDS(NULL), NULL, -ERANGE,
		"--body-limit (body_limit): must be at least 1024 bytes");
	refuses(WORDS(W("--executors=a,,b")), WORDS(NULL), NULL, -EINVAL,
		"--executors (executors): item 2 of the list is empty");
	refuses(WORDS(W("--executors=")), WORDS(NULL), NULL, -ERANGE,
		"--executors (executors): must be between 1 and 4 items");
	refuses(WORDS(W("--executors=a,b,c,d,e")), WORDS(NULL), NULL, -ERANGE,
		"--executors (executors): must be between 1 and 4 items");
	refuses(WORDS(W("--listen=")), WORDS(NULL), NULL, -ERANGE, "--listen (listen): must not be empty");
}

TEST(a_wrong_value_that_is_overridden_hurts_nobody)
{
	struct fixture f;
	setup(&f, WORDS(W("--slots=5")), WORDS(W("ASSAY_SLOTS=many")), "slots = lots\n");
	CHECK_INT(f.rc, 0);
	CHECK_INT(f.options.slots, 5);
	teardown(&f);
}

TEST(durations)
{
	static const struct {
		const char *text;
		int64_t us;
	} examples[] = { { "1", 1000000 }, { "1.5", 1500000 }, { "1500ms", 1500000 }, { "2s", 2000000 },
		{ "10m", 600000000 }, { "0.5h", 1800000000 }, { "1.0000019", 1000001 }, { "1h", 3600000000 },
		{ "0.01d", 864000000 }, { "1.", 1000000 }, { "1000.25ms", 1000250 } };
	static const char *const refused[] = { "", "s", "1 s", "1S", "1.5.5", ".", "1e3", "+1", "99999999999999999999",
		"9223372036854775807", "9999999999999d" };
	for (size_t i = 0; i < ARRAY_SIZE(examples); i++) {
		struct fixture f;
		char flag[64];
		snprintf(flag, sizeof(flag), "--lease=%s", examples[i].text);
		setup(&f, WORDS(flag), WORDS(NULL), NULL);
		if (!CHECK_INT(f.rc, 0) || !CHECK_INT(f.options.lease_us, examples[i].us))
			CHECK_STR(examples[i].text, "");
		teardown(&f);
	}
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct fixture f;
		char flag[64];
		snprintf(flag, sizeof(flag), "--lease=%s", refused[i]);
		setup(&f, WORDS(flag), WORDS(NULL), NULL);
		if (!CHECK_INT(f.rc, -EINVAL))
			CHECK_STR(refused[i], "refused");
		teardown(&f);
	}
	refuses(WORDS(W("--lease=-1")), WORDS(NULL), NULL, -ERANGE, "--lease (lease): must be between 1 and 3600 s");
}

TEST(the_environment)
{
	struct fixture f;
	setup(&f, WORDS(NULL), WORDS(W("ASSAY_SLOTS="), W("ASSAY_SLOTSX=9"), W("POSTGRES_PORT=tcp://10.0.0.1:5432")),
		NULL);
	CHECK_INT(f.rc, 0);
	CHECK_INT(f.options.slots, 4);
	CHECK_STR(f.options.port, NULL);
	CHECK_INT(config_source(f.config, "port"), CONFIG_UNSET);
	teardown(&f);
	setup(&f, WORDS(NULL), WORDS(W("POSTGRES_PORT=5433")), NULL);
	CHECK_STR(f.options.port, "5433");
	teardown(&f);
}

TEST(secrets)
{
	char *path = temporary_file("s3cret\n");
	char variable[128];
	snprintf(variable, sizeof(variable), "POSTGRES_PASSWORD_FILE=%s", path);
	struct fixture f;
	setup(&f, WORDS(NULL), WORDS(variable), NULL);
	CHECK_INT(f.rc, 0);
	CHECK_STR(f.options.password, "s3cret");
	CHECK_STR(config_where(f.config, "password"), "POSTGRES_PASSWORD_FILE");
	char *text = printed(f.config, config_print_effective);
	CHECK(strstr(text, "s3cret") == NULL);
	CHECK(strstr(text, "# password = (hidden) # POSTGRES_PASSWORD_FILE\n") != NULL);
	free(text);
	teardown(&f);

	setup(&f, WORDS(NULL), WORDS(W("POSTGRES_PASSWORD=direct")), "password = from file\n");
	CHECK_STR(f.options.password, "direct");
	teardown(&f);
	refuses(WORDS(NULL), WORDS(variable, W("POSTGRES_PASSWORD=x")), NULL, -EINVAL,
		"POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set");
	refuses(WORDS(NULL), WORDS(W("POSTGRES_PASSWORD_FILE=/nonexistent/x")), NULL, -ENOENT,
		"POSTGRES_PASSWORD_FILE: /nonexistent/x: No such file or directory");
	unlink(path);
	free(path);
}

TEST(the_form_of_the_file)
{
	struct fixture f;
	setup(&f, WORDS(NULL), WORDS(NULL),
		"# a comment\r\n\n  \t# another\n listen=a#b # comment\r\nport = \" q\\\"\\\\ # \" # comment\n"
		"executors = a , b,c\nurl =\nlevel = high");
	CHECK_STR(f.err.message, "");
	CHECK_STR(f.options.listen, "a#b");
	CHECK_STR(f.options.port, " q\"\\ # ");
	CHECK_INT(f.options.executors.count, 3);
	CHECK_STR(f.options.url, "");
	CHECK_INT(f.options.level, LEVEL_HIGH);
	teardown(&f);
	refuses(WORDS(NULL), WORDS(NULL), "slots\n", -EINVAL, "config:1: not of the form key = value");
	refuses(WORDS(NULL), WORDS(NULL), "slot = 1\n", -EINVAL, "config:1: unknown key slot; did you mean slots?");
	refuses(WORDS(NULL), WORDS(NULL), "ASSAY_LISTEN = 1\n", -EINVAL,
		"config:1: unknown key ASSAY_LISTEN; did you mean listen?");
	refuses(WORDS(NULL), WORDS(NULL), "xyzzy = 1\n", -EINVAL, "config:1: unknown key xyzzy");
	refuses(WORDS(NULL), WORDS(NULL), "help = true\n", -EINVAL, "config:1: unknown key help");
	refuses(WORDS(NULL), WORDS(NULL), "= 1\n", -EINVAL, "config:1: unknown key ");
	refuses(WORDS(W("--slots=3")), WORDS(NULL), "slots = 1\n\nslots = 2\n", -EINVAL,
		"config:3: slots stands in config:1 too");
	refuses(WORDS(NULL), WORDS(NULL), "listen = \"x\n", -EINVAL,
		"config:1: listen: a quote is not closed, or text follows it");
	refuses(WORDS(NULL), WORDS(NULL), "listen = \"x\" y\n", -EINVAL,
		"config:1: listen: a quote is not closed, or text follows it");
	refuses(WORDS(NULL), WORDS(NULL), "listen = \xff\n", -EINVAL, "config: not a text in UTF-8");
}

TEST(the_file_is_named_by_a_setting)
{
	char *path = temporary_file("slots = 12\n");
	char flag[128], message[256];
	struct fixture f;
	snprintf(flag, sizeof(flag), "--config=%s", path);
	setup(&f, WORDS(flag), WORDS(NULL), NULL);
	CHECK_INT(f.options.slots, 12);
	snprintf(message, sizeof(message), "%s:1", path);
	CHECK_STR(config_where(f.config, "slots"), message);
	teardown(&f);
	unlink(path);
	snprintf(message, sizeof(message), "--config: %s: No such file or directory", path);
	refuses(WORDS(flag), WORDS(NULL), NULL, -ENOENT, message);
	free(path);
}

TEST(another_default)
{
	struct options options = { 0 };
	struct config *config = config_new(settings, ARRAY_SIZE(settings), &options);
	config_set_default(config, "slots", "32");
	config_set_default(config, "no such", "1");
	CHECK_INT(config_read(config, &(struct config_input){ 0 }, NULL), 0);
	CHECK_INT(options.slots, 32);
	CHECK_STR(config_where(config, "slots"), "default");
	config_free(config);
	config_free(NULL);
}

TEST(effective_settings_are_a_config_file)
{
	struct fixture f, again;
	setup(&f, WORDS(W("--slots=6"), W("--port=\"a\" # \\")), WORDS(W("ASSAY_EXECUTORS=a,b")), NULL);
	char *text = printed(f.config, config_print_effective);
	CHECK(strstr(text, "slots = 6 # --slots\n") != NULL);
	CHECK(strstr(text, "executors = a,b # ASSAY_EXECUTORS\n") != NULL);
	CHECK(strstr(text, "lease = 15 # default\n") != NULL);
	CHECK(strstr(text, "# url = # not set\n") != NULL);
	CHECK(strstr(text, "help") == NULL);
	setup(&again, WORDS(NULL), WORDS(NULL), text);
	CHECK_STR(again.err.message, "");
	CHECK_INT(again.options.slots, 6);
	CHECK_STR(again.options.port, "\"a\" # \\");
	CHECK_INT(again.options.executors.count, 2);
	teardown(&again);
	teardown(&f);
	free(text);

	setup(&f, WORDS(W("--url=postgres://user:p@ss:word@host:5/db"), W("--port=a\nlease = 3")), WORDS(NULL), NULL);
	text = printed(f.config, config_print_effective);
	CHECK(strstr(text, "url = postgres://user:***@host:5/db # --url\n") != NULL);
	CHECK(strstr(text, "\nport = a?lease = 3 # --port\n") != NULL);
	free(text);
	teardown(&f);
}

TEST(help)
{
	struct fixture f;
	setup(&f, WORDS(NULL), WORDS(W("POSTGRES_PASSWORD=s3cret")), NULL);
	char *text = printed(f.config, config_print_help);
	CHECK(strstr(text, "\nService:\n") != NULL);
	CHECK(strstr(text,
		      "  --listen HOST:PORT\n      where the API listens\n      [ASSAY_LISTEN, key listen, default "
		      "127.0.0.1:8090]\n") != NULL);
	CHECK(strstr(text, "  --level low|high\n") != NULL);
	CHECK(strstr(text, "  --log-json\n") != NULL);
	CHECK(strstr(text, "  --help\n      show this\n") != NULL);
	CHECK(strstr(text, "  POSTGRES_PASSWORD, POSTGRES_PASSWORD_FILE\n      the password\n      [key password]\n") !=
		NULL);
	CHECK(strstr(text, "s3cret") == NULL);
	free(text);
	teardown(&f);
}

TEST_MAIN()
