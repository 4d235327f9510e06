/* Memory of our own that is kept for the next use: a build with AddressSanitizer tells of who touches it meanwhile, as it does of what
 * was freed; in others these do nothing (compiler-rt, sanitizer/asan_interface.h). */
#ifndef ASSAY_BASE_POISON_H
#define ASSAY_BASE_POISON_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define BUILT_WITH_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BUILT_WITH_ADDRESS_SANITIZER 1
#endif
#endif

#ifdef BUILT_WITH_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
static inline void poison(const void *memory, size_t size)
{
	ASAN_POISON_MEMORY_REGION(memory, size);
}
static inline void unpoison(const void *memory, size_t size)
{
	ASAN_UNPOISON_MEMORY_REGION(memory, size);
}
#else
static inline void poison(const void *memory, size_t size)
{
}
static inline void unpoison(const void *memory, size_t size)
{
}
#endif

#endif
