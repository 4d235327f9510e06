#define A(x) x x x x x x x x x x
#define B(x) A(A(A(A(x))))
int main(void)
{
	B(not_there_1 + 1; not_there_2 * 2 = 5;)
}
