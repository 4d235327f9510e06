#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What process 1 would say of a success, as launch/plan.h has it. */
struct report {
	uint64_t magic;
	uint32_t kind;
	int32_t value;
	uint32_t flags, reserved;
	int64_t wall_us, cpu_us, memory_bytes;
	char where[64];
};

int main(void)
{
	struct report report = { .magic = UINT64_C(0x2174726f706572fe), .kind = 2 };
	char path[64];
	puts("{\"status\":\"succeeded\",\"exit_code\":0,\"tests\":[{\"name\":\"all\",\"status\":\"passed\"}]}");
	fflush(stdout);
	for (int fd = 3; fd < 1024; fd++)
		if (write(fd, &report, sizeof(report)) > 0)
			_exit(99);
	for (int fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/1/fd/%d", fd);
		FILE *file = fopen(path, "w");
		if (file)
			_exit(98);
	}
	write(1, &report, sizeof(report));
	write(2, &report, sizeof(report));
	if (fork() == 0)
		for (;;)
			if (write(2, &report, sizeof(report)) < 0 || usleep(1000))
				_exit(0);
	usleep(20000);
	return 3;
}
