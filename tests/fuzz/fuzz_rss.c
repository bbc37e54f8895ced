/*
 * Receive-side scaling: a configuration, then frames, each behind a byte of its length.
 *
 * Rules: nothing is read beyond the end (each has memory of its own, ASan); a configuration that is taken can
 * be saved and restored, and every frame goes to a queue that there is.
 */
#include "fuzz.h"

#include "../../devices/virtio/net_rss.h"

#include <string.h>

enum { PAIRS_MAX = 16 };

static uint8_t *own_copy(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len + !len);
	FUZZ_CHECK(copy);
	memcpy(copy, data, len);
	return copy;
}

/* The configuration's length is in the first two bytes, the number of pairs in the third. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	size_t len = (data[0] | (size_t)data[1] << 8) % (NET_RSS_CONFIG_BYTES + 2);
	uint16_t pairs = data[2] % PAIRS_MAX + 1, used = 0;
	data += 3;
	size -= 3;
	if (len > size)
		len = size;
	struct net_rss rss = {.on = false};
	uint8_t *config = own_copy(data, len);
	bool good = net_rss_parse(config, len, pairs, &rss, &used);
	free(config);
	FUZZ_CHECK(net_rss_check(&rss, pairs) && rss.on == good);
	FUZZ_CHECK(!good || (used >= 1 && used <= pairs));
	data += len;
	size -= len;
	while (size) {
		size_t bytes = data[0] < size ? data[0] : size - 1;
		uint8_t *frame = own_copy(data + 1, bytes);
		FUZZ_CHECK(net_rss_queue(&rss, frame, bytes) < pairs);
		free(frame);
		data += 1 + bytes;
		size -= 1 + bytes;
	}
	return 0;
}
