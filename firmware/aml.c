#include "aml.h"

enum {
	AML_ZERO = 0x00,
	AML_ONE = 0x01,
	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_WORD = 0x0b,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_QWORD = 0x0e,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_METHOD = 0x14,
	AML_DUAL_NAME = 0x2e,
	AML_ROOT = 0x5c, /* '\' */
	AML_EXTENDED = 0x5b,
	AML_EXTENDED_DEVICE = 0x82,
	AML_NOTIFY = 0x86,

	RESOURCE_IRQ = 0x22, /* small item 4, two bytes: IRQNoFlags */
	RESOURCE_IO = 0x47,  /* small item 8, seven bytes */
	RESOURCE_IO_DECODE16 = 1,
	RESOURCE_END = 0x79, /* small item 15, one byte: a checksum, or 0 for none */
	RESOURCE_MEMORY32 = 0x86,
	RESOURCE_WINDOW32 = 0x87,
	RESOURCE_WINDOW16 = 0x88,
	RESOURCE_INTERRUPT = 0x89,
	RESOURCE_CONSUMER_EDGE = 0x3, /* active high, exclusive */
	RESOURCE_WINDOW64 = 0x8a,
	RESOURCE_READ_WRITE = 1,

	WINDOW_MEMORY = 0,
	WINDOW_IO = 1,
	WINDOW_BUS = 2,
	WINDOW_FIXED = 0x0c,	/* _MIF and _MAF; bit 0 clear: a producer */
	WINDOW_IO_ENTIRE = 0x3, /* ISA addresses and others */
};

/* One byte is set aside for the PkgLength; closing makes room when it needs more. */
size_t aml_open_length(struct writer *w)
{
	size_t opened = w->used;
	write_u8(w, 0);
	return opened;
}

/*
 * 20.2.4: below 64 the length is one byte. Else the first byte has the number of the bytes that follow in
 * bits 7:6 and the low four bits of the length, the others have the rest. The length counts its own bytes.
 */
void aml_close(struct writer *w, size_t opened)
{
	if (w->failed)
		return;
	size_t body = w->used - opened - 1;
	size_t more = body + 1 < 1U << 6 ? 0 : body + 2 < 1U << 12 ? 1 : body + 3 < 1U << 20 ? 2 : 3;
	write_zeros(w, more);
	if (w->failed)
		return;
	uint8_t *at = w->data + opened;
	size_t length = body + 1 + more;
	memmove(at + 1 + more, at + 1, body);
	if (!more) {
		at[0] = (uint8_t)length;
		return;
	}
	at[0] = (uint8_t)(more << 6 | (length & 0xf));
	for (size_t i = 0; i < more; i++)
		at[1 + i] = (uint8_t)(length >> (4 + 8 * i));
}

size_t aml_open_scope(struct writer *w, const char *name)
{
	write_u8(w, AML_SCOPE);
	size_t opened = aml_open_length(w);
	write_u8(w, AML_ROOT);
	write_bytes(w, name, 4);
	return opened;
}

size_t aml_open_device(struct writer *w, const char *name)
{
	write_u8(w, AML_EXTENDED);
	write_u8(w, AML_EXTENDED_DEVICE);
	size_t opened = aml_open_length(w);
	write_bytes(w, name, 4);
	return opened;
}

size_t aml_open_package(struct writer *w, uint8_t count)
{
	write_u8(w, AML_PACKAGE);
	size_t opened = aml_open_length(w);
	write_u8(w, count);
	return opened;
}

size_t aml_open_method(struct writer *w, const char *name, uint8_t args)
{
	write_u8(w, AML_METHOD);
	size_t opened = aml_open_length(w);
	write_bytes(w, name, 4);
	write_u8(w, args); /* and not serialized */
	return opened;
}

void aml_notify(struct writer *w, const char *scope, const char *device, uint8_t value)
{
	write_u8(w, AML_NOTIFY);
	write_u8(w, AML_ROOT);
	write_u8(w, AML_DUAL_NAME);
	write_bytes(w, scope, 4);
	write_bytes(w, device, 4);
	aml_integer(w, value);
}

void aml_name(struct writer *w, const char *name)
{
	write_u8(w, AML_NAME);
	write_bytes(w, name, 4);
}

