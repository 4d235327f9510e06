/* Blocks are zeroed when they are made, and each byte is handed out once, so what is handed out is zeroed.
 *
 * The arena owns its blocks. The head is the block that is being filled; what would not fit into a fresh
 * block without waste gets a block of its own behind the head, so that the head goes on being filled. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"

#define ALIGNMENT 16
#define FIRST_BLOCK 4096
#define LARGEST_BLOCK 65536

struct arena_block {
	struct arena_block *next; /* owned */
	size_t capacity, used; /* bytes of data */
	_Alignas(ALIGNMENT) char data[];
};

static struct arena_block *block_new(size_t capacity)
{
	if (capacity > SIZE_MAX - sizeof(struct arena_block))
		capacity = SIZE_MAX - sizeof(struct arena_block); /* which no system grants: ends the process */
	struct arena_block *block = alloc(sizeof(*block) + capacity);
	block->capacity = capacity;
	return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	struct arena_block *head = arena->head;
	size_t need = size == 0 ? ALIGNMENT : size;
	need = need > SIZE_MAX - ALIGNMENT ? SIZE_MAX : (need + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	if (!head || head->capacity - head->used < need) {
		size_t fresh = head ? head->capacity * 2 : FIRST_BLOCK - sizeof(struct arena_block);
		fresh = fresh > LARGEST_BLOCK ? LARGEST_BLOCK : fresh;
		if (head && need > fresh / 4) {
			struct arena_block *own = block_new(need);
			own->next = head->next;
			head->next = own;
			head = own;
		} else {
			struct arena_block *block = block_new(need > fresh ? need : fresh);
			block->next = head;
			arena->head = head = block;
		}
	}
	void *memory = head->data + head->used;
	head->used += need;
	arena->used += need;
	return memory;
}

void arena_begin(struct arena *arena, size_t size)
{
	if (!arena->head)
		arena->head = block_new(size);
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
	size_t total;
	if (__builtin_mul_overflow(count, size, &total))
		total = SIZE_MAX; /* ends the process */
	return arena_alloc(arena, total);
}

struct bytes arena_bytes(struct arena *arena, struct bytes from)
{
	if (!from.data)
		return BYTES_NONE;
	char *copy = arena_alloc(arena, from.len + 1);
	if (from.len > 0)
		memcpy(copy, from.data, from.len);
	return (struct bytes){ copy, from.len };
}

char *arena_string(struct arena *arena, const char *from)
{
	return (char *)arena_bytes(arena, bytes_of(from)).data;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (length < 0)
		length = 0; /* a bad conversion: the empty string */
	char *text = arena_alloc(arena, (size_t)length + 1);
	va_start(arguments, format);
	vsnprintf(text, (size_t)length + 1, format, arguments);
	va_end(arguments);
	return text;
}

void arena_fini(struct arena *arena)
{
	struct arena_block *block = arena->head;
	while (block) {
		struct arena_block *next = block->next;
		free(block);
		block = next;
	}
	*arena = (struct arena){ 0 };
}
