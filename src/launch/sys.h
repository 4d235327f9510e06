/* System calls without a C library. assay-launch is executed twice for every step, and the start of a static glibc program costs 0.3 ms on a
 * virtual machine (it asks the processor what it is by dozens of cpuid instructions, each of which traps): a twentieth of the whole launch.
 * Without it there is also less that runs as root. Structs and constants are those of the C library's headers, which on 64-bit
 * machines are the kernel's.
 *
 * Every function returns what the kernel does: a negative errno on failure. */
#ifndef ASSAY_LAUNCH_SYS_H
#define ASSAY_LAUNCH_SYS_H

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>

#if defined(__x86_64__)
static inline long sys_call(long number, long a, long b, long c, long d, long e, long f)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
#define SYS_START \
	".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall launch_start\n\tud2\n"
#elif defined(__aarch64__)
static inline long sys_call(long number, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#define SYS_START \
	".globl _start\n_start:\n\tmov x29, #0\n\tmov x0, sp\n\tand sp, x0, #-16\n\tbl launch_start\n\tbrk #0\n"
#else
#error "assay-launch knows the system calls of x86-64 and of 64-bit ARM"
#endif

#define SYS_NUMBER(value) ((long)(uintptr_t)(value))
#define SYS_6(number, a, b, c, d, e, f) \
	sys_call((number), SYS_NUMBER(a), SYS_NUMBER(b), SYS_NUMBER(c), SYS_NUMBER(d), SYS_NUMBER(e), SYS_NUMBER(f))
#define SYS_4(number, a, b, c, d) SYS_6(number, a, b, c, d, 0, 0)
#define SYS_3(number, a, b, c) SYS_6(number, a, b, c, 0, 0, 0)
#define SYS_2(number, a, b) SYS_6(number, a, b, 0, 0, 0, 0)
#define SYS_1(number, a) SYS_6(number, a, 0, 0, 0, 0, 0)

static inline void __attribute__((noreturn)) sys_exit(int code)
{
	for (;;)
		SYS_1(SYS_exit_group, code);
}

static inline int sys_openat(int directory, const char *path, int flags, mode_t mode)
{
	return (int)SYS_4(SYS_openat, directory, path, flags, mode);
}

static inline int sys_close(int fd)
{
	return (int)SYS_1(SYS_close, fd);
}

static inline long sys_read(int fd, void *data, size_t len)
{
	return SYS_3(SYS_read, fd, data, len);
}

static inline long sys_write(int fd, const void *data, size_t len)
{
	return SYS_3(SYS_write, fd, data, len);
}

static inline int sys_dup2(int from, int to)
{
	return (int)SYS_3(SYS_dup3, from, to, 0);
}

static inline int sys_fcntl(int fd, int command, long argument)
{
	return (int)SYS_3(SYS_fcntl, fd, command, argument);
}

/* NULL on failure. */
static inline void *sys_map(size_t len, int protection, int flags, int fd)
{
	long at = SYS_6(SYS_mmap, 0, len, protection, flags, fd, 0);
	return at < 0 && at > -4096 ? NULL : (void *)at;
}

static inline int sys_fstat(int fd, struct stat *st)
{
	return (int)SYS_2(SYS_fstat, fd, st);
}

static inline int sys_lstatat(int directory, const char *path, struct stat *st)
{
	return (int)SYS_4(SYS_newfstatat, directory, path, st, AT_SYMLINK_NOFOLLOW);
}

static inline int sys_mkdirat(int directory, const char *path, mode_t mode)
{
	return (int)SYS_3(SYS_mkdirat, directory, path, mode);
}

static inline int sys_unlinkat(int directory, const char *path, int flags)
{
	return (int)SYS_3(SYS_unlinkat, directory, path, flags);
}

static inline int sys_waitpid(int pid, int *status, int options)
{
	return (int)SYS_4(SYS_wait4, pid, status, options, 0);
}

static inline int sys_kill(int pid, int number)
{
	return (int)SYS_2(SYS_kill, pid, number);
}

static inline int sys_getpid(void)
{
	return (int)SYS_1(SYS_getpid, 0);
}

/* A set of signals as the kernel has it. */
static inline uint64_t sys_signal_bit(int number)
{
	return UINT64_C(1) << (number - 1);
}

/* What the compiler calls by itself, and what is needed of the C library's strings. */
void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memmove(void *to, const void *from, size_t len);
void *memset(void *to, int byte, size_t len);
int memcmp(const void *a, const void *b, size_t len);
size_t strlen(const char *text);

bool text_equal(const char *a, const char *b);
/* Appends to the text in `to`, cutting what does not fit into size bytes. */
void text_append(char *to, size_t size, const char *more);
void text_append_number(char *to, size_t size, uint64_t number);

/* A directory's entries, one after another. */
struct sys_directory {
	int fd;
	long len, at;
	char buffer[2048] __attribute__((aligned(8)));
};
/* The next name other than . and .., or NULL. */
const char *sys_directory_next(struct sys_directory *directory);

#endif