void aml_integer(struct writer *w, uint64_t value)
{
	if (value <= 1) {
		write_u8(w, value ? AML_ONE : AML_ZERO);
	} else if (value <= UINT8_MAX) {
		write_u8(w, AML_BYTE);
		write_u8(w, (uint8_t)value);
	} else if (value <= UINT16_MAX) {
		write_u8(w, AML_WORD);
		write_le16(w, (uint16_t)value);
	} else if (value <= UINT32_MAX) {
		write_u8(w, AML_DWORD);
		write_le32(w, (uint32_t)value);
	} else {
		write_u8(w, AML_QWORD);
		write_le64(w, value);
	}
}

void aml_string(struct writer *w, const char *text)
{
	write_u8(w, AML_STRING);
	write_bytes(w, text, strlen(text) + 1);
}

void aml_buffer(struct writer *w, const void *data, size_t len)
{
	write_u8(w, AML_BUFFER);
	size_t opened = aml_open_length(w);
	aml_integer(w, len);
	write_bytes(w, data, len);
	aml_close(w, opened);
}

static uint32_t hex_digit(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* 19.6.38: three letters of five bits, four hexadecimal digits; the first letter first in memory. */
void aml_eisa_id(struct writer *w, const char *id)
{
	uint32_t bits = 0;
	for (int i = 0; i < 3; i++)
		bits = bits << 5 | (uint32_t)(id[i] - '@');
	for (int i = 3; i < 7; i++)
		bits = bits << 4 | hex_digit(id[i]);
	write_u8(w, AML_DWORD);
	write_le32(w, __builtin_bswap32(bits));
}

void aml_resource_io(struct writer *resources, uint16_t port, uint8_t count)
{
	write_u8(resources, RESOURCE_IO);
	write_u8(resources, RESOURCE_IO_DECODE16);
	write_le16(resources, port); /* the lowest base ... */
	write_le16(resources, port); /* ... and the highest: it cannot move */
	write_u8(resources, 1);	     /* alignment */
	write_u8(resources, count);
}

void aml_resource_irq(struct writer *resources, uint8_t irq)
{
	write_u8(resources, RESOURCE_IRQ);
	write_le16(resources, (uint16_t)(1U << irq));
}

/* 6.4.3.6 */
void aml_resource_interrupt(struct writer *resources, uint32_t gsi)
{
	write_u8(resources, RESOURCE_INTERRUPT);
	write_le16(resources, 6);
	write_u8(resources, RESOURCE_CONSUMER_EDGE);
	write_u8(resources, 1);
	write_le32(resources, gsi);
}

void aml_resource_memory32(struct writer *resources, uint32_t gpa, uint32_t size)
{
	write_u8(resources, RESOURCE_MEMORY32);
	write_le16(resources, 9);
	write_u8(resources, RESOURCE_READ_WRITE);
	write_le32(resources, gpa);
	write_le32(resources, size);
}

/* 6.4.3.5: granularity, lowest and highest address, translation, length, each of `bytes` bytes. */
static void aml_window(struct writer *resources, uint8_t tag, uint16_t bytes, uint8_t type,
		       uint8_t type_flags, uint64_t first, uint64_t last)
{
	const uint64_t fields[] = {0, first, last, 0, last - first + 1};
	const uint16_t count = sizeof(fields) / sizeof(fields[0]);
	write_u8(resources, tag);
	write_le16(resources, (uint16_t)(3 + count * bytes));
	write_u8(resources, type);
	write_u8(resources, WINDOW_FIXED);
	write_u8(resources, type_flags);
	for (size_t i = 0; i < count; i++)
		write_bytes(resources, &fields[i], bytes);
}

void aml_window_bus(struct writer *resources, uint16_t first, uint16_t last)
{
	aml_window(resources, RESOURCE_WINDOW16, 2, WINDOW_BUS, 0, first, last);
}

void aml_window_io(struct writer *resources, uint16_t first, uint16_t last)
{
	aml_window(resources, RESOURCE_WINDOW16, 2, WINDOW_IO, WINDOW_IO_ENTIRE, first, last);
}

void aml_window_memory32(struct writer *resources, uint32_t first, uint32_t last)
{
	aml_window(resources, RESOURCE_WINDOW32, 4, WINDOW_MEMORY, RESOURCE_READ_WRITE, first, last);
}

void aml_window_memory64(struct writer *resources, uint64_t first, uint64_t last)
{
	aml_window(resources, RESOURCE_WINDOW64, 8, WINDOW_MEMORY, RESOURCE_READ_WRITE, first, last);
}

void aml_resources(struct writer *w, struct writer *resources)
{
	write_u8(resources, RESOURCE_END);
	write_u8(resources, 0);
	if (resources->failed)
		w->failed = true;
	aml_buffer(w, resources->data, resources->used);
}
