/* Quantities: both readings of one text must agree. */
#include "base/quantity.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes text = { (const char *)data, size };
	int64_t bytes = -1, millis = -1;
	struct err err = { 0 };
	int bytes_rc = quantity_bytes(text, &bytes, &err);
	HOLDS(bytes_rc == 0 ? bytes >= 0 : bytes == -1 && err.code == bytes_rc && err.message[0] != '\0');
	int millis_rc = quantity_millis(text, &millis, NULL);
	HOLDS(millis_rc == 0 ? millis >= 0 : millis == -1);
	/* Rounding up to thousandths and then to the whole is rounding up to the whole. */
	if (millis_rc == 0)
		HOLDS(bytes_rc == 0 && bytes == millis / 1000 + (millis % 1000 != 0));
	return 0;
}
