/* The pure parts of the API: the cache of status objects, percent-encoding, networks of anonymous clients. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "api/access.h"
#include "api/body.h"
#include "api/route.h"
#include "api/status_cache.h"
#include "base/clock.h"
#include "test.h"

static struct uuid id_of(unsigned number)
{
	struct uuid id = { { 1 } };
	id.bytes[14] = (uint8_t)(number >> 8);
	id.bytes[15] = (uint8_t)number;
	return id;
}

static void put(struct status_cache *cache, unsigned number, const char *body)
{
	struct uuid id = id_of(number);
	struct status_entry entry = { bytes_of(body), BYTES_LITERAL("tenant"), 1 };
	status_cache_put(cache, &id, entry, status_cache_generation(cache));
}

static const char *get(struct status_cache *cache, unsigned number)
{
	struct uuid id = id_of(number);
	const struct status_entry *entry = status_cache_find(cache, &id);
	return entry && entry->body.len == 4 ? entry->body.data : NULL;
}

TEST(the_least_recently_used_goes_first)
{
	struct status_cache *cache = status_cache_new(4096, 0);
	for (unsigned i = 0; i < 100; i++) {
		put(cache, i, "body");
		CHECK(get(cache, 0) != NULL); /* used again and again */
		CHECK(status_cache_figures(cache).bytes <= 4096);
	}
	CHECK(get(cache, 99) != NULL);
	CHECK(get(cache, 1) == NULL);
	CHECK(status_cache_figures(cache).count < 40);
	status_cache_clear(cache);
	CHECK_INT(status_cache_figures(cache).bytes, 0);
	CHECK(get(cache, 0) == NULL);
	status_cache_free(cache);
}

TEST(what_was_read_before_a_task_was_run_again_is_not_kept)
{
	struct status_cache *cache = status_cache_new(65536, 0);
	struct uuid id = id_of(7);
	struct status_entry entry = { BYTES_LITERAL("body"), BYTES_LITERAL("t"), 1 };
	uint64_t before = status_cache_generation(cache);
	status_cache_drop(cache, &id);
	status_cache_put(cache, &id, entry, before);
	CHECK(get(cache, 7) == NULL);
	put(cache, 7, "body");
	CHECK(get(cache, 7) != NULL);
	put(cache, 7, "BODY");
	CHECK_INT(status_cache_figures(cache).count, 1);
	CHECK(memcmp(get(cache, 7), "BODY", 4) == 0);
	status_cache_drop(cache, &id);
	CHECK(get(cache, 7) == NULL);
	/* One that is too large for its share is not taken. */
	static char large[8192];
	memset(large, 'x', sizeof(large) - 1);
	put(cache, 8, large);
	CHECK_INT(status_cache_figures(cache).count, 0);
	status_cache_free(cache);
}

TEST(where_others_have_the_store_an_entry_has_its_time)
{
	struct status_cache *cache = status_cache_new(65536, 3600 * US_PER_S);
	put(cache, 1, "body");
	CHECK(get(cache, 1) != NULL);
	status_cache_free(cache);
	cache = status_cache_new(65536, 1);
	put(cache, 1, "body");
	int64_t put_before_us = clock_monotonic_us();
	while (clock_monotonic_us() <= put_before_us)
		;
	CHECK(get(cache, 1) == NULL);
	CHECK_INT(status_cache_figures(cache).count, 0);
	CHECK_INT(status_cache_figures(cache).misses, 1);
	status_cache_free(cache);
}

static void check_decoded(const char *from, bool query, struct bytes wanted)
{
	struct arena arena = { 0 };
	if (!CHECK_BYTES(percent_decode(&arena, bytes_of(from), query), wanted))
		printf("# %s\n", from);
	arena_fini(&arena);
}

TEST(percent_encoding)
{
	check_decoded("plain", false, BYTES_LITERAL("plain"));
	check_decoded("", true, BYTES_LITERAL(""));
	check_decoded("a+b", false, BYTES_LITERAL("a+b"));
	check_decoded("a+b%2B", true, BYTES_LITERAL("a b+"));
	check_decoded("%41%6a%6A", false, BYTES_LITERAL("Ajj"));
	check_decoded("%00", true, BYTES_LITERAL("\0"));
	check_decoded("%", false, BYTES_NONE);
	check_decoded("%4", false, BYTES_NONE);
	check_decoded("%4g", false, BYTES_NONE);
	check_decoded("%zz", true, BYTES_NONE);
}

