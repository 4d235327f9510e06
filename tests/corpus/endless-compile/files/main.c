/* Two to the power of 60 inclusions of itself. */
#if __INCLUDE_LEVEL__ < 60
#include "main.c"
#include "main.c"
#endif
int x;
