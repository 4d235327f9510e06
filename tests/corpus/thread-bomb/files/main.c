#include <pthread.h>
#include <unistd.h>

static void *wait_long(void *nothing)
{
	sleep(1000);
	return nothing;
}

int main(void)
{
	pthread_t thread;
	while (pthread_create(&thread, NULL, wait_long, NULL) == 0) {
	}
	return 1;
}
