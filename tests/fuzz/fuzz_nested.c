/*
 * The nested-state blob of a snapshot that anybody may have written. The first byte says how the rest comes
 * to be a blob: as it is, or laid over a good one of VMX or SVM, so that most inputs get past the header.
 * Rules: refused with a message, or shown as JSON that a parser takes.
 */
#include "fuzz.h"

#include "../cpu/nested_blob.h"
#include "base/err.h"
#include "cpu/nested_view.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

static size_t make(uint8_t *blob, const uint8_t *data, size_t size)
{
	size_t base = 0;
	switch (data[0] & 3) {
	case 1:
		blob_vmx(blob, KVM_STATE_NESTED_GUEST_MODE);
		base = BLOB_VMX;
		break;
	case 2:
		blob_svm(blob);
		base = BLOB_SVM;
		break;
	default:
		break;
	}
	data++;
	size--;
	if (!base) {
		size = size < BLOB_VMX ? size : BLOB_VMX;
		memcpy(blob, data, size);
		return size;
	}
	/* Patches: offset (2 bytes), value (8 bytes). */
	for (; size >= 10; data += 10, size -= 10)
		memcpy(blob + load_le16(data) % (base - 8), data + 2, 8);
	return base;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t blob[BLOB_VMX];
	if (!size)
		return 0;
	size_t bytes = make(blob, data, size);
	uint8_t *exact = malloc(bytes ? bytes : 1); /* the sanitizer sees a byte too many */
	struct nested_source source = {.nested = exact, .nested_bytes = bytes};
	struct nested_view view;
	struct err err = ERR_INIT;

	FUZZ_CHECK(exact);
	memcpy(exact, blob, bytes);
	if (nested_view_init(&source, &view, &err) < 0) {
		FUZZ_CHECK(err.text[0]);
	} else {
		char *text = nested_view_text(&view), *json = nested_view_json(&view);
		cJSON *tree = cJSON_Parse(json);
		FUZZ_CHECK(text && text[0]);
		FUZZ_CHECK(tree && cJSON_GetObjectItem(tree, "runs"));
		cJSON_Delete(tree);
		free(text);
		free(json);
	}
	free(exact);
	return 0;
}