static enum access_outcome from(const char *networks, const char *address)
{
	struct api_access settings = { .anonymous_role = ROLE_READ, .anonymous_from = networks };
	struct access *access;
	struct err err;
	REQUIRE(access_new(&settings, &access, &err) == 0);
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	bool is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
	if (!is_v4)
		REQUIRE(inet_pton(AF_INET6, address, &v6.sin6_addr) == 1);
	struct http_request request = {
		.peer = is_v4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6,
	};
	struct principal who;
	enum access_outcome outcome = access_identify(access, &request, &who);
	if (outcome == ACCESS_KNOWN)
		CHECK_BYTES(who.tenant, "anonymous");
	access_free(access);
	return outcome;
}

TEST(networks_of_anonymous_clients)
{
	CHECK_INT(from(NULL, "203.0.113.9"), ACCESS_KNOWN);
	CHECK_INT(from("10.0.0.0/8", "10.255.0.1"), ACCESS_KNOWN);
	CHECK_INT(from("10.0.0.0/8", "11.0.0.1"), ACCESS_NO_TOKEN);
	CHECK_INT(from("10.0.0.0/8", "::ffff:10.1.2.3"), ACCESS_KNOWN);
	CHECK_INT(from("192.168.1.128/25", "192.168.1.127"), ACCESS_NO_TOKEN);
	CHECK_INT(from("192.168.1.128/25", "192.168.1.200"), ACCESS_KNOWN);
	CHECK_INT(from("fd00::/8, 10.0.0.1", "fd12::1"), ACCESS_KNOWN);
	CHECK_INT(from("fd00::/8, 10.0.0.1", "10.0.0.1"), ACCESS_KNOWN);
	CHECK_INT(from("fd00::/8, 10.0.0.1", "10.0.0.2"), ACCESS_NO_TOKEN);
	CHECK_INT(from("0.0.0.0/0", "203.0.113.9"), ACCESS_KNOWN);
	CHECK_INT(from("0.0.0.0/0", "fd12::1"), ACCESS_NO_TOKEN);

	struct access *access;
	struct err err;
	static const char *const wrong[] = { "10.0.0.0/33", "10.0.0/8", "x", "::/129", "10.0.0.0/8 11.0.0.0/8" };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK(access_new(&(struct api_access){ .anonymous_from = wrong[i] }, &access, &err) < 0);
}

static bool parses(struct bytes text, struct body_memory *memory)
{
	yyjson_read_err fault;
	yyjson_doc *document = body_parse(text, memory, &fault);
	yyjson_doc_free(document);
	return document != NULL;
}

static struct bytes repeated(struct buffer *buffer, const char *begin, const char *part, size_t count, const char *end)
{
	buffer_clear(buffer);
	buffer_append_string(buffer, begin);
	for (size_t i = 0; i < count; i++)
		buffer_append_string(buffer, part);
	buffer_append_string(buffer, end);
	return buffer_bytes(buffer);
}

TEST(a_body_of_brackets_does_not_become_sixteen_times_as_large)
{
	struct buffer buffer = BUFFER_MAX(16 << 20);
	struct bytes evaluations =
		repeated(&buffer, "[", "{\"code\":\"print(1)\",\"timeout\":1,\"args\":[1,2,3]},", 100000, "null]");
	struct body_memory memory = body_memory_for(evaluations);
	CHECK(parses(evaluations, &memory));
	struct bytes small = repeated(&buffer, "[", "1,", 200000, "1]");
	memory = body_memory_for(small);
	CHECK(parses(small, &memory));
	struct bytes brackets = repeated(&buffer, "[", "[],", 2500000, "[]]");
	memory = body_memory_for(brackets);
	CHECK(!parses(brackets, &memory));
	/* The lines of one body share it. */
	size_t lines = 0;
	memory = body_memory_for(brackets);
	while (lines < 100 && parses(small, &memory))
		lines++;
	CHECK(lines < 100);
	buffer_fini(&buffer);
}

TEST_MAIN()
