/* A bucket that would be full by now says nothing, and is forgotten where there are many. */
#include "api/rate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/table.h"

#define BURST_S 2
#define WAIT_MAX_S 3600
#define BUCKETS_KEPT 1024

struct token_bucket {
	struct table_node node;
	double tokens;
	int64_t at_us;
	double per_second; /* when it was last used */
	char name[];
};

struct rate {
	struct table buckets;
	size_t swept_at; /* so many there were after the last sweep */
};

struct rate *rate_new(void)
{
	return alloc(sizeof(struct rate));
}

static double burst(double per_second)
{
	return per_second * BURST_S > 1 ? per_second * BURST_S : 1;
}

static double tokens_now(const struct token_bucket *bucket, double per_second, int64_t now_us)
{
	double seconds = now_us > bucket->at_us ? (double)(now_us - bucket->at_us) / US_PER_S : 0;
	return fmin(bucket->tokens + seconds * per_second, burst(per_second));
}

static void sweep(struct rate *rate, int64_t now_us)
{
	struct table_node *node = table_next(&rate->buckets, NULL), *next;
	for (; node; node = next) {
		struct token_bucket *bucket = CONTAINER_OF(node, struct token_bucket, node);
		next = table_next(&rate->buckets, node);
		if (tokens_now(bucket, bucket->per_second, now_us) < burst(bucket->per_second))
			continue;
		table_remove(&rate->buckets, node);
		free(bucket);
	}
	rate->swept_at = rate->buckets.count;
}

static struct token_bucket *bucket_of(struct rate *rate, struct bytes tenant, double per_second, int64_t now_us)
{
	struct table_node *node = table_find(&rate->buckets, tenant);
	if (node)
		return CONTAINER_OF(node, struct token_bucket, node);
	if (rate->buckets.count > BUCKETS_KEPT + rate->swept_at * 2)
		sweep(rate, now_us);
	struct token_bucket *bucket = alloc(sizeof(*bucket) + tenant.len + 1);
	if (tenant.len)
		memcpy(bucket->name, tenant.data, tenant.len);
	bucket->node.key = (struct bytes){ bucket->name, tenant.len };
	bucket->tokens = burst(per_second);
	bucket->at_us = now_us;
	table_insert(&rate->buckets, &bucket->node);
	return bucket;
}

bool rate_take(struct rate *rate, struct bytes tenant, double per_second, int64_t now_us, int *ret_wait_s)
{
	struct token_bucket *bucket = bucket_of(rate, tenant, per_second, now_us);
	bucket->tokens = tokens_now(bucket, per_second, now_us);
	bucket->at_us = now_us;
	bucket->per_second = per_second;
	if (bucket->tokens >= 1) {
		bucket->tokens -= 1;
		return true;
	}
	double wait_s = ceil((1 - bucket->tokens) / per_second);
	*ret_wait_s = wait_s < WAIT_MAX_S ? (int)wait_s : WAIT_MAX_S;
	return false;
}

void rate_free(struct rate *rate)
{
	if (!rate)
		return;
	struct table_node *node = table_next(&rate->buckets, NULL), *next;
	for (; node; node = next) {
		next = table_next(&rate->buckets, node);
		free(CONTAINER_OF(node, struct token_bucket, node));
	}
	table_fini(&rate->buckets);
	free(rate);
}
