/* The hardware address of a network card. */
#include "net_mac.h"

#include <stdio.h>
#include <string.h>

/* FNV-1a; bit 1 of the first byte: locally administered, bit 0 clear: one station. */
static void derive(uint8_t mac[NET_MAC_BYTES], const char *text)
{
	uint64_t hash = 0xcbf29ce484222325;
	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3;
	memcpy(mac, &hash, NET_MAC_BYTES);
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02);
}

void net_mac_choose(uint8_t mac[NET_MAC_BYTES], const char *set, const char *machine, uint32_t slot,
		    const char *name)
{
	unsigned b[NET_MAC_BYTES];
	char text[256];
	if (set && sscanf(set, "%2x:%2x:%2x:%2x:%2x:%2x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) == 6) {
		for (unsigned i = 0; i < NET_MAC_BYTES; i++)
			mac[i] = (uint8_t)b[i];
		return;
	}
	(void)snprintf(text, sizeof(text), "%u/%s/%s", slot, slot ? "" : name, machine ? machine : "");
	derive(mac, text);
}
