#include <stdio.h>

static int number_in(const char *path)
{
	int number = 0;
	FILE *file = fopen(path, "r");
	if (!file || fscanf(file, "%d", &number) != 1)
		return -1;
	fclose(file);
	return number;
}

int main(void)
{
	printf("%d %d %d\n", number_in("directory"), number_in("link/input"), number_in("file/input"));
	return 0;
}
