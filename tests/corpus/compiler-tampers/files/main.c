#include <stdio.h>

int main(void)
{
	int number = 0;
	FILE *file = fopen("taken/input", "r");
	if (!file || fscanf(file, "%d", &number) != 1)
		return 1;
	printf("%d\n", number);
	return 0;
}
