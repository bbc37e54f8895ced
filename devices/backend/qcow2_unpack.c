/* qcow2: compressed clusters. */
#include "base/bytes.h"
#include "qcow2.h"

#include <errno.h>
#include <zlib.h>
#include <zstd.h>

enum { WINDOW_BITS = -12 }; /* raw deflate, as QEMU writes it */

static int unpack_zlib(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
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

/*
 * One frame, or several in a row; what follows them is padding. Frame by frame straight into the cluster,
 * because a decoder of streams would allocate whatever window the image asks for. Other magic numbers are
 * those of formats older than zstd itself, and not for images.
 */
static int unpack_zstd(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t out_bytes)
{
	while (out_bytes) {
		size_t frame = ZSTD_findFrameCompressedSize(in, in_bytes);
		if (ZSTD_isError(frame) || frame < 4 || load_le32(in) != ZSTD_MAGICNUMBER)
			return -EIO;
		size_t got = ZSTD_decompress(out, out_bytes, in, frame);
		if (ZSTD_isError(got))
			return -EIO;
		in += frame;
		in_bytes -= frame;
		out += got;
		out_bytes -= got;
	}
	return 0;
}

int qcow2_unpack(enum qcow2_compression by, const uint8_t *in, size_t in_bytes, uint8_t *out,
		 size_t out_bytes)
{
	return by == QCOW2_BY_ZSTD ? unpack_zstd(in, in_bytes, out, out_bytes)
				   : unpack_zlib(in, in_bytes, out, out_bytes);
}
