#include <fcntl.h>
#include <stdio.h>
#include <sys/shm.h>
#include <unistd.h>

/* Leaves a mark in every place it can think of, and fails where one is there already. */
int main(void)
{
	static const char *const places[] = { "mark", "/tmp/mark", "/dev/shm/mark", "/box/mark", "/box/home/mark" };
	for (int i = 0; i < 5; i++)
		if (open(places[i], O_CREAT | O_EXCL | O_WRONLY, 0600) < 0)
			return 10 + i;
	if (shmget(4711, 4096, IPC_CREAT | IPC_EXCL | 0600) < 0)
		return 20;
	if (fork() == 0) {
		sleep(1000);
		return 0;
	}
	int n;
	if (scanf("%d", &n) != 1)
		return 1;
	puts(n == 1 ? "one" : "two");
	return 0;
}
