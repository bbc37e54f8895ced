/*
 * manifest.json of a snapshot that anybody may have written. The first byte says whether the rest is all of
 * it or is given the last line with the right checksum, so that what is inside is read, too. Rules: refused
 * with one line that says why, or printed and read again as the same.
 */
#include "fuzz.h"

#include "../../src/snapshot/manifest.h"
#include "base/crc32c.h"

#include <string.h>

static char *make(const uint8_t *data, size_t size, size_t *ret_len)
{
	enum { SEAL_BYTES = 64 };
	char *text = malloc(size + SEAL_BYTES);
	FUZZ_CHECK(text);
	memcpy(text, data + 1, size - 1);
	*ret_len = size - 1;
	if (data[0] & 1)
		*ret_len +=
			(size_t)snprintf(text + *ret_len, SEAL_BYTES, "\t\"manifest_crc32c\":\t\"%08x\"\n}\n",
					 crc32c(0, text, *ret_len));
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest manifest, again;
	struct err err = ERR_INIT;
	size_t len;
	if (size == 0)
		return 0;
	char *text = make(data, size, &len);
	char *exact = malloc(len ? len : 1); /* the sanitizer sees a byte too many */
	FUZZ_CHECK(exact);
	memcpy(exact, text, len);
	if (manifest_parse("m", exact, len, &manifest, &err) < 0) {
		FUZZ_CHECK(err.text[0] && !strchr(err.text, '\n'));
	} else {
		char *printed = manifest_print(&manifest);
		FUZZ_CHECK(printed);
		FUZZ_CHECK(manifest_parse("m", printed, strlen(printed), &again, &err) == 0);
		FUZZ_CHECK(strcmp(again.id, manifest.id) == 0 && again.disk_count == manifest.disk_count);
		FUZZ_CHECK(again.files[FILE_MEMORY].crc32c == manifest.files[FILE_MEMORY].crc32c);
		manifest_finish(&again);
		manifest_finish(&manifest);
		free(printed);
	}
	free(exact);
	free(text);
	return 0;
}
