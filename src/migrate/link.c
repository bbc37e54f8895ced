/* Messages: see link.h. */
#include "link.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/crc32c.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* A message of which nothing has left has no number: REFUSED with the reason may yet come in its place. */
int link_send_summed(struct link *link, unsigned type, void *message, size_t length, uint32_t crc,
		     size_t *ret_sent, struct err *err)
{
	size_t sent;
	const struct wire_header header = {
		.version = link->version ? link->version : WIRE_VERSION,
		.type = (uint16_t)type,
		.length = (uint32_t)length,
		.number = link->sent,
		.payload_crc = crc,
	};
	wire_encode(message, &header);
	int r = channel_send(&link->channel, message, WIRE_HEADER_BYTES + length, &sent, err);
	if (sent)
		link->sent++;
	if (ret_sent)
		*ret_sent = sent;
	return r;
}

int link_send(struct link *link, unsigned type, void *message, size_t length, size_t *ret_sent,
	      struct err *err)
{
	uint32_t crc = crc32c(0, (uint8_t *)message + WIRE_HEADER_BYTES, length);
	return link_send_summed(link, type, message, length, crc, ret_sent, err);
}

int link_send_small(struct link *link, unsigned type, const void *payload, size_t length, size_t *ret_sent,
		    struct err *err)
{
	uint8_t message[WIRE_HEADER_BYTES + LINK_SMALL_MAX];
	assert(length <= LINK_SMALL_MAX);
	if (length)
		memcpy(message + WIRE_HEADER_BYTES, payload, length);
	return link_send(link, type, message, length, ret_sent, err);
}

int link_send_number(struct link *link, unsigned type, uint32_t number, struct err *err)
{
	uint8_t bytes[4];
	store_le32(bytes, number);
	return link_send_small(link, type, bytes, sizeof(bytes), NULL, err);
}

static bool any_set(const uint64_t *bitmap, size_t first, size_t words)
{
	for (size_t i = 0; i < words; i++)
		if (bitmap[first + i])
			return true;
	return false;
}

int link_send_missing(struct link *link, const uint64_t *bitmap, size_t words, struct err *err)
{
	_cleanup_free_ uint8_t *message =
		malloc(WIRE_HEADER_BYTES + WIRE_MISSING_HEADER_BYTES + 8 * WIRE_MISSING_WORDS_MAX);
	int r = message ? 0 : err_sys(err, -ENOMEM, "MISSING");
	for (size_t first = 0, count; r == 0 && first < words; first += count) {
		count = words - first < WIRE_MISSING_WORDS_MAX ? words - first : WIRE_MISSING_WORDS_MAX;
		if (first && !any_set(bitmap, first, count))
			continue;
		size_t len = wire_encode_missing(message + WIRE_HEADER_BYTES, bitmap, first, count);
		r = link_send(link, WIRE_MISSING, message, len, NULL, err);
	}
	return r;
}

/* A peer that claims a large message has us allocate as its bytes come, not before. */
enum { STEP_BYTES = 4 << 20 };

static int receive_payload(struct link *link, size_t length, struct err *err)
{
	for (size_t got = 0; got < length;) {
		size_t step = length - got < STEP_BYTES ? length - got : STEP_BYTES;
		if (got + step > link->capacity) {
			uint8_t *larger = realloc(link->payload, got + step);
			if (!larger)
				return err_sys(err, -ENOMEM, "a message of %zu bytes", length);
			link->payload = larger;
			link->capacity = got + step;
		}
		int r = channel_receive(&link->channel, link->payload + got, step, err);
		if (r < 0)
			return r;
		got += step;
	}
	return 0;
}

/* What somebody else wrote goes to our operator's terminal: one line, printable. */
static int refused(const struct link *link, size_t length, struct err *err)
{
	char text[WIRE_REASON_MAX + 1];
	for (size_t i = 0; i < length; i++)
		text[i] =
			(char)(link->payload[i] < 0x20 || link->payload[i] == 0x7f ? '?' : link->payload[i]);
	text[length] = '\0';
	return err_set(err, -EREMOTEIO, "the other side refuses: %s", text);
}

int link_receive(struct link *link, struct wire_header *ret, struct err *err)
{
	uint8_t bytes[WIRE_HEADER_BYTES];
	int r = channel_receive(&link->channel, bytes, sizeof(bytes), err);
	if (r == 0)
		r = wire_decode(bytes, link->version, ret, err);
	if (r < 0)
		return r;
	if (ret->number != link->received)
		return err_set(err, -EPROTO, "message %" PRIu32 " (%s) where number %" PRIu32 " comes next",
			       ret->number, wire_name(ret->type), link->received);
	link->received++;
	r = receive_payload(link, ret->length, err);
	if (r < 0)
		return r;
	if (crc32c(0, link->payload, ret->length) != ret->payload_crc)
		return err_set(err, -EPROTO, "%s is damaged (its checksum is wrong)", wire_name(ret->type));
	return ret->type == WIRE_REFUSED ? refused(link, ret->length, err) : 0;
}

/* So many requests may lie before it; and who closes its receiving side first (dest_postcopy.c) needs a
 * moment. */
enum { EXPLAIN_MESSAGES = 64, EXPLAIN_MS = 500 };

void link_explain(struct link *link, struct err *err)
{
	struct wire_header header;
	if (link->channel.fd < 0 || (err->code != -EPIPE && err->code != -ECONNRESET))
		return;
	for (int i = 0; i < EXPLAIN_MESSAGES; i++) {
		struct err why = ERR_INIT;
		if (channel_readable(&link->channel, EXPLAIN_MS, &why) <= 0)
			return;
		int r = link_receive(link, &header, &why);
		if (r == -EREMOTEIO)
			*err = why;
		if (r < 0)
			return;
	}
}

int link_expect(struct link *link, unsigned type, struct wire_header *ret, struct err *err)
{
	int r = link_receive(link, ret, err);
	if (r == 0 && ret->type != type)
		return err_set(err, -EPROTO, "%s where %s comes next", wire_name(ret->type), wire_name(type));
	return r;
}

void link_close(struct link *link)
{
	channel_close(&link->channel);
	free(link->payload);
	link->payload = NULL;
	link->capacity = 0;
}
