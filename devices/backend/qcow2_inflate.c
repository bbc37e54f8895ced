/* qcow2: compressed clusters. */
#include "qcow2.h"

#include <errno.h>
#include <zlib.h>

enum { WINDOW_BITS = -12 }; /* raw deflate, as QEMU writes it */

int qcow2_inflate(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	z_stream stream = {.next_in = (Bytef *)(uintptr_t)in,
			   .avail_in = (uInt)in_bytes,
			   .next_out = out,
			   .avail_out = (uInt)out_bytes};
	if (inflateInit2(&stream, WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	int res = inflate(&stream, Z_FINISH);
	bool complete = (res == Z_STREAM_END || res == Z_BUF_ERROR) && stream.avail_out == 0;
	(void)inflateEnd(&stream);
	return complete ? 0 : -EIO;
}
