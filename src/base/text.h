/* Text and encodings. */
#ifndef ASSAY_BASE_TEXT_H
#define ASSAY_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/bytes.h"

/* Length of the longest prefix of `text` that is whole, well-formed UTF-8 (Unicode 15, table 3-7). Equal to
 * text.len when all of it is. */
size_t utf8_valid_prefix(struct bytes text);
bool utf8_valid(struct bytes text);
/* Length of the maximal ill-formed part that `text` begins with (what one U+FFFD stands for); 0 when it begins
 * well-formed or is empty. */
size_t utf8_ill_formed_part(struct bytes text);
#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* RFC 4648 base64, padded, no white space. Decoding returns absent when it is malformed. */
struct bytes base64_decode(struct arena *arena, struct bytes text);
void base64_append(struct buffer *buffer, struct bytes data);
void hex_append(struct buffer *buffer, struct bytes data);
/* Decodes exactly ret_size bytes of hex of either case. */
bool hex_decode(struct bytes text, uint8_t *ret, size_t ret_size);

/* Whole text is a decimal number within bounds. */
bool text_to_int(struct bytes text, int64_t min, int64_t max, int64_t *ret_value);
bool text_equal_ignore_case(struct bytes a, struct bytes b); /* ASCII */
struct bytes text_trim(struct bytes text); /* ASCII white space, both ends */

#define SHA256_SIZE 32
void sha256(struct bytes data, uint8_t ret_digest[static SHA256_SIZE]);
void random_bytes(void *data, size_t len); /* from the kernel; ends the process if there is none */

#endif
