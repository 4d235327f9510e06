/* Chains in a power-of-two number of slots, doubled when there are as many entries as slots. Keys are hashed
 * with SipHash-1-3 (https://www.aumasson.jp/siphash/), whose key is drawn once in a process: that key is the one
 * thing here that is not owned by a struct, since a hash must mean the same in every table. */
#include "base/table.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/text.h"

#define FIRST_SLOTS 16

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static uint64_t hash_key[2];

static void key_draw(void)
{
	random_bytes(hash_key, sizeof(hash_key));
}

static inline uint64_t rotate(uint64_t value, int bits)
{
	return value << bits | value >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

uint64_t hash_bytes(struct bytes bytes)
{
	pthread_once(&key_once, key_draw);
	uint64_t v[4] = { hash_key[0] ^ 0x736f6d6570736575u, hash_key[1] ^ 0x646f72616e646f6du,
		hash_key[0] ^ 0x6c7967656e657261u, hash_key[1] ^ 0x7465646279746573u };
	size_t left = bytes.len;
	const char *at = bytes.data;
	for (; left >= 8; at += 8, left -= 8) {
		uint64_t word;
		memcpy(&word, at, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	uint64_t last = 0;
	if (left > 0)
		memcpy(&last, at, left);
	/* The length stands in the byte that the rest of the text never reaches, on either byte order. */
	last ^= (uint64_t)bytes.len << 56;
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static size_t slot_of(const struct table *table, uint64_t hash)
{
	return (size_t)hash & (table->slot_count - 1);
}

struct table_node *table_find(const struct table *table, struct bytes key)
{
	if (table->count == 0)
		return NULL;
	uint64_t hash = hash_bytes(key);
	for (struct table_node *node = table->slots[slot_of(table, hash)]; node; node = node->next)
		if (node->hash == hash && bytes_equal(node->key, key))
			return node;
	return NULL;
}

static void grow(struct table *table)
{
	struct table old = *table;
	table->slot_count = old.slot_count > 0 ? old.slot_count * 2 : FIRST_SLOTS;
	table->slots = alloc_array(table->slot_count, sizeof(table->slots[0]));
	for (size_t i = 0; i < old.slot_count; i++) {
		for (struct table_node *node = old.slots[i], *next; node; node = next) {
			struct table_node **slot = &table->slots[slot_of(table, node->hash)];
			next = node->next;
			node->next = *slot;
			*slot = node;
		}
	}
	free(old.slots);
}

void table_insert(struct table *table, struct table_node *node)
{
	if (table->count >= table->slot_count)
		grow(table);
	node->hash = hash_bytes(node->key);
	struct table_node **slot = &table->slots[slot_of(table, node->hash)];
	node->next = *slot;
	*slot = node;
	table->count++;
}

void table_remove(struct table *table, struct table_node *node)
{
	struct table_node **link = &table->slots[slot_of(table, node->hash)];
	while (*link != node)
		link = &(*link)->next;
	*link = node->next;
	node->next = NULL;
	table->count--;
}

struct table_node *table_next(const struct table *table, const struct table_node *after)
{
	if (after && after->next)
		return after->next;
	for (size_t i = after ? slot_of(table, after->hash) + 1 : 0; i < table->slot_count; i++)
		if (table->slots[i])
			return table->slots[i];
	return NULL;
}

void table_fini(struct table *table)
{
	free(table->slots);
	*table = (struct table){ 0 };
}
